from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.annotations import Place
from pytest_nnopt.results import RunResults
from pytest_nnopt.session.collector import EXPORTS, Collector
from tests.builders import CASE_ID, make_check, make_environment, make_evidence, make_message, make_result

HERE = make_environment()
OTHER_ID = "tests/test_model.py::test_other"


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    return Collector(BaselineStore(tmp_path / "baselines"), tmp_path)


def text_of(
    case_id: str = CASE_ID,
    *,
    outcome: Outcome = Outcome.PASSED,
    recording: str | None = None,
    changes: tuple[str, ...] = (),
) -> str:
    result = make_result(make_check(CheckName.NUMERICS, outcome), case_id=case_id, evidence=make_evidence(count=2))
    return make_message(result, recording=recording, changes=changes).model_dump_json()


def stored(tmp_path: Path, case_id: str = CASE_ID) -> bool:
    return BaselineStore(tmp_path / "baselines").read(HERE.name, case_id) is not None


def test_a_run_without_cases_is_empty(collector: Collector) -> None:
    assert collector.is_empty
    assert not collector.has_problems
    assert collector.results() == RunResults(environment={}, cases=())


def test_results_are_in_the_order_of_their_ids(collector: Collector) -> None:
    collector.receive(CASE_ID, [text_of(f"{CASE_ID}#b"), text_of(f"{CASE_ID}#a")], has_passed=True)
    collector.receive(OTHER_ID, [text_of(OTHER_ID)], has_passed=False)
    results = collector.results()
    assert [case.id for case in results.cases] == [OTHER_ID, f"{CASE_ID}#a", f"{CASE_ID}#b"]
    assert results.environment == HERE.fields
    assert not collector.is_empty


def test_a_later_attempt_replaces_an_earlier_one(collector: Collector) -> None:
    collector.receive(CASE_ID, [text_of(outcome=Outcome.FAILED)], has_passed=False)
    collector.receive(CASE_ID, [text_of(outcome=Outcome.PASSED)], has_passed=True)
    assert [case.outcome for case in collector.results().cases] == [Outcome.PASSED]


@pytest.mark.parametrize(
    ("recording", "has_body_passed", "has_teardown_passed", "is_recorded"),
    [
        ("replace", True, True, True),
        ("append", True, True, True),
        (None, True, True, False),
        ("replace", False, True, False),
        ("replace", True, False, False),
    ],
)
def test_a_case_is_recorded_once_its_whole_test_has_passed(
    collector: Collector,
    tmp_path: Path,
    recording: str | None,
    has_body_passed: bool,
    has_teardown_passed: bool,
    is_recorded: bool,
) -> None:
    collector.receive(CASE_ID, [text_of(recording=recording)], has_passed=has_body_passed)
    assert not stored(tmp_path)
    collector.finish_test(CASE_ID, has_passed=has_teardown_passed)
    assert stored(tmp_path) is is_recorded
    assert not collector.has_problems


def test_all_cases_of_a_test_are_recorded_or_none(collector: Collector, tmp_path: Path) -> None:
    ids = [f"{CASE_ID}#a", f"{CASE_ID}#b"]
    texts = [text_of(case_id, recording="replace") for case_id in ids]
    collector.receive(CASE_ID, texts, has_passed=False)
    collector.finish_test(CASE_ID, has_passed=True)
    assert [stored(tmp_path, case_id) for case_id in ids] == [False, False]
    collector.receive(CASE_ID, texts, has_passed=True)
    collector.finish_test(CASE_ID, has_passed=True)
    assert [stored(tmp_path, case_id) for case_id in ids] == [True, True]


def test_a_test_without_cases_finishes_quietly(collector: Collector) -> None:
    collector.finish_test("test_plain.py::test", has_passed=True)
    assert collector.is_empty


def test_the_summary_says_what_was_recorded_and_why(collector: Collector) -> None:
    collector.receive(
        CASE_ID, [text_of(recording="replace", changes=("graphs 1 → 2", "latency -5.00 %"))], has_passed=True
    )
    collector.receive(OTHER_ID, [text_of(OTHER_ID, recording="append")], has_passed=True)
    for test_id in (CASE_ID, OTHER_ID):
        collector.finish_test(test_id, has_passed=True)
    folder = f"baselines/{HERE.name}/tests/test_model.py"
    assert [line.text for line in collector.summary()][-2:] == [
        f"recorded {folder}/test_policy.json: graphs 1 → 2, latency -5.00 %",
        f"recorded {folder}/test_other.json: more evidence for the level there was",
    ]


def test_baselines_outside_the_project_are_named_in_full(tmp_path: Path) -> None:
    collector = Collector(BaselineStore(tmp_path / "elsewhere"), tmp_path / "project")
    collector.receive(CASE_ID, [text_of(recording="replace", changes=("new",))], has_passed=True)
    collector.finish_test(CASE_ID, has_passed=True)
    assert collector.summary()[-1].text.startswith(f"recorded {tmp_path}/elsewhere/")


