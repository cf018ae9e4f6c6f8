"""Whether the evidence of times is sound enough to decide or to be recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.level import MOST_PROCESSES
from pytest_nnopt.measurement.machine import ConcernKind
from pytest_nnopt.statistics.evidence import recorded_noise
from pytest_nnopt.statistics.power import minimum_detectable_effect
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict.choices import describe_choices
from pytest_nnopt.verdict.ways import even_estimates

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.verdict.question import Question

DECISIVE_CONCERNS = ConcernKind.THERMAL.value, ConcernKind.GPU_THERMAL.value, ConcernKind.GPU_SHARED.value
"""Kinds of concerns with which times decide nothing. Other load on the host is not among them: it slows both sides of a
block alike, and shows as noise."""

_FINDABLE = 2.0
"""How many times its limit a slowdown may have to be before the gate finds it."""
_HALVINGS = 40

_TELLING_PROCESSES, _CONFIDENCE = 4, 0.99
"""So many processes may show that all further ones would be in vain, with that confidence."""


def find_unsoundness(timing: Sequence[ProcessRecord]) -> str | None:
    """Say why times decide nothing: in half of the processes or more a GPU was shared, or something was throttled."""
    told: dict[str, list[str]] = {}
    for process in timing:
        kind = next((kind for kind in DECISIVE_CONCERNS if kind in process.concerns), None)
        if kind is not None:
            told.setdefault(kind, []).append(process.concerns[kind])
    if not told or 2 * sum(map(len, told.values())) < len(timing):
        return None
    return ", ".join(f"in {len(texts)} of {len(timing)} processes {texts[0]}" for texts in told.values())


def find_noise(question: Question, timing: Sequence[ProcessRecord]) -> str | None:
    """Say why times are too noisy for the gate: whatever it measured, it would miss twice the tolerated slowdown.

    Returns:
        how noisy they are, what the limit needs and which limit they would do for; None where the gate can work with
        them.
    """
    if not timing:
        return None
    limit, noise = question.latency_limit, _noise(question, timing)
    findable = _findable(question, noise, limit)
    if findable <= _FINDABLE * limit:
        return None
    why = "".join(f"; {choice}" for choice in describe_choices(timing, limit))
    return (
        f"one process's time varies by {format_percent(noise.standard_deviation)}, so that a slowdown would have to "
        f"reach {format_percent(findable)} to be found; the limit of {format_percent(limit)} needs at most "
        f"{format_percent(_largest_deviation(question, noise, limit))}: quieten the machine, lock its clocks, or raise "
        f"the limit with nnopt_limits(latency={_bearable_limit(question, noise, limit)}){why}"
    )


def processes_to_record(question: Question, timing: Sequence[ProcessRecord]) -> int:
    """Return how many processes make a baseline with which the gate finds twice the tolerated slowdown.

    First a few, which may show that the baseline will be refused for their noise. Then as many as are asked for where
    that suffices, and where no number would; at most twice as many, or as many as a level keeps.
    """
    asked, limit = question.recorded_processes, question.latency_limit
    if len(timing) < min(asked, _TELLING_PROCESSES):
        return min(asked, _TELLING_PROCESSES)
    if len(timing) < asked:
        return len(timing) if _is_hopeless(question, timing) else asked
    if not asked:
        return 0
    noise = _noise(question, timing)
    most = max(asked, min(2 * asked, MOST_PROCESSES))
    if _findable(question, noise, limit, most) > _FINDABLE * limit:
        return asked
    counts = range(asked, most + 1)
    return next(count for count in counts if _findable(question, noise, limit, count) <= _FINDABLE * limit)


def _is_hopeless(question: Question, timing: Sequence[ProcessRecord]) -> bool:
    """Whether even the least noise that these times leave room for is too much."""
    least, limit = _noise(question, timing).at_least(_CONFIDENCE), question.latency_limit
    return _findable(question, least, limit) > _FINDABLE * limit


def _noise(question: Question, timing: Sequence[ProcessRecord]) -> VariancePrior:
    """Return the noise that the gate would take these times for, were they its baseline."""
    return recorded_noise(even_estimates(timing), question.prior)


def _findable(
    question: Question, noise: VariancePrior, limit: float, baseline_processes: int = MOST_PROCESSES
) -> float:
    """Return the slowdown that the last look finds in 95 % of runs."""
    return minimum_detectable_effect(
        noise,
        processes=question.plan.max_processes,
        baseline_processes=baseline_processes,
        limit=limit,
        plan=question.plan,
    )


def _bearable_limit(question: Question, noise: VariancePrior, limit: float) -> str:
    """Return the smallest limit in whole per cent that the gate could keep in this noise; dots where there is none."""
    for per_cent in range(math.floor(100 * limit) + 1, 101):
        if _findable(question, noise, per_cent / 100) <= _FINDABLE * per_cent / 100:
            return f'"{per_cent}%"'
    return "..."


def _largest_deviation(question: Question, noise: VariancePrior, limit: float) -> float:
    """Return the largest spread between processes with which twice the limit is found, by bisection."""
    low, high = 0.0, noise.standard_deviation
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        quieter = VariancePrior(middle**2, noise.degrees_of_freedom)
        low, high = (middle, high) if _findable(question, quieter, limit) <= _FINDABLE * limit else (low, middle)
    return low
