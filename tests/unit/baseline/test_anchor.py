from __future__ import annotations

from pytest_nnopt.baseline.anchor import anchor_of, anchors_with
from pytest_nnopt.baseline.schema import CaseBaseline, Evidence, MemoryRecord, Recording
from tests.builders import CASE_ID, make_baseline, make_environment, make_evidence, make_recording

HERE, ELSEWHERE = make_environment(), make_environment(threads=1)


def after(baseline: CaseBaseline | None, ratio: float = 1.0, *, starts_anew: bool = False) -> tuple[Recording, ...]:
    return anchors_with(baseline, make_recording(HERE, make_evidence(ratio)), starts_anew=starts_anew)


def test_a_first_level_is_its_own_anchor() -> None:
    assert anchor_of(None, HERE.digest) is None
    assert after(None) == ()
    assert after(make_baseline(ELSEWHERE)) == ()


def test_the_level_that_is_left_becomes_the_anchor_with_times_and_memory_alone() -> None:
    memory = MemoryRecord(candidate_peak_bytes=7)
    before = make_baseline(HERE, make_evidence().model_copy(update={"memory": memory}))
    (anchor,) = after(before, 1.01)
    assert anchor.environment == HERE.digest
    assert (anchor.evidence.memory, anchor.evidence.compile) == (memory, None)
    assert len(anchor.evidence.timing) == 8
    assert {process.candidate_to_yardstick for process in anchor.evidence.timing} == {None}


def test_an_anchor_stays_through_further_steps_until_drift_counts_anew() -> None:
    anchors = after(make_baseline(HERE), 1.01)
    moved = make_baseline(HERE, make_evidence(1.01)).model_copy(update={"anchors": anchors})
    assert after(moved, 1.02) == anchors
    assert after(moved, 1.02, starts_anew=True) == ()
    assert anchor_of(moved, HERE.digest) == anchors[0]
    assert anchor_of(moved, ELSEWHERE.digest) is None


def test_anchors_of_other_environments_are_kept() -> None:
    other = make_recording(ELSEWHERE)
    baseline = CaseBaseline(case=CASE_ID, recordings=(other, make_recording(HERE)), anchors=(other,))
    assert after(baseline, starts_anew=True) == (other,)
    assert after(baseline)[0] == other


def test_a_recording_without_times_and_memory_moves_no_level() -> None:
    assert anchors_with(make_baseline(HERE), make_recording(HERE, Evidence(numerics={})), starts_anew=False) == ()


def test_a_level_without_times_and_memory_is_no_anchor() -> None:
    assert after(make_baseline(HERE, Evidence(compile=make_evidence().compile))) == ()
