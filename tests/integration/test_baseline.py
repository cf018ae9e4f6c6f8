"""Recording and comparing: what a baseline makes of a run, and what a run makes of a baseline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

SOUND = "def test_model(model_pair):\n    model_pair(Model(), x)\n"
SLOWER = "Model.compiled_seconds = 0.75e-3\n" + SOUND
"""The compiled side takes half as long again: a third of its speed is lost."""
BREAKING = """
class Broken(Model):
    def forward(self, x):
        y = super().forward(x)
        print("looking")
        return y + 1

def test_model(model_pair):
    model_pair(Broken(), x)
"""


def test_unchanged_code_passes_against_its_baseline(project: Project) -> None:
    project.store_baseline()
    project.write_tests(SOUND)
    result = project.run("--nnopt-baseline", "--nnopt-effect=30%", "--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    assert project.checks() == {
        "compile": "passed",
        "numerics": "passed",
        "latency": "passed",
        "memory": "improved",
        "compile_time": "passed",
    }


def test_a_compiled_side_slower_by_a_third_fails_with_change_interval_and_limit(project: Project) -> None:
    project.store_baseline()
    project.write_tests(SLOWER)
    result = project.run("--nnopt-baseline", "--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_model.py::test_model: latency +* against the baseline [[]+*, +*[]] is beyond the limit of 10.0 %",
            "*what to do: * pytest --nnopt-update --nnopt-reason TEXT",
        ]
    )
    assert project.checks()["latency"] == "failed"


def test_an_undecided_case_asks_fresh_processes(project: Project) -> None:
    project.store_baseline()
    project.write_tests(SOUND)
    options = ("--nnopt-baseline", "--nnopt-effect=1%", "--nnopt-budget=5s", "--nnopt-json=results.json")
    result = project.run(*options, "--", "test_model.py")
    result.assert_outcomes(passed=1)
    (case,) = project.results()["cases"]
    assert len(case["timing"]) > 1


def test_without_budget_an_undecided_case_says_so_and_does_not_fail(project: Project) -> None:
    project.store_baseline()
    project.write_tests(SOUND)
    result = project.run("--nnopt-baseline", "--nnopt-effect=1%", "--nnopt-budget=1ns", "--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "nnopt: test_model.py::test_model: 8 processes find slowdowns from *, the limit is 1.00 %; *",
            "could not tell: test_model.py::test_model: latency *",
            "*not clearly on either side*",
        ]
    )
    assert project.checks()["latency"] == "inconclusive"
    (case,) = project.results()["cases"]
    (reason,) = (check["reason"] for check in case["checks"] if check["name"] == "latency")
    assert reason.endswith(
        "; the case's budget of 1 ns (--nnopt-budget) ended after 2 processes, and 4 were wanted next"
    )


def test_a_crashing_measuring_process_fails_the_case_with_its_output(project: Project) -> None:
    project.store_baseline()
    project.write_tests(
        """
import os, sys
def test_model(model_pair):
    if any(argument.startswith("--nnopt-worker=") for argument in sys.argv):
        os.write(2, b"out of luck\\n")
        os._exit(7)
    model_pair(Model(), x)
