from __future__ import annotations

from dataclasses import replace

from pytest_nnopt.model import Outcome
from pytest_nnopt.verdict.imported import describe_imported, describe_new
from pytest_nnopt.verdict.times import check_latency
from tests.builders import make_process, make_question, make_timing
from tests.unit.baseline.test_imported import TIME


def test_it_is_set_beside_what_was_measured() -> None:
    (line,) = describe_imported(TIME, make_timing(2.0))
    assert line == (
        "advisory, imported: 1 ms in 0001_a.json (5 rounds, 2026-01-02, AMD EPYC); the candidate takes 2 ms here, "
        "+100 %; it decides nothing, and goes with the first recording"
    )
    (line,) = describe_imported(TIME, ())
    assert "AMD EPYC); it decides nothing" in line
    assert describe_imported(None, make_timing()) == ()


def test_a_first_recording_says_what_it_takes_the_place_of() -> None:
    assert describe_new(TIME, make_timing(0.5)) == "new, in place of an imported 1 ms; now 500 µs"
    assert describe_new(None, make_timing()) == describe_new(TIME, ()) == "new"
    no_candidate = make_process().model_copy(update={"seconds": {"reference": 1e-3}})
    assert describe_new(TIME, (no_candidate,)) == "new"


def test_it_neither_passes_nor_fails_a_case() -> None:
    missing = make_question(is_comparing=True, baseline=None, missing_reason="no baseline; record one")
    for timing in (make_timing(0.1), make_timing(10.0)):
        without = check_latency(missing, timing)
        beside = check_latency(replace(missing, imported=TIME), timing)
        assert without.outcome is beside.outcome is Outcome.NO_BASELINE
        assert replace(beside, details=()) == without
        assert "advisory" in beside.details[0]
