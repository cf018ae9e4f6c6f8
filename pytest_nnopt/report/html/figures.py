"""The tables of a case: its exact figures on both sides, and its leaves with errors and limits."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.schema import Evidence, MemoryRecord
from pytest_nnopt.model import CheckName
from pytest_nnopt.report.html.text import clip
from pytest_nnopt.units import format_bytes, format_percent, format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.results import CaseResult, LeafResult, RatioSummary

MOST_LEAVES = 16
"""Leaves of a case that are shown, the worst ones."""

_FAR_BEYOND = 1000
_UNKNOWN = "-"
_MEMORY = {
    "peak": "peak memory",
    "steady": "memory between calls",
    "saved": "memory saved for backward",
    "gradient": "memory of gradients",
}
_COUNTS = ("graphs", "graph_breaks", "recompiles", "eager_frames")


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure of a case.

    Attributes:
        name: what it is.
        eager: its value on the eager side.
        baseline: its value in the baseline.
        here: its value in this run.
        change: from the baseline to this run.
        outcome: what the check of this figure came to; empty where there is none.
    """

    name: str
    eager: str
    baseline: str
    here: str
    change: str
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class LeafRow:
    """One leaf: its number in the picture, its names, its errors as candidate, eager and limit, and what is wrong."""

    number: str
    path: str
    about: str
    rms: tuple[str, str, str]
    maximum: tuple[str, str, str]
    share: str
    problem: str
    is_within: bool


def list_figures(case: CaseResult) -> tuple[FigureRow, ...]:
    """Return the figures that are known on at least one side."""
    level = (case.context.level if case.context else None) or Evidence()
    outcomes = {check.name: check.outcome.value for check in case.checks}
    rows = [*_time_rows(case, level, outcomes), *_memory_rows(case, level, outcomes)]
    return tuple(row for row in (*rows, *_compile_rows(case, level, outcomes)) if row is not None)


def worst_leaves(leaves: Sequence[LeafResult]) -> tuple[LeafResult, ...]:
    """Return the leaves that are shown, those with problems first, then by how much of their limit they use."""
    ordered = sorted(leaves, key=lambda leaf: (leaf.problem is None, leaf.excess is not None, -(leaf.excess or 0.0)))
    return tuple(ordered[:MOST_LEAVES])


def list_leaves(leaves: Sequence[LeafResult]) -> tuple[LeafRow, ...]:
    """Return a row for each leaf, numbered from 1."""
    return tuple(
        LeafRow(
            number=f"#{number}",
            path=clip(leaf.path),
            about=clip(f"{leaf.kind}, {leaf.dtype}{list(leaf.shape) if leaf.shape else ''}, against {leaf.lane}"),
            rms=_errors(leaf.candidate_nrmse, leaf.reference_nrmse, leaf.limit_nrmse),
            maximum=_errors(leaf.candidate_max, leaf.reference_max, leaf.limit_max),
            share=_share(leaf),
            problem=clip("; ".join(filter(None, (leaf.problem, leaf.note)))),
            is_within=leaf.problem is None,
        )
        for number, leaf in enumerate(leaves, 1)
    )


def _share(leaf: LeafResult) -> str:
    if leaf.excess is None:
        return "must match"
    if leaf.excess < 1:
        return format_percent(leaf.excess)
    return f"{leaf.excess:.3g}x" if leaf.excess < _FAR_BEYOND else f"over {_FAR_BEYOND}x"


def _errors(*figures: float | None) -> tuple[str, str, str]:
    candidate, reference, limit = (_UNKNOWN if figure is None else f"{figure:.2g}" for figure in figures)
    return candidate, reference, limit


