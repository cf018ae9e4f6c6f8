"""How far the machine has moved, and what that leaves open about a ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR, VariancePrior
from pytest_nnopt.statistics.shift import NO_SHIFT, RATIO_SHARE, machine_shift

STEADY = tuple(math.log(270e-6) + 0.01 * step for step in (-2, -1, 0, 1, 2, -2, -1, 0, 1, 2))


def scattered(centre: float, count: int, seed: int, sd: float = 0.08) -> list[float]:
    return list(np.random.default_rng(seed).normal(centre, sd, count))


def processes(log_ratio: float, count: int) -> list[ProcessEstimate]:
    return [ProcessEstimate(log_ratio + 0.01 * (index % 3 - 1), 1e-5, 40) for index in range(count)]


def test_a_machine_as_it_was_has_not_moved() -> None:
    shift = machine_shift(STEADY[:4], STEADY)
    assert shift.log_ratio == pytest.approx(-0.005)
    assert shift.error == 0


def test_without_a_fixed_workload_on_both_sides_there_is_no_shift() -> None:
    assert machine_shift(STEADY, ()) == machine_shift((), STEADY) == NO_SHIFT


def test_the_unit_of_time_does_not_matter() -> None:
    now = [time + 0.23 for time in STEADY]
    in_milliseconds = [[time + math.log(1e3) for time in times] for times in (now, STEADY)]
    assert machine_shift(*in_milliseconds).error == pytest.approx(machine_shift(now, STEADY).error)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_share_of_a_clear_difference_is_left_open(direction: int) -> None:
    shift = machine_shift([time + direction * 0.23 for time in STEADY], STEADY)
    assert shift.log_ratio == pytest.approx(direction * 0.23)
    assert 0.9 * RATIO_SHARE * 0.23 < shift.error < RATIO_SHARE * 0.23


def test_what_the_workload_varies_by_anyway_is_no_shift() -> None:
    errors = [machine_shift(scattered(0.0, 4, seed), scattered(0.0, 10, seed + 1000)).error for seed in range(200)]
    assert 0 < sum(error > 0 for error in errors) <= 12
    assert max(errors) < 0.04


def test_one_process_against_one_is_not_taken_for_a_shift_by_ordinary_scatter() -> None:
    assert machine_shift([math.log(1.1)], [0.0]).error == 0
    assert machine_shift([math.log(1.4)], [0.0]).error > 0


def test_a_slowdown_that_a_moved_machine_may_explain_does_not_fail_nor_pass() -> None:
    now, before = processes(0.15, 8), processes(0.0, 10)
    assert decide_regression(now, before, limit=0.10, prior=DEFAULT_CPU_PRIOR).outcome is Outcome.FAILED
    error = machine_shift([time + 0.23 for time in STEADY], STEADY).error
    moved = decide_regression(now, before, limit=0.10, prior=DEFAULT_CPU_PRIOR, shift_error=error)
    assert moved.outcome is Outcome.INCONCLUSIVE
    assert moved.certainty.minimum_detectable_effect > 0.2
    unchanged = decide_regression(processes(0.0, 8), before, limit=0.10, prior=DEFAULT_CPU_PRIOR, shift_error=error)
    assert unchanged.outcome is Outcome.INCONCLUSIVE


figures = st.lists(st.floats(-0.05, 0.15), min_size=1, max_size=8)


@given(now=figures, before=figures, error=st.floats(0.0, 0.2), limit=st.sampled_from((0.02, 0.05, 0.10)))
def test_a_machine_that_moved_turns_nothing_into_a_failure_or_a_pass(
    now: list[float], before: list[float], error: float, limit: float
) -> None:
    sides = [[ProcessEstimate(figure, 1e-6, 40) for figure in side] for side in (now, before)]
    still, moved = (
        decide_regression(*sides, limit=limit, prior=DEFAULT_CPU_PRIOR, shift_error=shift).outcome
        for shift in (0.0, error)
    )
    allowed = {still, Outcome.INCONCLUSIVE, *([Outcome.PASSED] if still is Outcome.IMPROVED else [])}
    assert moved in allowed


def test_doubt_does_not_lower_what_the_last_look_fails() -> None:
    now = [0.039, 0.017, 0.027, 0.028, 0.058, 0.059, 0.036, 0.049]
    before = [0.001, -0.009, 0.003, -0.009, 0.007, 0.002, 0.014, 0.001, -0.007, -0.003]
    sides = [[ProcessEstimate(figure, 0.0, 40) for figure in side] for side in (now, before)]
    prior = VariancePrior(1.6e-5, 30.0)
    outcomes = [
        decide_regression(*sides, limit=0.05, prior=prior, shift_error=error).outcome for error in (0.0, 0.002, 0.02)
    ]
    assert outcomes == [Outcome.PASSED, Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE]


def test_a_large_slowdown_fails_on_a_moved_machine_as_well() -> None:
    error = machine_shift([time + 0.15 for time in STEADY], STEADY).error
    decision = decide_regression(
        processes(0.3, 8), processes(0.0, 10), limit=0.10, prior=DEFAULT_CPU_PRIOR, shift_error=error
    )
    assert decision.outcome is Outcome.FAILED
