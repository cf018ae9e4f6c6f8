from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from pytest_nnopt.baseline.schema import BaseRecord, Evidence, KernelRecord, ProcessRecord, RatioRecord
from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.verdict import Observed, judge
from pytest_nnopt.verdict.revisions import check_revisions, decide_revisions, is_beside_base, processes_of_base
from pytest_nnopt.verdict.times import check_latency
from pytest_nnopt.verdict.wanted import wanted_processes
from tests.builders import make_config, make_facts, make_process, make_question

BASE = "main (0123456)"
_SCATTER = (0.0, 0.002, -0.002, 0.001, -0.001, 0.0015, -0.0015, 0.0)


def ratio(value: float, scatter: float, scale: float) -> RatioRecord:
    return RatioRecord(log_ratio=math.log(value) + scale * scatter, variance=(0.004 * scale) ** 2, blocks=200)


def side_by_side(
    candidate: float = 1.0, reference: float = 1.0, *, count: int = 8, scale: float = 1.0, **fields: Any
) -> tuple[ProcessRecord, ...]:
    """Processes that measured both revisions, the head's sides slower than the base's by these factors."""
    return tuple(
        make_process().model_copy(
            update={
                "base": BaseRecord(
                    candidate=ratio(candidate, scatter, scale),
                    reference=ratio(reference, scatter, scale),
                    process=make_process(),
                    **fields,
                )
            }
        )
        for scatter in _SCATTER[:count]
    )


def question(**limits: Any) -> Any:
    return make_question(make_config(**limits), base=BASE, is_comparing=True)


def test_only_processes_that_all_measured_the_base_are_beside_it() -> None:
    timing = side_by_side(count=2)
    assert is_beside_base(timing)
    assert not is_beside_base((*timing, make_process()))
    assert not is_beside_base(())


@pytest.mark.parametrize(
    ("slower", "outcome", "relation"),
    [
        (1.0, Outcome.PASSED, "is within the limit of 5.00 %"),
        (1.048, Outcome.FAILED, "is a slowdown, and not shown to be within the limit of 5.00 %"),
        (1.2, Outcome.FAILED, "is beyond the limit of 5.00 %"),
        (0.8, Outcome.IMPROVED, "is within the limit of 5.00 %"),
    ],
)
def test_the_head_is_held_against_the_base(slower: float, outcome: Outcome, relation: str) -> None:
    check = check_latency(question(latency=0.05), side_by_side(slower))
    assert (check.name, check.outcome) == (CheckName.LATENCY, outcome)
    assert check.reason.startswith("latency ")
    assert f"against {BASE} {relation}" in check.reason
    assert check.value == pytest.approx(slower - 1, abs=0.001)
    assert check.interval is not None
    assert check.interval.low < slower - 1 < check.interval.high
    assert check.certainty is not None
    assert check.certainty.processes == 8


@pytest.mark.parametrize(
    ("reference", "cause"),
    [
        (1.2, "eager slowed alike, so the model changed"),
        (1.0, "only the compiled side slowed, so the compilation changed"),
        (1.098, "whether eager slowed as well cannot be told"),
    ],
)
def test_a_slowdown_says_whether_eager_slowed_too(reference: float, cause: str) -> None:
    check = check_revisions(question(latency=0.05), side_by_side(1.2, reference))
    assert check.details[0].startswith("eager ")
    assert check.details[0].endswith(cause)


def test_without_a_slowdown_only_eagers_figure_is_told() -> None:
    check = check_revisions(question(latency=0.05), side_by_side())
    assert check.details[0].startswith("eager ")
    assert ":" not in check.details[0]


def test_other_inputs_leave_the_question_open() -> None:
    changed = ("args[0]: float32 [8, 64] → float32 [16, 64]",)
    check = check_revisions(question(), side_by_side(3.0, inputs=changed))
    assert check.outcome is Outcome.INCONCLUSIVE
    assert check.reason == f"the test hands over other inputs than in {BASE}, so that times cannot be compared"
    assert check.details == changed


def test_other_parameters_are_named_and_compared_all_the_same() -> None:
    check = check_revisions(question(latency=0.05), side_by_side(parameters=("fc.weight: [8, 8] → [16, 8]",)))
    assert check.outcome is Outcome.PASSED
    assert check.details[-2:] == ("the model has other parameters:", "  fc.weight: [8, 8] → [16, 8]")