def _time_rows(case: CaseResult, level: Evidence, outcomes: dict[CheckName, str]) -> list[FigureRow | None]:
    context = case.context
    here, before = (context.times, context.level_times) if context else (None, None)
    latency = outcomes.get(CheckName.LATENCY, "")
    now, then = _median(case.timing, "candidate"), _median(level.timing, "candidate")
    kernels = outcomes.get(CheckName.DEVICE_TIME, "")
    return [
        _row("time over eager's", None, before, here, _ratio, latency, growth=_growth_of_ratio(before, here)),
        _row("time per call", _median(case.timing, "reference"), then, now, format_seconds),
        _row("kernels' time per call", None, _device(level.timing), _device(case.timing), format_seconds, kernels),
        _row("kernels launched", None, *_launches(level.timing, case.timing), _count, kernels),
        _row("processes measured", None, len(level.timing) or None, len(case.timing) or None, _count, growth=""),
    ]


def _memory_rows(case: CaseResult, level: Evidence, outcomes: dict[CheckName, str]) -> list[FigureRow | None]:
    now, before = case.memory or MemoryRecord(), level.memory or MemoryRecord()
    rows = []
    for part, name in _MEMORY.items():
        eager, here = getattr(now, f"reference_{part}_bytes"), getattr(now, f"candidate_{part}_bytes")
        then = getattr(before, f"candidate_{part}_bytes")
        outcome = outcomes.get(CheckName.MEMORY, "") if part == "peak" else ""
        rows.append(_row(name, eager, then, here, format_bytes, outcome))
    return rows


def _compile_rows(case: CaseResult, level: Evidence, outcomes: dict[CheckName, str]) -> list[FigureRow | None]:
    now, before = case.compile, level.compile
    cold = (before.cold_seconds if before else None, now.cold_seconds if now else None)
    counts = [(name, getattr(before, name, None), getattr(now, name, None)) for name in _COUNTS]
    outcome = outcomes.get(CheckName.COMPILE, "")
    return [
        _row("cold compile", None, *cold, format_seconds, outcomes.get(CheckName.COMPILE_TIME, "")),
        *(
            _row(name.replace("_", " "), None, then, here, _count, outcome if then != here else "", growth="")
            for name, then, here in counts
        ),
    ]


def _row(
    name: str,
    eager: object,
    before: object,
    here: object,
    write: Callable[..., str],
    outcome: str = "",
    *,
    growth: str | None = None,
) -> FigureRow | None:
    """Write one figure, with its growth where none is given; None where neither this run nor the baseline has it."""
    if before is None and here is None:
        return None
    eager_text, before_text, here_text = (
        _UNKNOWN if value is None else write(value) for value in (eager, before, here)
    )
    return FigureRow(
        name, eager_text, before_text, here_text, _growth(before, here) if growth is None else growth, outcome
    )


def _growth(before: object, here: object) -> str:
    if not isinstance(before, int | float) or not isinstance(here, int | float) or not before:
        return ""
    return format_percent(here / before - 1, signed=True)


def _growth_of_ratio(before: RatioSummary | None, here: RatioSummary | None) -> str:
    return "" if before is None or here is None else format_percent(here.ratio / before.ratio - 1, signed=True)


def _ratio(times: RatioSummary) -> str:
    return f"{times.ratio:.3g} [{times.low:.3g}, {times.high:.3g}]"


def _count(value: float) -> str:
    return f"{value:g}"


def _median(timing: Sequence[ProcessRecord], variant: str) -> float | None:
    seconds = [process.seconds[variant] for process in timing if variant in process.seconds]
    return statistics.median(seconds) if seconds else None


def _device(timing: Sequence[ProcessRecord]) -> float | None:
    seconds = [process.device_seconds for process in timing if process.device_seconds is not None]
    return statistics.fmean(seconds) if seconds else None


def _launches(before: Sequence[ProcessRecord], now: Sequence[ProcessRecord]) -> tuple[float | None, float | None]:
    """Return the fewest kernels launched per call, then and now; where there are more now, the most there were then."""
    known = [[one.launches for one in side if one.launches is not None] for side in (before, now)]
    least, least_now = (min(side, default=None) for side in known)
    has_grown = least_now is not None and least_now > max(known[0], default=math.inf)
    return (max(known[0]) if has_grown else least), least_now
