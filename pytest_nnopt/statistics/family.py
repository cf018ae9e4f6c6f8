"""Many cases are one decision: keeping the whole suite's false alarms down, not only each case's.

The first look at a case is the screen: what passes there is never measured again. What stays open gets further
processes at the suite's level.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError

if TYPE_CHECKING:
    from pytest_nnopt.statistics.sequential import SequentialPlan

DEFAULT_SUITE_FALSE_ALARMS = 0.05

_SPENT_SHARE = 0.5
"""How much of a suite's rate is spent nominally. Levels this small lie far out in the tails, where processes of two
states err more often than Student's t says; the rest covers them (``benchmarks/decision_simulation.py``)."""


def plan_for_suite(
    plan: SequentialPlan, suite_size: int, *, suite_false_alarms: float = DEFAULT_SUITE_FALSE_ALARMS
) -> SequentialPlan:
    """Tighten a plan so that an unchanged suite fails at most ``suite_false_alarms`` of its runs.

    The rate is split evenly over the cases (Bonferroni), with a reserve for tails heavier than assumed. The rate
    of false passes stays: a case that passes wrongly does so whatever its neighbours do.

    Raises:
        MeasurementError: ``suite_size`` is below one.
    """
    if suite_size < 1:
        raise MeasurementError(f"suite_size is {suite_size}; a suite holds at least one case")
    return replace(plan, false_alarms=min(plan.false_alarms, _SPENT_SHARE * suite_false_alarms / suite_size))
