"""Checks of figures that repeat and may only grow so far against the baseline: memory and compile time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.units import format_bytes, format_percent, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable


def check_memory(now_bytes: int, before_bytes: int, limit: float) -> Check:
    """Hold the candidate's peak bytes per call, which repeat exactly, against the baseline's."""
    return _check_growth(CheckName.MEMORY, "peak memory", now_bytes, before_bytes, limit, format_bytes)


def check_compile_time(now_seconds: float, before_seconds: float, limit: float) -> Check:
    """Hold the wall time of a cold compile against the baseline's."""
    return _check_growth(
        CheckName.COMPILE_TIME, "cold compile time", now_seconds, before_seconds, limit, format_seconds
    )


def _check_growth(
    name: CheckName, what: str, now: float, before: float, limit: float, write: Callable[[float], str]
) -> Check:
    growth = now / before - 1 if before else math.copysign(math.inf, now) if now else 0.0
    outcome = Outcome.FAILED if growth > limit else Outcome.IMPROVED if growth < -limit else Outcome.PASSED
    relation = "beyond" if outcome is Outcome.FAILED else "within"
    reason = (
        f"{what} {write(now)} against {write(before)} in the baseline ({format_percent(growth, signed=True)}) "
        f"is {relation} the limit of {format_percent(limit)}"
    )
    return Check(name, outcome, reason, value=float(now), baseline=float(before), limit=limit)
