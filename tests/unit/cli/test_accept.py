"""What comes from elsewhere becomes a baseline only where it is sound, and only in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.report.files import write_json
from pytest_nnopt.results import CaseResult, RunResults
from tests.builders import CASE_ID, make_baseline, make_check, make_environment, make_evidence, make_result

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

HERE = make_environment()
SLOWER = make_check(CheckName.LATENCY, Outcome.FAILED)


def write_results(*cases: CaseResult, path: str = "results.json", **environment: Any) -> None:
    fields = dict(make_environment(**environment).fields)
    write_json(Path(path), RunResults(environment=fields, cases=cases))


def measured(*checks: Check, ratio: float = 0.5, case_id: str = CASE_ID) -> CaseResult:
    return make_result(*checks, case_id=case_id, evidence=make_evidence(ratio, count=3))


def test_a_case_becomes_a_baseline_of_where_it_was_measured(nnopt: Nnopt) -> None:
    write_results(measured(make_check(outcome=Outcome.NO_BASELINE)), cpu="Far Away")
    said = nnopt("accept", "results.json", "--revision=abc123")
    assert (said.status, said.out) == (0, f"{CASE_ID}: recorded as new, 2.00x\n")
    store = BaselineStore(Path("baselines"))
    baseline = store.read("cpu-far-away-2c-torch2.13", CASE_ID)
    assert baseline is not None
    (recording,) = baseline.recordings
    assert recording.revision == "abc123"
    assert len(recording.evidence.timing) == 3
    assert store.fingerprint("cpu-far-away-2c-torch2.13", recording.environment) == make_environment(cpu="Far Away")


def test_it_replaces_the_level_there_was_and_says_what_changed(nnopt: Nnopt) -> None:
    BaselineStore(Path("baselines")).write(HERE, make_baseline(HERE, make_evidence(0.8)))
    write_results(measured())
    (row,) = nnopt("accept", "results.json", "--json").json()
    assert row["outcome"] == "recorded, 1.25x → 2.00x"
    assert row["is_accepted"]
    baseline = BaselineStore(Path("baselines")).read(HERE.name, CASE_ID)
    assert baseline is not None
    assert len(baseline.recordings) == 1


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (measured(make_check(outcome=Outcome.FAILED), SLOWER), "numerics failed"),
        (measured(make_check(CheckName.COMPILE, Outcome.FAILED)), "compile failed"),
        (measured(make_check(CheckName.SPEEDUP, Outcome.FAILED)), "speedup failed"),
        (measured(SLOWER), "latency is worse than the baseline; say why that is accepted with --reason"),
        (measured().model_copy(update={"has_passed": False}), "its test failed for another reason"),
        (make_result(), "nothing was measured"),
    ],
)
def test_what_failed_is_left_out(result: CaseResult, reason: str, nnopt: Nnopt) -> None:
    write_results(result)
    assert nnopt("accept", "results.json").out == f"{CASE_ID}: left out: {reason}\n"
    assert not Path("baselines").exists()


@pytest.mark.parametrize(("reason", "anchors"), [([], 1), (["--reason=a larger model"], 0)])
def test_drift_counts_from_a_level_that_was_accepted_for_a_reason(
    nnopt: Nnopt, reason: list[str], anchors: int
) -> None:
    BaselineStore(Path("baselines")).write(HERE, make_baseline(HERE, make_evidence(0.4)))
    write_results(measured(SLOWER) if reason else measured())
    assert nnopt("accept", "results.json", *reason).status == 0
    baseline = BaselineStore(Path("baselines")).read(HERE.name, CASE_ID)
    assert baseline is not None
    assert len(baseline.anchors) == anchors


def test_a_slower_level_is_taken_for_a_reason_and_keeps_it(nnopt: Nnopt) -> None:
    write_results(measured(SLOWER))
    assert "recorded as new" in nnopt("accept", "results.json", "--reason=a larger model").out
    baseline = BaselineStore(Path("baselines")).read(HERE.name, CASE_ID)
    assert baseline is not None
    assert baseline.recordings[-1].reason == "a larger model"


def test_a_case_that_could_not_be_timed_is_no_slower_level(nnopt: Nnopt) -> None:
    write_results(make_result(SLOWER, evidence=make_evidence(count=0)))
    assert "left out: it could not be timed" in nnopt("accept", "results.json", "--reason=x").out


def test_a_trial_writes_nothing(nnopt: Nnopt) -> None:
    write_results(measured())
    assert "would be recorded as new" in nnopt("accept", "results.json", "--dry-run").out
    assert not Path("baselines").exists()


def test_some_cases_alone_can_be_taken(nnopt: Nnopt) -> None:
    write_results(measured(), measured(case_id="test_b.py::test_other"))
    assert nnopt("accept", "results.json", "--case=test_b").out == "test_b.py::test_other: recorded as new, 2.00x\n"
    said = nnopt("accept", "results.json", "--case=test_c")
    assert (said.status, said.err) == (4, "nnopt: results.json holds no case with test_c in its id\n")


@pytest.mark.parametrize(
    "case_id",
    [
        "../../etc/passwd::x",
        "/etc/passwd::x",
        "..::..",
        "a/../../b.py::t",
        "",
        "\0::\x1b[2J",
        "x" * 300 + ".py::" + "y" * 300,
        "a/" * 2000 + "b.py::t",
        "::error::boom",
    ],
)
def test_no_id_leads_out_of_the_baseline_directory(case_id: str, nnopt: Nnopt, tmp_path: Path) -> None:
    write_results(measured(case_id=case_id), cpu="../../.." + "x" * 300)
    said = nnopt("accept", "results.json")
    assert said.status == 0
    assert "\x1b" not in said.out
    assert not said.out.startswith("::")
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.json")}
    assert written == {"results.json", "baselines"}


def test_a_link_out_of_the_baseline_directory_is_not_followed(nnopt: Nnopt, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / HERE.name).symlink_to(tmp_path / "elsewhere")
    write_results(measured())
    said = nnopt("accept", "results.json")
    assert said.status == 4
    assert "leads out of baselines by a link; remove the link" in said.err
    assert not any((tmp_path / "elsewhere").iterdir())


def spoil(path: Path, change: Any) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema=2), "schema: "),
        (lambda v: v.update(extra=1), "extra: "),
        (lambda v: v["cases"][0]["timing"][0]["candidate_to_reference"].update(log_ratio=float("nan")), "log_ratio: "),
        (lambda v: v["cases"][0].update(id="x" * 5000), "id: String should have at most 4096 characters"),
        (lambda v: v["cases"][0]["compile"].update(counters={"x": 10**30}), "counters.x: "),
        (lambda v: v["environment"].pop("device"), "was measured: device is missing"),
    ],
)
def test_what_is_no_sound_results_file_is_refused(change: Any, message: str, nnopt: Nnopt, tmp_path: Path) -> None:
    write_results(measured())
    spoil(tmp_path / "results.json", change)
    said = nnopt("accept", "results.json")
    assert said.status == 4
    assert message in said.err
    assert not Path("baselines").exists()


def test_a_file_that_is_missing_or_far_too_large_is_refused(nnopt: Nnopt, tmp_path: Path) -> None:
    assert "cannot read none.json: No such file" in nnopt("accept", "none.json").err
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(2**30)
    assert "cannot read large.json: it is larger than 67108864 bytes" in nnopt("accept", "large.json").err
