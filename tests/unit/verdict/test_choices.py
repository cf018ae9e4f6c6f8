"""The compiler's choices among ways to launch a kernel, named where they explain noise."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from pytest_nnopt.baseline.schema import Evidence, KernelRecord, ProcessRecord
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.verdict.choices import CHANCE_ALARM_SHARE, describe_choices, is_beyond_chance, processes_to_tell
from pytest_nnopt.verdict.device_time import check_device_time
from pytest_nnopt.verdict.fitness import find_noise
from pytest_nnopt.verdict.times import check_latency
from tests.builders import make_config, make_process, make_question

QUICK, SLOW = ("grid 64, block 512", 2.88e-4), ("grid 1, block 64", 4.2e-4)
SAID = (
    "the compiler, which chooses by timing, launched kernel sums in 2 ways: 288 µs in 8 processes, 420 µs in "
    "2 processes; chance among them moves a call by 2.81 %"
)


def process(
    way: tuple[str | None, float] | None, *, ratio: float = 0.0, waiting: tuple[str, ...] = (), **others: float
) -> ProcessRecord:
    """Make a process whose candidate takes 4.7 ms, of which a kernel that is launched in some way is a part."""
    ways = {**({} if way is None else {"sums": way}), **{name: (name, seconds) for name, seconds in others.items()}}
    kernels = {name: KernelRecord(count=1, seconds=seconds, launch=launch) for name, (launch, seconds) in ways.items()}
    made = make_process(ratio)
    seconds = {**made.seconds, "candidate": 4.7e-3}
    return made.model_copy(update={"kernels": kernels, "seconds": seconds, "waiting": waiting})


RECORDED = [process(QUICK)] * 6 + [process(SLOW)] * 2 + [process(QUICK)] * 2


def test_a_kernel_that_is_launched_in_two_ways_is_named_with_what_they_make_of_a_call() -> None:
    assert describe_choices(RECORDED, 0.05) == [SAID]


def test_one_process_is_called_one() -> None:
    assert "420 µs in 1 process;" in describe_choices([process(QUICK), process(SLOW), process(QUICK)], 0.05)[0]


@pytest.mark.parametrize(
    "processes",
    [
        pytest.param([], id="nothing measured"),
        pytest.param([make_process()] * 4, id="no kernels"),
        pytest.param([process(way).model_copy(update={"seconds": {}}) for way in (QUICK, SLOW)], id="no times"),
        pytest.param([process(QUICK)] * 4, id="one way"),
        pytest.param([process((None, 2.88e-4)), process((None, 4.2e-4))], id="ways unknown"),
        pytest.param([process(QUICK), process(SLOW), process(None, other=1e-4)], id="kernel gone"),
        pytest.param([process(QUICK), process((SLOW[0], 2.9e-4))], id="ways alike"),
        pytest.param([process(QUICK, waiting=("candidate",)), process(SLOW, waiting=("candidate",))], id="waits"),
    ],
)
def test_where_chance_makes_no_difference_nothing_is_said(processes: list[ProcessRecord]) -> None:
    assert describe_choices(processes, 0.05) == []


def test_what_is_small_beside_a_wide_limit_is_not_worth_a_word() -> None:
    assert describe_choices(RECORDED, 0.13) == [SAID]
    assert describe_choices(RECORDED, 0.15) == []


def test_the_costliest_come_first_and_not_too_many() -> None:
    def draw(factor: float) -> ProcessRecord:
        kernels = {
            name: KernelRecord(count=1, seconds=factor * seconds, launch=f"block {factor}")
            for name, seconds in {"a": 1e-4, "b": 3e-4, "c": 2e-4, "d": 4e-4}.items()
        }
        return process(None).model_copy(update={"kernels": kernels})

    said = describe_choices([draw(1.0), draw(2.0)], 0.05)
    assert [line.split("kernel ")[1].split()[0] for line in said] == ["d", "b", "c"]


def test_a_latency_that_cannot_be_told_names_the_choice_that_moves_it() -> None:
    before = [process(QUICK, ratio=-0.04)] * 6 + [process(SLOW, ratio=0.04)] * 4
    question = make_question(make_config(latency=0.05), is_comparing=True, baseline=Evidence(timing=tuple(before)))
    for ratio, count, outcome, lines in ((0.05, 1, Outcome.INCONCLUSIVE, 1), (-0.5, 2, Outcome.IMPROVED, 0)):
        check = check_latency(question, [process(SLOW, ratio=ratio)] * count)
        assert check.outcome is outcome
        assert len([detail for detail in check.details if detail.startswith("the compiler")]) == lines


def test_so_does_a_device_time_that_cannot_be_told() -> None:
    before = [process(QUICK, rest=4e-3)] * 8 + [process(SLOW, rest=4e-3)] * 2
    check = check_device_time([process(SLOW, rest=4e-3)], before, 0.02)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert [detail.split(":")[0] for detail in check.details if detail.startswith("the compiler")] == [
        "the compiler, which chooses by timing, launched kernel sums in 2 ways"
    ]


def test_and_a_recording_that_is_too_noisy() -> None:
    timing = [process(QUICK, ratio=-0.3), process(SLOW, ratio=0.3)] * 5
    reason = find_noise(make_question(make_config(latency=0.05)), timing)
    assert reason is not None
    assert "raise the limit with" in reason
    assert reason.endswith("chance among them moves a call by 2.81 %")


@pytest.mark.parametrize(("before", "processes", "largest_suite"), [(10, 3, 4), (10, 4, 18), (16, 4, 88)])
def test_how_many_must_agree_follows_the_suite_and_the_baseline(
    before: int, processes: int, largest_suite: int
) -> None:
    small, large = (plan_for_suite(DEFAULT_PLAN, suite) for suite in (largest_suite, largest_suite + 1))
    assert is_beyond_chance(processes, before, small)
    assert not is_beyond_chance(processes, before, large)
    assert [processes_to_tell(before, plan) for plan in (small, large)] == [processes, processes + 1]


@pytest.mark.parametrize(("before", "is_certain"), [(2, False), (3, True), (10, True)])
def test_all_processes_of_the_plan_are_enough_where_three_are_recorded(before: int, is_certain: bool) -> None:
    plan = plan_for_suite(DEFAULT_PLAN, 100_000)
    assert is_beyond_chance(plan.max_processes, before, plan) is is_certain
    assert processes_to_tell(before, plan) == (plan.max_processes if is_certain else None)


@pytest.mark.parametrize("suite", [1, 5, 18])
@pytest.mark.parametrize("recorded", [10, 16])
def test_whatever_the_rate_of_one_choice_ten_recorded_processes_keep_the_promise(suite: int, recorded: int) -> None:
    plan = plan_for_suite(DEFAULT_PLAN, suite)
    enough = processes_to_tell(recorded, plan)
    assert enough is not None
    wrong = max((rate / 100) ** enough * (1 - rate / 100) ** recorded for rate in range(101))
    assert wrong <= CHANCE_ALARM_SHARE * plan.false_alarms


@pytest.mark.parametrize("choices", [8, 20, 50])
@pytest.mark.parametrize(
    ("recorded", "suite", "factor"),
    [(10, 4, 2.2), (10, 18, 2.2), (10, 61, 2.2), (None, 5, 2.5), (None, 20, 2.5), (3, 2, 2.75)],
)
def test_a_sum_of_many_choices_is_larger_than_before_somewhat_more_often(
    choices: int, recorded: int | None, suite: int, factor: float
) -> None:
    """The largest of some sums is itself drawn: that all of several others are above it, by binomial distributions."""
    plan = plan_for_suite(DEFAULT_PLAN, suite)
    enough = processes_to_tell(recorded, plan)
    assert enough is not None
    at_most = [sum(math.comb(choices, k) for k in range(most + 1)) / 2**choices for most in range(choices + 1)]
    seen = recorded or enough
    is_largest = [now**seen - before**seen for before, now in pairwise([0.0, *at_most])]
    wrong = sum(p * (1 - below) ** enough for p, below in zip(is_largest, at_most, strict=True))
    assert wrong <= factor * CHANCE_ALARM_SHARE * plan.false_alarms