"""
    )
    result = project.run("--nnopt-baseline", "--nnopt-effect=1%", "--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*a measuring process ended with status 7*", "*out of luck*"])
    assert project.checks()["latency"] == "failed"


def test_a_graph_break_that_the_baseline_does_not_have_fails_with_its_line(project: Project) -> None:
    project.store_baseline()
    project.write_tests(BREAKING)
    result = project.run("--nnopt-baseline", "--nnopt-only=compile,numerics")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 graph break, the baseline has 0*", "*test_model.py:*", '*print("looking")*'])


def test_no_baseline_fails_with_the_remedy(project: Project) -> None:
    project.write_tests(SOUND)
    result = project.run("--nnopt-baseline", "--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no baseline for 'test_model.py::test_model' on 'cpu-*'; * pytest --nnopt-update"])
    assert project.checks()["latency"] == "no_baseline"
    assert not project.baseline_path().exists()


def test_a_missing_baseline_can_be_recorded_instead(project: Project) -> None:
    project.write_tests(SOUND)
    result = project.run("--nnopt-baseline", "--nnopt-missing=record", "--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["recorded baselines/*/test_model.py/test_model.json: new"])
    assert project.checks()["latency"] == "skipped"
    assert project.baseline_path().is_file()


def test_an_update_records_and_says_what_changed(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 2\n")
    project.store_baseline()
    project.write_tests(SLOWER)
    refused = project.run("--nnopt-update")
    assert refused.ret == pytest.ExitCode.TESTS_FAILED
    refused.stdout.fnmatch_lines(["not recorded: *latency +*say why with --nnopt-reason TEXT"])
    result = project.run("--nnopt-update", "--nnopt-reason=exact softmax")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["recorded baselines/*: latency +*"])
    recordings = json.loads(project.baseline_path().read_text())["recordings"]
    assert [len(recording["evidence"]["timing"]) for recording in recordings] == [2]
    assert recordings[0]["reason"] == "exact softmax"


def test_an_update_of_unchanged_code_adds_evidence(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.store_baseline()
    project.write_tests(SOUND)
    result = project.run("--nnopt-update")
    result.stdout.fnmatch_lines(["recorded baselines/*: more evidence for the level there was"])
    assert len(json.loads(project.baseline_path().read_text())["recordings"]) == 2


@pytest.mark.parametrize(
    "failure",
    [
        "    pair = model_pair(Model(), x, candidate=lambda x: x)\n",
        "    pair = model_pair(Model(), x)\n    pair.compiled, pair.verdict\n    assert False\n",
    ],
)
def test_a_failing_test_records_nothing(project: Project, failure: str) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.write_tests("def test_model(model_pair):\n" + failure)
    project.run("--nnopt-update").assert_outcomes(failed=1)
    assert not project.baseline_path().exists()


def test_a_failing_teardown_records_nothing(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.write_tests(
        "@pytest.fixture\ndef broken():\n    yield\n    assert False\n\n"
        "def test_model(broken, model_pair):\n    model_pair(Model(), x)\n"
    )
    project.run("--nnopt-update").assert_outcomes(passed=1, errors=1)
    assert not project.baseline_path().exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "*test_model.json cannot be read: *"),
        (lambda text: text.replace('"log_ratio": -0.6', '"log_ratio": NaN, "x": -0.6', 1), "*it holds NaN*"),
        (lambda text: text.replace('"schema": 1', '"schema": 2'), "*follows schema 2, *upgrade pytest-nnopt*"),
        (lambda text: text.replace('"variance"', '"varianz"', 1), "*is not a valid baseline: *"),
    ],
    ids=["truncated", "nan", "newer", "foreign"],
)
def test_an_unreadable_baseline_ends_the_run_before_anything_is_measured(
    project: Project, damage: object, message: str
) -> None:
    project.store_baseline()
    path = project.baseline_path()
    path.write_text(damage(path.read_text()))  # type: ignore[operator]  # a function of the parameter list
    project.write_tests(SOUND)
    result = project.run("--nnopt-baseline")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_baseline_of_other_conditions_names_what_differs(project: Project) -> None:
    project.store_baseline()
    path = project.baseline_path().parent.parent / "environment.json"
    values = json.loads(path.read_text())
    (fields,) = values["fingerprints"].values()
    fields["threads"] = 99
    digest = "00000000"
    path.write_text(json.dumps({"schema": 1, "fingerprints": {digest: fields}}))
    case = project.baseline_path()
    baseline = json.loads(case.read_text())
    baseline["recordings"][0]["environment"] = digest
    case.write_text(json.dumps(baseline))
    project.write_tests(SOUND)
    result = project.run("--nnopt-baseline")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*recorded under other conditions (threads: 99 → *"])
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    result = project.run("--nnopt-update", "--nnopt-only=compile")
    result.stdout.fnmatch_lines(
        ["recorded baselines/*: new, what is there was recorded under other conditions (threads: 99 → *)"]
    )


def test_plain_pytest_reads_no_baseline(project: Project) -> None:
    project.store_baseline()
    project.baseline_path().write_text("not json")
    project.write_tests(SOUND)
    project.run().assert_outcomes(passed=1)


def test_a_changed_reference_is_named_and_accepted_with_an_update(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\nonly = ['numerics']\n")
    project.write_tests(SOUND)
    project.run("--nnopt-update").assert_outcomes(passed=1)
    project.run("--nnopt-baseline").assert_outcomes(passed=1)
    project.write_tests("Model.forward = lambda self, x: torch.relu(self.linear(x) + 1e-4)\n" + SOUND)
    result = project.run("--nnopt-baseline")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the reference itself changed since the baseline: output has * where it had *",
            "*if that is intended, accept it with pytest --nnopt-update*",
        ]
    )
    result = project.run("--nnopt-update")
    result.stdout.fnmatch_lines(["recorded baselines/*: the reference: output has * where it had *"])
    project.run("--nnopt-baseline").assert_outcomes(passed=1)


def test_drawn_inputs_are_the_same_in_every_run_and_others_cannot_be_told(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\nonly = ['numerics']\n")
    drawn = "def test_model(model_pair):\n    model_pair(Model(), torch.rand(4, 8))\n"
    project.write_tests(drawn.replace("Model()", "nn.Linear(8, 8)"))
    project.run("--nnopt-update").assert_outcomes(passed=1)
    project.run("--nnopt-baseline").assert_outcomes(passed=1)
    project.write_tests(drawn.replace("Model()", "nn.Linear(8, 8)").replace("    ", "    torch.seed()\n    ", 1))
    result = project.run("--nnopt-baseline", "--nnopt-json=results.json")
    result.stdout.fnmatch_lines(["could not tell: test_model.py::test_model: could not tell whether the reference*"])
    assert project.checks() == {"numerics": "inconclusive"}


def test_a_grown_error_is_named_though_it_is_within_its_limit(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\nonly = ['numerics']\n")
    body = """
