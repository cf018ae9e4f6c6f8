"""Many cases are one decision: keeping the whole suite's false alarms down, not only each case's.

The first look at a case is the screen: what passes there is never measured again. What stays open gets further
processes at the suite's level, and Holm's procedure has the last word.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.statistics.decision import Decision
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


def holm(p_values: Sequence[float], *, level: float, size: int | None = None) -> tuple[bool, ...]:
    """Return which hypotheses are rejected at a family-wise ``level`` (Holm 1979).

    Args:
        p_values: one for each case that was asked.
        level: probability of rejecting any true hypothesis.
        size: how many cases the family holds, where it holds more than were asked.

    Raises:
        MeasurementError: a p-value is outside [0, 1], or ``size`` is smaller than their number.
    """
    size = len(p_values) if size is None else size
    if size < len(p_values):
        raise MeasurementError(f"a family of {size} cannot hold {len(p_values)} p-values")
    if not all(0 <= p <= 1 for p in p_values):
        raise MeasurementError(f"p-values are {tuple(p_values)}; each lies between 0 and 1")
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (size - rank):
            break
        rejected[index] = True
    return tuple(rejected)


def confirm_failures(
    decisions: Sequence[Decision], *, suite_false_alarms: float = DEFAULT_SUITE_FALSE_ALARMS, size: int | None = None
) -> tuple[Decision, ...]:
    """Fail the undecided cases that Holm's procedure rejects once all cases of a suite have been measured.

    Each failure already certain leaves more of the suite's rate to the others. Decisions made under
    ``plan_for_suite`` are never taken back.

    Raises:
        MeasurementError: ``size`` is smaller than the number of decisions.
    """
    rejected = holm([decision.p_value for decision in decisions], level=_SPENT_SHARE * suite_false_alarms, size=size)
    return tuple(
        replace(decision, outcome=Outcome.FAILED, reason=Reason.CONFIRMED_IN_SUITE, next_look=None)
        if is_rejected and decision.outcome is Outcome.INCONCLUSIVE
        else decision
        for decision, is_rejected in zip(decisions, rejected, strict=True)
    )
