"""The check of numbers: from a comparison to an answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.numerics import describe_comparison, describe_not_compared, describe_problem

if TYPE_CHECKING:
    from pytest_nnopt.numerics import NumericsComparison


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
    count = len(comparison.leaves)
    details = describe_not_compared(comparison)
    reason = f"{count} leaves agree, the worst at {worst.excess:.2g} of its limit ({comparison.lane_reason})"
    return Check(CheckName.NUMERICS, Outcome.PASSED, reason, value=value, limit=1.0, details=tuple(details))
