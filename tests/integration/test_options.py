"""Options, markers and configuration: what is refused, by whom, and with which words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

SOUND = "def test_model(model_pair):\n    model_pair(Model(), x)\n"


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            "nnopt_speedup(minimum=2)",
            "*test_model.py::test_model: nnopt_speedup: unknown argument 'minimum'; known: min*",
        ),
        ("nnopt_speedup(min=0)", "*test_model.py::test_model: nnopt_speedup: min=0 must be greater than 0*"),
        ("nnopt_speedup(2)", "*test_model.py::test_model: nnopt_speedup(2) takes keyword arguments only*"),
        ("nnopt_compile(mode='fast')", "*nnopt_compile: mode='fast' must be 'default', *'max-autotune*"),
        ("nnopt_compile(mode='default', options={})", "*mode and options cannot both be given*"),
        ("nnopt_limits(latency='fast')", "*nnopt_limits: latency: 'fast' is not a percentage; write it like '5%'*"),
        ("nnopt_tolerance(rtol=-1)", "*nnopt_tolerance: rtol=-1 must be greater than or equal to 0*"),
    ],
)
def test_an_impossible_marker_is_a_usage_error_that_names_test_and_argument(
    project: Project, marker: str, message: str
) -> None:
    project.write_tests(f"@pytest.mark.{marker}\n{SOUND}")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_every_impossible_marker_is_named_at_once(project: Project) -> None:
    project.write_tests(
        "@pytest.mark.nnopt_speedup(a=1)\ndef test_one(model_pair): pass\n"
        "@pytest.mark.nnopt_limits(b=1)\ndef test_two(model_pair): pass\n"
    )
    result = project.run()
    result.stderr.fnmatch_lines(["*test_one: nnopt_speedup*'a'*", "*test_two: nnopt_limits*'b'*"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[tool.nnopt]\nspeed = 1\n", "*[[]tool.nnopt[]]: unknown argument 'speed'; known: baseline_dir*"),
        ("[tool.nnopt.limits]\nspeed = 1\n", "*[[]tool.nnopt.limits[]]: unknown argument 'speed'; known: latency*"),
        ("[tool.nnopt]\nmissing = 'ignore'\n", "*missing='ignore' must be 'fail' or 'record'*"),
    ],
)
def test_an_impossible_configuration_is_a_usage_error(project: Project, table: str, message: str) -> None:
    project.pytester.makepyprojecttoml(table)
    project.write_tests(SOUND)
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nnopt-only=speed"], "*only='speed' must be 'numerics', 'speedup'*"),
        (["--nnopt-device=gpu"], "*'gpu' is no device; write 'cpu', 'cuda' or 'cuda:N'*"),
        (["--nnopt-effect=5"], "*effect: 5.0 is above 1; write a percentage with its sign*"),
        (["--nnopt-budget=soon"], "*budget: 'soon' is not a duration*"),
        (["--nnopt-baseline", "--nnopt-update"], "*give one of them*"),
    ],
)
def test_an_impossible_option_is_a_usage_error_even_without_cases(
    project: Project, arguments: list[str], message: str
) -> None:
    project.write_tests("def test_plain():\n    pass\n", prelude="")
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_skip_deselects_the_cases_alone(project: Project) -> None:
    project.write_tests(SOUND + "def test_plain():\n    pass\n")
    project.run("--nnopt-skip").assert_outcomes(passed=1, deselected=1)


def test_only_runs_the_named_checks(project: Project) -> None:
    project.write_tests("@pytest.mark.nnopt_speedup(min=100)\n" + SOUND)
    project.run("--nnopt-only=numerics", "--nnopt-json=results.json").assert_outcomes(passed=1)
    assert project.checks() == {"numerics": "passed"}


def test_the_closest_marker_wins_for_each_argument(project: Project) -> None:
    project.write_tests(
        """
@pytest.mark.nnopt_tolerance(rtol=1e-9, atol=1e-9)
class TestModel:
    @pytest.mark.nnopt_tolerance(rtol=0.5)
    def test_model(self, model_pair):
        model = Model()
        model_pair(model, x, candidate=lambda x: model(x) * 1.2)
"""
    )
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    (case,) = project.results()["cases"]
    assert "declared rtol=0.5, atol=1e-09" in case["checks"][1]["reason"]


def test_markers_work_on_parameters(project: Project) -> None:
    project.write_tests(
        """
@pytest.mark.parametrize("factor", [1.0, pytest.param(1.2, marks=pytest.mark.nnopt_tolerance(rtol=0.5))])
def test_model(model_pair, factor):
    model = Model()
    model_pair(model, x, candidate=lambda x: model(x) * factor)
"""
    )
    project.run().assert_outcomes(passed=2)


def test_the_project_sets_defaults_that_markers_override(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt.tolerance]\nrtol = 0.5\n")
    project.write_tests(
        """
def off(model):
    return lambda x: model(x) * 1.2

def test_default(model_pair):
    model = Model()
    model_pair(model, x, candidate=off(model))

@pytest.mark.nnopt_tolerance(rtol=1e-6)
def test_marked(model_pair):
    model = Model()
    model_pair(model, x, candidate=off(model))
"""
    )
    project.run().assert_outcomes(passed=1, failed=1)


def test_the_plugin_is_silent_in_a_run_without_cases(project: Project) -> None:
    project.write_tests("def test_plain():\n    pass\n", prelude="")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*nnopt =*")


def test_the_markers_are_registered(project: Project) -> None:
    result = project.run("--markers")
    result.stdout.fnmatch_lines(
        [f"@pytest.mark.nnopt_{name}(*" for name in ("compile", "tolerance", "speedup", "limits")]
    )


OBSERVING = """
class Told:
    def on_compile(self, case_id, compilation):
        print("told of", case_id, compilation.graphs)

    def on_measure(self, case_id, evidence):
        raise OSError("no network")

    def on_verdict(self, result):
        print("told of", result.id, result.outcome.value)

def pytest_nnopt_observers(config):
    return [Told()]
"""


def test_observers_of_a_conftest_are_told_and_change_nothing(project: Project) -> None:
    project.pytester.makeconftest(OBSERVING)
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), x)\n")
    result = project.run("-s", "-n0")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*told of test_model.py::test_model 1",
            "told of test_model.py::test_model passed",
            "the observer's Told.on_measure raised OSError: no network",
        ]
    )


def test_a_fixture_that_is_asked_for_while_the_test_runs_is_refused_by_name(project: Project) -> None:
    project.write_tests("def test_model(request):\n    request.getfixturevalue('model_pair')(Model(), x)\n")
    result = project.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*test_model.py::test_model gets model_pair while it runs; name it among*"])


def test_a_test_outside_of_the_project_is_refused_since_its_id_names_no_file(project: Project) -> None:
    project.write_tests(SOUND)
    elsewhere = project.pytester.mkdir("elsewhere")
    for place in (project.pytester.path / "test_model.py", project.pytester.path):
        result = project.run(f"--rootdir={elsewhere}", str(place))
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*test_model.py lies outside of *elsewhere, so that its cases have no id*"])
