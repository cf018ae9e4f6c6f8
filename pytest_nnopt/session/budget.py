"""The time that measuring a case may take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_nnopt.units import format_seconds


@dataclass(frozen=True, slots=True)
class Budget:
    """How long the timing of a case may take.

    Attributes:
        seconds: after these no further process measures, except those that every case gets.
        name: whose budget it is and how large, in words.
    """

    seconds: float
    name: str

    @classmethod
    def of(cls, case_seconds: float, suite_seconds: float | None, spent_seconds: float) -> Budget:
        """Return what is left to a case.

        Args:
            case_seconds: what each case may take.
            suite_seconds: what all cases together may take; None is any.
            spent_seconds: what those before took.
        """
        left = math.inf if suite_seconds is None else max(0.0, suite_seconds - spent_seconds)
        if suite_seconds is not None and left < case_seconds:
            return cls(left, f"the suite's budget of {format_seconds(suite_seconds)} (--nnopt-suite-budget)")
        return cls(case_seconds, f"the case's budget of {format_seconds(case_seconds)} (--nnopt-budget)")
