"""Checks of figures that repeat and may only grow so far against the baseline: memory and compile time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, CompileTime, Outcome
from pytest_nnopt.units import format_bytes, format_percent, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_nnopt.baseline.schema import CompileRecord, MemoryRecord

MEMORY_FIGURES = {
    "peak memory": "candidate_peak_bytes",
    "steady memory": "candidate_steady_bytes",
    "memory saved for backward": "candidate_saved_bytes",
    "memory of gradients": "candidate_gradient_bytes",
}
"""The candidate's bytes by what they are, with their fields in ``MemoryRecord``."""


@dataclass(frozen=True, slots=True)
class Growth:
    """One figure now and in the baseline, with what it may grow by.

    Attributes:
        what: the figure in words.
        now: its value in this run.
        before: its value in the baseline.
        limit: tolerated growth as a fraction.
        write: puts a value into words.
        level: what holds the value before, in words.
    """

    what: str
    now: float
    before: float
    limit: float
    write: Callable[[float], str]
    level: str = "the baseline"

    @property
    def change(self) -> float:
        """Relative change; infinite where something grew from nothing."""
        return self.now / self.before - 1 if self.before else math.copysign(math.inf, self.now) if self.now else 0.0

    @property
    def outcome(self) -> Outcome:
        """Whether the figure kept its limit."""
        if self.change > self.limit:
            return Outcome.FAILED
        return Outcome.IMPROVED if self.change < -self.limit else Outcome.PASSED

    @property
    def sentence(self) -> str:
        """Both values, the change and the limit."""
        relation = "beyond" if self.outcome is Outcome.FAILED else "within"
        return (
            f"{self.what} {self.write(self.now)} against {self.write(self.before)} in {self.level} "
            f"({format_percent(self.change, signed=True)}) is {relation} the limit of {format_percent(self.limit)}"
        )


def check_memory(now: MemoryRecord, before: MemoryRecord, limit: float, level: str = "the baseline") -> Check | None:
    """Hold the candidate's bytes per call, which repeat exactly, against a level's; None if nothing is known."""
    return _judge(CheckName.MEMORY, memory_growths(now, before, limit, level), [])


def memory_growths(now: MemoryRecord, before: MemoryRecord, limit: float, level: str = "the baseline") -> list[Growth]:
    """Return each figure of the candidate's memory that both records know."""
    values = {what: (getattr(now, field), getattr(before, field)) for what, field in MEMORY_FIGURES.items()}
    return [
        Growth(what, is_now, was, limit, format_bytes, level)
        for what, (is_now, was) in values.items()
        if is_now is not None and was is not None
    ]


def check_compile_time(
    now: CompileTime,
    before: CompileRecord,
    *,
    time_limit: float,
    work_limit: float,
    level: str = "the baseline",
) -> Check | None:
    """Hold what compiling costs against a level: wall times, cold and warm, and the compiler's work.

    A warm compile that the cache no longer serves is a failure of its own. None if nothing is known on both sides.
    """
    growths = _time_growths(now, before, time_limit, level)
    notes = []
    if now.work_calls is not None and before.work_calls is not None:
        if now.work_conditions == before.work_conditions:
            works = (now.work_calls, before.work_calls)
            growths.append(Growth("compile work", *works, work_limit, _write_calls, level))
        else:
            notes.append(f"compile work is not compared: {before.work_conditions} → {now.work_conditions}")
    check = _judge(CheckName.COMPILE_TIME, growths, notes)
    if before.warm_seconds is not None and now.warm_seconds is None and now.cold_seconds is not None:
        reason = (
            "the compiler's cache no longer serves this model: a warm compile took "
            f"{format_seconds(before.warm_seconds)} in {level}"
        )
        return Check(CheckName.COMPILE_TIME, Outcome.FAILED, reason, details=tuple(g.sentence for g in growths))
    return check


def _time_growths(now: CompileTime, before: CompileRecord, limit: float, level: str) -> list[Growth]:
    pairs = (
        ("cold compile time", now.cold_seconds, before.cold_seconds),
        ("warm compile time", now.warm_seconds, before.warm_seconds),
    )
    return [
        Growth(what, is_now, was, limit, format_seconds, level)
        for what, is_now, was in pairs
        if is_now is not None and was is not None
    ]


def _judge(name: CheckName, growths: Sequence[Growth], notes: Sequence[str]) -> Check | None:
    """Make one check of several figures: what failed, else what improved, is its reason; the others are details."""
    if not growths:
        return None
    telling = (Outcome.FAILED, Outcome.IMPROVED, Outcome.PASSED)
    worst, *others = sorted(growths, key=lambda growth: telling.index(growth.outcome))
    return Check(
        name,
        worst.outcome,
        worst.sentence,
        value=float(worst.now),
        baseline=float(worst.before),
        limit=worst.limit,
        details=(*(growth.sentence for growth in others), *notes),
    )


def _write_calls(count: float) -> str:
    return f"{count:,.0f} calls"
