from __future__ import annotations

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.statistics.sequential import SequentialPlan


def test_a_large_suite_tightens_the_alarms_only() -> None:
    plan = plan_for_suite(SequentialPlan(), 200)
    assert plan.false_alarms == pytest.approx(0.5 * 0.05 / 200)
    assert plan.false_passes == SequentialPlan().false_passes


def test_a_small_suite_changes_nothing() -> None:
    assert plan_for_suite(SequentialPlan(), 2) == SequentialPlan()


def test_an_empty_suite_is_refused() -> None:
    with pytest.raises(MeasurementError, match="a suite holds at least one case"):
        plan_for_suite(SequentialPlan(), 0)