@pytest.mark.parametrize(("between", "most"), [(0.0, 1), (0.003, 2), (0.007, 4)])
def test_identical_revisions_rarely_fail_whatever_processes_differ_by(between: float, most: int) -> None:
    chooser, within, failed = random.Random(3), 0.004, 0
    for _ in range(400):
        scale = math.hypot(between, within)
        drawn = [chooser.gauss(0, scale) for _ in range(8)]
        processes = [
            processed(RatioRecord(log_ratio=figure, variance=within**2, blocks=200), make_process()) for figure in drawn
        ]
        looks = [decide_revisions(question(latency=0.01), processes[:count]) for count in (1, 2, 4, 8)]
        failed += any(decision.outcome is Outcome.FAILED for decision in looks)
    assert failed <= most


def test_on_a_gpu_processes_may_differ_by_more() -> None:
    def decide(base: ProcessRecord) -> Outcome:
        figures = (0.03, 0.034)
        records = [processed(RatioRecord(log_ratio=one, variance=1e-6, blocks=200), base) for one in figures]
        return decide_revisions(question(latency=0.01), records).outcome

    kernels = {"gemm": KernelRecord(count=1, seconds=1e-4)}
    assert decide(make_process()) is Outcome.FAILED
    assert decide(make_process().model_copy(update={"kernels": kernels})) is Outcome.INCONCLUSIVE


class TestLaunches:
    """How many kernels processes launch that measured both revisions."""

    asked = make_question(base=BASE, baseline=Evidence(), is_comparing=True, asked=frozenset({CheckName.DEVICE_TIME}))

    @staticmethod
    def launching(process: ProcessRecord, count: float) -> ProcessRecord:
        return process.model_copy(update={"kernels": {"sums": KernelRecord(count=count, seconds=1e-4)}})

    def beside(self, head: float, base: float, count: int, **fields: Any) -> list[ProcessRecord]:
        def with_launches(process: ProcessRecord) -> ProcessRecord:
            assert process.base is not None
            other = process.base.model_copy(update={"process": self.launching(process.base.process, base)})
            return self.launching(process, head).model_copy(update={"base": other})

        return [with_launches(process) for process in side_by_side(count=count, **fields)]

    def judged(self, timing: list[ProcessRecord]) -> Check:
        compared = replace(self.asked, baseline=Evidence(timing=tuple(processes_of_base(timing))))
        (check,) = judge(compared, Observed(make_facts(), timing=tuple(timing))).checks
        return check

    @pytest.mark.parametrize(("launches", "count", "wanted"), [(6, 1, 5), (5, 1, 1), (6, 5, 5)])
    def test_more_than_the_base_s_want_as_many_processes_as_leave_nothing_to_chance(
        self, launches: float, count: int, wanted: int
    ) -> None:
        assert wanted_processes(self.asked, self.beside(launches, 5, count)) == wanted

    def test_that_many_fail_and_no_limit_allows_them(self) -> None:
        check = self.judged(self.beside(6, 5, 5))
        assert check.outcome is Outcome.FAILED
        assert (
            check.remedy
            == "mend what launches them; or merge them all the same: later runs compare with what is merged"
        )

    def test_with_other_inputs_nothing_is_compared_and_nothing_more_wanted(self) -> None:
        timing = self.beside(6, 5, 1, inputs=("x: 1 → 2",))
        both = replace(self.asked, asked=frozenset({CheckName.DEVICE_TIME, CheckName.LATENCY}))
        assert wanted_processes(both, timing) == 1
        check = self.judged(timing)
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.reason == f"the test hands over other inputs than in {BASE}, so that times cannot be compared"


def processed(candidate: RatioRecord, base: ProcessRecord) -> ProcessRecord:
    """Make a process that measured the base beside it, by a ratio of the candidates and the base's own record."""
    record = BaseRecord(candidate=candidate, reference=candidate, process=base)
    return make_process().model_copy(update={"base": record})


def test_slower_never_turns_a_failure_into_a_pass() -> None:
    severities = [
        decide_revisions(question(latency=0.05), side_by_side(1 + step / 100)).outcome.severity for step in range(20)
    ]
    assert severities == sorted(severities)


def test_processes_are_wanted_only_until_the_question_is_answered() -> None:
    assert wanted_processes(question(latency=0.05), side_by_side(count=1)) == 1
    assert wanted_processes(question(latency=0.05), side_by_side(1.035, count=2, scale=6.0)) == 4