def test_model(model_pair):
    model = Model()
    weights = model.linear.weight.detach().double()
    def candidate(x):
        return torch.relu(x.double() @ weights.T + model.linear.bias.double()).float() * (1 + ERROR)
    model_pair(model, torch.rand(64, 8), candidate=candidate)
"""
    project.write_tests("ERROR = 0.0\n" + body)
    project.run("--nnopt-update").assert_outcomes(passed=1)
    project.write_tests("ERROR = 5e-7\n" + body)
    result = project.run("--nnopt-baseline")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*the candidate's error grew since the baseline, though within its limit: output: rms*"]
    )
    project.write_tests("ERROR = 5e-7\npytestmark = pytest.mark.nnopt_limits(error_growth=100.0)\n" + body)
    project.run("--nnopt-baseline").assert_outcomes(passed=1)


def test_only_what_is_missing_is_recorded_where_that_is_asked(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.store_baseline()
    before = project.baseline_path().read_text()
    project.write_tests(SOUND + "\ndef test_new(model_pair):\n    model_pair(Model(), x)\n")
    result = project.run("--nnopt-update-new-only")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["recorded baselines/*/test_model.py/test_new.json: new"])
    assert project.baseline_path().read_text() == before


def test_unused_baselines_are_mentioned_unless_tests_were_selected(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nonly = ['compile']\n")
    for case_id in ("test_model.py::test_model", "test_model.py::test_gone", "test_gone.py::test"):
        project.store_baseline(case_id)
    project.write_tests(SOUND + "\ndef test_other():\n    pass\n")
    everything = project.run("--nnopt-baseline")
    everything.stdout.fnmatch_lines(
        ["2 baselines are unused, no test asks for: test_gone.py::test, test_model.py::test_gone; *nnopt prune"]
    )
    file = project.run("--nnopt-baseline", "test_model.py")
    file.stdout.fnmatch_lines(["1 baseline is unused, no test asks for: test_model.py::test_gone; *"])
    for selection in (["-k", "test_model"], ["test_model.py::test_model"], ["--deselect=test_model.py::test_other"]):
        project.run("--nnopt-baseline", *selection).stdout.no_fnmatch_line("*unused, no test*")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nnopt-reason=x"], "*give --nnopt-update with it*"),
        (["--nnopt-update", "--nnopt-reason= "], "*between 1 and 1000 characters*"),
        (["--nnopt-update-new-only", "--nnopt-baseline"], "*give one of them*"),
    ],
)
def test_a_reason_without_an_update_is_a_usage_error(project: Project, arguments: list[str], message: str) -> None:
    project.write_tests("def test_plain():\n    pass\n", prelude="")
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
