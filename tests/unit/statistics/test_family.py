from __future__ import annotations

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import Decision, Reason, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.family import confirm_failures, holm, plan_for_suite
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.statistics.sequential import SequentialPlan

BASELINE = [ProcessEstimate(0.01 * (index % 3), 1e-4, 40) for index in range(10)]


def decide(slowdown: float, plan: SequentialPlan, processes: int = 4) -> Decision:
    candidate = [ProcessEstimate(slowdown + 0.01 * (index % 2), 1e-4, 40) for index in range(processes)]
    return decide_regression(candidate, BASELINE, limit=0.02, prior=DEFAULT_CPU_PRIOR, plan=plan)


def test_a_large_suite_tightens_the_alarms_only() -> None:
    plan = plan_for_suite(SequentialPlan(), 200)
    assert plan.false_alarms == pytest.approx(0.5 * 0.05 / 200)
    assert plan.false_passes == SequentialPlan().false_passes


def test_a_small_suite_changes_nothing() -> None:
    assert plan_for_suite(SequentialPlan(), 2) == SequentialPlan()


def test_holm_steps_down() -> None:
    p_values = [0.001, 0.04, 0.02, 0.9]
    assert holm(p_values, level=0.05) == (True, False, False, False)
    assert holm([0.001, 0.013, 0.02, 0.9], level=0.05) == (True, True, True, False)
    assert holm([0.001], level=0.05, size=200) == (False,)
    assert holm([], level=0.05) == ()


@pytest.mark.parametrize(("p_values", "size"), [([0.1, 0.2], 1), ([1.1], None), ([-0.1], None), ([float("nan")], None)])
def test_impossible_families_are_refused(p_values: list[float], size: int | None) -> None:
    with pytest.raises(MeasurementError):
        holm(p_values, level=0.05, size=size)
    with pytest.raises(MeasurementError):
        plan_for_suite(SequentialPlan(), 0)


def test_certain_failures_leave_more_of_the_level_to_an_open_case() -> None:
    plan = plan_for_suite(SequentialPlan(), 20, suite_false_alarms=0.01)
    certain = decide(0.5, plan)
    slowdown = next(step / 1000 for step in range(30, 300) if decide(step / 1000, plan).p_value < 0.5 * 0.01 / 2)
    suspect = decide(slowdown, plan)
    assert suspect.outcome is Outcome.INCONCLUSIVE

    alone = confirm_failures([suspect], suite_false_alarms=0.01, size=20)
    assert alone == (suspect,)

    *_, confirmed = confirm_failures([certain] * 18 + [suspect], suite_false_alarms=0.01, size=20)
    assert confirmed.outcome is Outcome.FAILED
    assert confirmed.reason is Reason.CONFIRMED_IN_SUITE
    assert not confirmed.needs_more


def test_a_pass_is_never_turned() -> None:
    passed = decide(-0.1, SequentialPlan())
    assert passed.outcome is Outcome.IMPROVED
    assert confirm_failures([passed]) == (passed,)
