from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.baseline.schema import BaseRecord, Evidence, KernelRecord, MemoryRecord, ProcessRecord
from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.verdict import Observed, judge, name_spent_budget, wanted_by_chance, wanted_processes
from pytest_nnopt.verdict.revisions import processes_of_base
from tests.builders import (
    make_compile_record,
    make_config,
    make_evidence,
    make_facts,
    make_process,
    make_question,
    make_timing,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.verdict import Question

BUDGET = "the case's budget of 20 s (--nnopt-budget)"
COMPARING = make_question(is_comparing=True, baseline=make_evidence(0.5), asked=frozenset({CheckName.LATENCY}))
NEAR_LIMIT = make_timing(0.549, count=2)


def answer(question: Question, timing: Sequence[ProcessRecord], spent: str | None = BUDGET, **seen: Any) -> list[Check]:
    """Judge a case whose budget ended, and return its checks."""
    facts = seen.pop("facts", make_facts())
    observed = Observed(facts, timing=tuple(timing), spent_budget=spent, **seen)
    return list(name_spent_budget(question, observed, judge(question, observed)).checks)


def latency(timing: Sequence[ProcessRecord], spent: str | None = BUDGET) -> Check:
    (check,) = answer(COMPARING, timing, spent)
    return check


class TestSpentBudget:
    """A question that stays open because time ended says so; one that more processes would not answer does not."""

    def test_an_open_question_says_how_far_it_came(self) -> None:
        check = latency(NEAR_LIMIT)
        assert check.outcome is Outcome.INCONCLUSIVE
        without = latency(NEAR_LIMIT, None).reason
        assert check.reason == f"{without}; {BUDGET} ended after 2 processes, and 4 were wanted next"

    def test_one_with_all_of_its_processes_does_not(self) -> None:
        check = latency((*make_timing(0.5, count=6), *make_timing(0.9, count=2)))
        assert check.outcome is Outcome.INCONCLUSIVE
        assert "budget" not in check.reason

    def test_nor_does_an_answered_one(self) -> None:
        assert latency(make_timing(0.5)) == latency(make_timing(0.5), None)

    def test_nor_does_one_that_the_machine_leaves_open(self) -> None:
        throttled = [process.model_copy(update={"concerns": {"gpu_thermal": "throttled"}}) for process in NEAR_LIMIT]
        check = latency(throttled)
        assert check.outcome is Outcome.INCONCLUSIVE
        assert "budget" not in check.reason

    @pytest.mark.parametrize(
        ("minimum", "baseline", "short"),
        [(1.9, 0.5, ["latency"]), (1.822, 0.549, ["speedup"]), (1.822, 0.5, ["speedup", "latency"])],
    )
    def test_each_question_speaks_for_itself(self, minimum: float, baseline: float, short: list[str]) -> None:
        question = make_question(
            make_config(min_speedup=minimum),
            is_comparing=True,
            baseline=make_evidence(baseline),
            asked=frozenset({CheckName.LATENCY, CheckName.SPEEDUP}),
        )
        checks = answer(question, NEAR_LIMIT)
        assert [check.name.value for check in checks if "budget" in check.reason] == short

    def test_more_kernels_say_how_many_processes_would_have_told(self) -> None:
        level = Evidence(timing=tuple(launching(1) for _ in range(10)))
        question = make_question(is_comparing=True, baseline=level, asked=frozenset({CheckName.DEVICE_TIME}))
        (check,) = answer(question, [launching(2)] * 2)
        assert check.reason.endswith("ended after 2 processes, and 3 were wanted next")

    @pytest.mark.parametrize("name", [CheckName.COMPILE, CheckName.MEMORY])
    def test_so_does_other_code_by_choice(self, name: CheckName) -> None:
        question = make_question(
            is_comparing=True,
            baseline=Evidence(
                timing=tuple(compiling(5) for _ in range(10)),
                compile=make_compile_record(counters=counted(5)),
                memory=MemoryRecord(candidate_peak_bytes=1000),
            ),
            asked=frozenset({name}),
            plan=plan_for_suite(SequentialPlan(), 100),
        )
        timing = [compiling(6), compiling(6)]
        wanted = wanted_by_chance(question, timing)
        facts, memory = make_facts(counters=counted(6)), MemoryRecord(candidate_peak_bytes=1100)
        (check,) = answer(question, timing, facts=facts, memory=memory)
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.reason.endswith(f"ended after 2 processes, and {wanted} were wanted next")

    def test_times_that_cannot_be_compared_want_no_more(self) -> None:
        beside = [with_other_inputs(make_process(math.log(0.67) + scatter)) for scatter in (0.004, -0.004)]
        question = replace(
            COMPARING,
            base="main (abc)",
            plan=plan_for_suite(SequentialPlan(), 200),
            baseline=Evidence(timing=tuple(processes_of_base(beside))),
        )
        (check,) = answer(question, beside)
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.reason.startswith("the test hands over other inputs")
        assert "budget" not in check.reason


def test_chance_wants_nothing_where_nothing_moved() -> None:
    assert wanted_by_chance(COMPARING, NEAR_LIMIT) == 0
    assert wanted_processes(COMPARING, NEAR_LIMIT) == 4


def launching(count: float) -> ProcessRecord:
    kernels = {"sums": KernelRecord(count=count, seconds=1e-4)}
    return make_process().model_copy(update={"kernels": kernels})


def counted(kernels: int) -> dict[str, int]:
    return {"generated_kernels": kernels, "external_kernels": 1, "timed_choices": 1}


def compiling(kernels: int) -> ProcessRecord:
    return make_process().model_copy(update={"code": counted(kernels)})


def with_other_inputs(process: ProcessRecord) -> ProcessRecord:
    ratio = process.candidate_to_reference
    base = BaseRecord(candidate=ratio, reference=ratio, process=make_process(math.log(0.5)), inputs=("x: [1] -> [2]",))
    return process.model_copy(update={"base": base})
