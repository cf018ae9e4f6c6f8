"""The check of numbers: from a comparison to an answer."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.numerics import describe_agreement, describe_comparison, describe_not_compared, describe_problem
from pytest_nnopt.verdict.drift import find_drift, judge_drift, told_of_base

if TYPE_CHECKING:
    from pytest_nnopt.baseline.numbers import NumericsLevel
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.verdict.question import Question


def check_numbers(question: Question, comparison: NumericsComparison, recorded: NumericsLevel | None) -> Check:
    """Ask whether the candidate agrees with the reference, and both with what they were in the baseline.

    Args:
        question: what to compare with.
        comparison: candidate and reference of this run.
        recorded: their numbers as they would be recorded; None where they are not.
    """
    check, level = check_numerics(comparison), question.numerics
    if not question.is_comparing or recorded is None or not recorded.leaves:
        return check
    if level is not None:
        broken = {leaf.path for leaf in comparison.leaves if leaf.summary is None}
        drift = find_drift(recorded, level, growth=question.config.limits.error_growth, broken=broken)
        if question.base is None:
            return judge_drift(check, drift, level)
        return replace(check, details=(*check.details, *told_of_base(drift, question.base)))
    if check.outcome is Outcome.FAILED or question.is_recording_missing or question.base is not None:
        return check
    missing = question.missing_reason or "the baseline holds no numbers; record them with pytest --nnopt-update"
    return replace(check, outcome=Outcome.NO_BASELINE, reason=missing, details=(check.reason, *check.details))


def check_numerics(comparison: NumericsComparison) -> Check:
    """Turn a comparison of numbers into a check, naming the worst leaf."""
    worst = comparison.worst
    if worst is None:
        return Check(CheckName.NUMERICS, Outcome.FAILED, "the model returned nothing that could be compared")
    value = worst.excess if math.isfinite(worst.excess) else None
    if not comparison.is_within:
        details = describe_comparison(comparison, has_headline=True)
        reason = describe_problem(worst)
        return Check(CheckName.NUMERICS, Outcome.FAILED, reason, value=value, limit=1.0, details=tuple(details))
    details = [*describe_not_compared(comparison), *comparison.notes]
    agreement = describe_agreement(len(comparison.leaves))
    reason = f"{agreement}, the worst at {worst.excess:.2g} of its limit ({comparison.lane_reason})"
    return Check(CheckName.NUMERICS, Outcome.PASSED, reason, value=value, limit=1.0, details=tuple(details))