def test_what_cannot_be_recorded_is_a_problem(collector: Collector, tmp_path: Path) -> None:
    (tmp_path / "baselines").write_text("in the way")
    collector.receive(CASE_ID, [text_of(recording="replace")], has_passed=True)
    collector.finish_test(CASE_ID, has_passed=True)
    assert collector.has_problems
    assert collector.summary()[-1].text.startswith("not recorded: ")


def test_the_results_file_holds_every_case(collector: Collector, tmp_path: Path) -> None:
    collector.receive(CASE_ID, [text_of()], has_passed=True)
    collector.write_json(tmp_path / "nnopt.json")
    assert [case["id"] for case in json.loads((tmp_path / "nnopt.json").read_text())["cases"]] == [CASE_ID]
    assert not collector.has_problems


def test_a_results_file_that_cannot_be_written_is_a_problem(collector: Collector, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    collector.write_json(tmp_path / "file" / "nnopt.json")
    assert collector.has_problems
    assert collector.summary()[-1].text.startswith("cannot write ")


def test_every_export_is_written(collector: Collector, tmp_path: Path) -> None:
    collector.receive(CASE_ID, [text_of()], has_passed=True)
    for kind in EXPORTS:
        collector.write_export(kind, tmp_path / kind)
    assert (tmp_path / "markdown").read_text().startswith("## nnopt: 1 case, none failed")
    assert (tmp_path / "openmetrics").read_text().endswith("# EOF\n")
    assert json.loads((tmp_path / "benchmark_json").read_text())["benchmarks"][0]["fullname"] == CASE_ID
    assert not collector.has_problems


def test_an_export_that_cannot_be_written_is_a_problem(collector: Collector, tmp_path: Path) -> None:
    collector.write_export("markdown", tmp_path)
    assert collector.has_problems


def test_a_summary_nobody_asked_for_is_no_problem(collector: Collector, tmp_path: Path) -> None:
    collector.receive(CASE_ID, [text_of()], has_passed=True)
    collector.append_summary(tmp_path / "summary.md")
    collector.append_summary(tmp_path)
    assert (tmp_path / "summary.md").read_text().startswith("## nnopt")
    assert not collector.has_problems
    assert collector.summary()[-1].text.startswith("cannot append the summary")


def test_annotations_know_the_tests_place(collector: Collector) -> None:
    collector.receive(CASE_ID, [text_of(outcome=Outcome.FAILED)], has_passed=False, place=Place("a.py", 7))
    (command,) = collector.annotations()
    assert command.startswith("::error file=a.py,line=7,")


def test_the_summary_names_the_environment_first(collector: Collector) -> None:
    collector.receive(CASE_ID, [text_of()], has_passed=True)
    assert collector.summary()[0].text == f"on {HERE.name}"


def test_a_recording_names_the_checked_out_commit(collector: Collector, tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    collector.receive(CASE_ID, [text_of(recording="replace")], has_passed=True)
    collector.finish_test(CASE_ID, has_passed=True)
    baseline = BaselineStore(tmp_path / "baselines").read(HERE.name, CASE_ID)
    assert baseline is not None
    assert baseline.recordings[0].revision == git("rev-parse", "--short=12", "HEAD")


@pytest.mark.parametrize(("ci", "is_named"), [("", False), ("true", True)])
def test_a_recording_of_changed_code_names_no_commit_but_a_ci_services_does(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, is_named: bool
) -> None:
    for name in ("CI", "JENKINS_URL", "TF_BUILD"):
        monkeypatch.setenv(name, ci if name == "CI" else "")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "model.py").write_text("x = 1\n")
    for arguments in (["init", "-q"], ["add", "model.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    (tmp_path / "model.py").write_text("x = 2\n")
    collector.receive(CASE_ID, [text_of(recording="replace")], has_passed=True)
    collector.finish_test(CASE_ID, has_passed=True)
    baseline = BaselineStore(tmp_path / "baselines").read(HERE.name, CASE_ID)
    assert baseline is not None
    assert (baseline.recordings[0].revision is not None) is is_named


def test_without_git_a_recording_names_no_commit(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    collector.receive(CASE_ID, [text_of(recording="replace")], has_passed=True)
    collector.finish_test(CASE_ID, has_passed=True)
    baseline = BaselineStore(tmp_path / "baselines").read(HERE.name, CASE_ID)
    assert baseline is not None
    assert baseline.recordings[0].revision is None


def test_tests_that_are_gone_are_listed(collector: Collector) -> None:
    collector.note_gone([], "main (abc)")
    assert collector.is_silent
    collector.note_gone({"b.py::b", "a.py::a"}, "main (abc)")
    (line,) = collector.summary()
    assert line.text.startswith("gone, 2 tests of main (abc) with model_pair: a.py::a, b.py::b; ")
