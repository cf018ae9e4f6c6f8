from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.baseline.schema import Evidence, MemoryRecord, WorkRecord
from pytest_nnopt.model import CheckName, Outcome, Verdict
from pytest_nnopt.verdict import Observed, judge, times
from pytest_nnopt.verdict.accepted import find_worsening, judge_drift_since_best
from pytest_nnopt.verdict.wanted import wanted_processes
from tests.builders import (
    make_config,
    make_environment,
    make_evidence,
    make_facts,
    make_question,
    make_recording,
    make_timing,
    on_machine,
)

if TYPE_CHECKING:
    from pytest_nnopt.verdict.question import Question


def question(**fields: Any) -> Question:
    """A case whose accepted level crept up by nine steps of one percent since its best."""
    anchor = make_recording(make_environment(), Evidence(timing=make_timing(1.0), memory=memory(1000)))
    level = make_evidence(1.09).model_copy(update={"memory": memory(1015)})
    asked = frozenset({CheckName.LATENCY, CheckName.MEMORY, CheckName.COMPILE})
    usual = {"is_comparing": True, "baseline": level, "anchor": anchor, "asked": asked}
    return make_question(make_config(latency=0.05), **{**usual, **fields})


def memory(peak: int) -> MemoryRecord:
    return MemoryRecord(candidate_peak_bytes=peak)


def observed(ratio: float, peak: int = 1015) -> Observed:
    return Observed(make_facts(), timing=make_timing(ratio), memory=memory(peak))


def judged(ratio: float, peak: int = 1015, **fields: Any) -> Verdict:
    asked, seen = question(**fields), observed(ratio, peak)
    return judge_drift_since_best(asked, seen, judge(asked, seen))


def test_one_more_small_step_fails_once_the_sum_is_beyond_the_limit() -> None:
    latency = judged(1.10)[CheckName.LATENCY]
    assert latency.outcome is Outcome.FAILED
    assert latency.reason.startswith(
        "small steps added up: latency +10.0 % against the best level, accepted on 2026-01-02 ["
    )
    assert latency.details[0].startswith("latency +0.9")
    assert latency.details[-1] == "accept it with pytest --nnopt-update --nnopt-reason TEXT"


def test_both_levels_say_how_many_processes_are_wanted() -> None:
    crept_up = make_timing(1.05, count=1)
    assert not times.looks_by_check(question(anchor=None), crept_up)
    assert wanted_processes(question(anchor=None), crept_up) == 1
    assert wanted_processes(question(), crept_up) == 2


def test_memory_drifts_too() -> None:
    verdict = judged(1.0, 1030)
    assert judge(question(), observed(1.0, 1030))[CheckName.MEMORY].outcome is Outcome.PASSED
    assert verdict[CheckName.MEMORY].outcome is Outcome.FAILED
    assert "(+3.00 %) is beyond the limit of 2.00 %" in verdict[CheckName.MEMORY].reason


@pytest.mark.parametrize("fields", [{}, {"anchor": None}, {"is_comparing": False}])
def test_without_drift_or_anchor_the_verdict_stays(fields: dict[str, Any]) -> None:
    ratio = 1.0 if not fields else 1.10
    asked, seen = question(**fields), observed(ratio)
    verdict = judge(asked, seen)
    assert judge_drift_since_best(asked, seen, verdict) == verdict


def test_a_check_that_fails_against_the_level_says_that() -> None:
    assert judged(1.5)[CheckName.LATENCY].reason.startswith("latency +37")


class TestFindWorsening:
    @pytest.mark.parametrize(("ratio", "count"), [(1.0, 0), (1.10, 1), (1.5, 1)])
    def test_what_the_gate_would_fail_is_worse(self, ratio: float, count: int) -> None:
        asked = question(is_comparing=False, is_updating=True)
        seen = observed(ratio)
        assert len(find_worsening(asked, seen, judge(asked, seen))) == count

    @pytest.mark.parametrize(
        ("pace", "named"),
        [(1.3, "; the machine is slower than in the baseline, a fixed workload's time +30.0 %"), (1.02, "")],
    )
    def test_a_machine_that_moved_excuses_nothing_that_is_recorded_but_is_named(self, pace: float, named: str) -> None:
        asked = question(is_comparing=False, is_updating=True, anchor=None)
        seen = replace(observed(1.25), timing=on_machine(make_timing(1.25), pace))
        (worse,) = find_worsening(asked, seen, judge(asked, seen))
        assert worse.startswith("latency +14")
        assert worse.endswith(f"is beyond the limit of 5.00 %{named}")

    def test_only_what_is_timed_is_named_with_it(self) -> None:
        asked = question(is_comparing=False, is_updating=True, anchor=None)
        seen = replace(observed(1.0), timing=on_machine(make_timing(1.0), 1.3), memory=memory(5000))
        (worse,) = find_worsening(asked, seen, judge(asked, seen))
        assert "the machine is slower" not in worse

    def test_what_fails_anyway_is_not_named_again(self) -> None:
        asked = question(is_comparing=False, is_updating=True)
        seen = Observed(make_facts(graph_breaks=None, eager_frames=2), timing=make_timing(1.0), memory=memory(1015))
        verdict = judge(asked, seen)
        assert verdict[CheckName.COMPILE].outcome is Outcome.FAILED
        assert find_worsening(asked, seen, verdict) == ()

    @pytest.mark.parametrize("fields", [{"is_updating": False}, {"baseline": None}])
    def test_nothing_is_worse_where_nothing_is_updated(self, fields: dict[str, Any]) -> None:
        asked = question(**{"is_comparing": False, "is_updating": True, **fields})
        seen = observed(1.5)
        assert find_worsening(asked, seen, judge(asked, seen)) == ()


def test_a_machine_that_moved_is_no_sum_of_small_steps() -> None:
    level = make_evidence(1.0)
    anchor = make_recording(make_environment(), level)
    asked = question(baseline=level, anchor=anchor)
    for pace, outcome in ((1.3, Outcome.INCONCLUSIVE), (1.0, Outcome.FAILED)):
        seen = Observed(make_facts(), timing=on_machine(make_timing(1.09), pace))
        assert judge_drift_since_best(asked, seen, judge(asked, seen))[CheckName.LATENCY].outcome is outcome


def test_a_model_that_changed_itself_is_not_held_against_the_eager_time_of_the_best_level() -> None:
    before, now = (WorkRecord(operators={"aten.mm": count}, elements=100) for count in (2, 1))
    level = make_evidence(1.0).model_copy(update={"work": before})
    quicker_eager = tuple(
        process.model_copy(update={"candidate_to_yardstick": other.candidate_to_yardstick})
        for process, other in zip(make_timing(1.25), make_timing(1.0), strict=True)
    )
    asked = question(baseline=level, anchor=make_recording(make_environment(), make_evidence(1.0)), work=now)
    seen = Observed(make_facts(), timing=quicker_eager)
    assert judge_drift_since_best(asked, seen, judge(asked, seen))[CheckName.LATENCY].outcome is Outcome.PASSED
