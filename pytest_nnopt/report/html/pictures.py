"""Which pictures a case has, and what each says in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from pytest_nnopt.model import CheckName
from pytest_nnopt.report.html.plots import (
    Estimate,
    LeafShare,
    Mark,
    Series,
    plot_history,
    plot_intervals,
    plot_leaves,
    plot_processes,
)
from pytest_nnopt.report.html.svg import Ink
from pytest_nnopt.units import format_percent, format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.results import CaseResult, CheckRecord, LeafResult, RatioSummary

_MOST_RECORDINGS = 30
_UNIT = "candidate's time over eager's (lower is faster)"
_BASELINE, _HERE = "baseline", "this run"


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as SVG with its title and a sentence that says the same."""

    title: str
    caption: str
    svg: str


def draw_pictures(case: CaseResult, leaves: Sequence[LeafResult], *, name: str) -> tuple[Picture, ...]:
    """Draw what can be drawn of a case.

    Args:
        case: what to draw.
        leaves: the leaves to show, in the order of their numbers.
        name: unique on the page.
    """
    drawn = (
        _draw_interval(case, name),
        _draw_processes(case, name),
        _draw_device_time(case, name),
        _draw_history(case, name),
        _draw_leaves(leaves, name),
    )
    return tuple(picture for picture in drawn if picture is not None)


def _draw_interval(case: CaseResult, name: str) -> Picture | None:
    sides = _sides(case)
    caption = "; ".join(f"{side.label} {side.value:.3g} [{side.low:.3g}, {side.high:.3g}]" for side in sides)
    marks = _marks(case)
    caption += "".join(f"; {mark.label} at {mark.value:.3g}" for mark in marks if mark.is_limit)
    svg = plot_intervals(sides, marks, unit=_UNIT, name=f"{name}-interval", label=f"Intervals: {caption}")
    title = "Time against the baseline" if len(sides) > 1 else "Time against eager"
    return _picture(title, f"{caption}. Bars are 95 % intervals.", svg)


def _draw_processes(case: CaseResult, name: str) -> Picture | None:
    level = case.context.level.timing if case.context and case.context.level else ()
    series = [
        side for side in (_series(_BASELINE, level, Ink.BASELINE), _series(_HERE, case.timing, Ink.HEAD)) if side.values
    ]
    counts = " and ".join(f"{len(side.values)} of the {side.label}".replace("the this", "this") for side in series)
    caption = f"Processes: {counts}, each with what its own blocks leave open"
    svg = plot_processes(series, _marks(case), unit=_UNIT, name=f"{name}-processes", label=caption)
    return _picture("Every process", f"{caption}.", svg)


def _draw_device_time(case: CaseResult, name: str) -> Picture | None:
    check = _find(case, CheckName.DEVICE_TIME)
    level = case.context.level.timing if case.context and case.context.level else ()
    before, here = _device_micros(level), _device_micros(case.timing)
    if check is None or check.interval is None or check.value is None or not before or not here:
        return None
    mean = fmean(before)
    sides = [
        Estimate(_BASELINE, mean, min(before), max(before), Ink.BASELINE),
        Estimate(
            _HERE, mean * (1 + check.value), mean * (1 + check.interval.low), mean * (1 + check.interval.high), Ink.HEAD
        ),
    ]
    marks = [Mark("limit", mean * (1 + check.limit), Ink.LIMIT, is_limit=True)] if check.limit is not None else []
    times = [format_seconds(side.value / 1e6) for side in sides]
    caption = f"Kernels' own time per call: baseline {times[0]}, this run {times[1]}"
    svg = plot_intervals(sides, marks, unit="µs of kernels per call", name=f"{name}-device", label=caption)
    return _picture(
        "Kernel time", f"{caption}. The baseline's bar is the range of its processes, this run's the interval.", svg
    )


def _draw_history(case: CaseResult, name: str) -> Picture | None:
    recordings = case.context.history[-_MOST_RECORDINGS:] if case.context else ()
    if not recordings:
        return None
    points = [_estimate(f"{found.recorded.day} {found.recorded:%b}", found.times, Ink.BASELINE) for found in recordings]
    points += [side for side in _sides(case) if side.label == _HERE]
    marks = [mark for mark in _marks(case) if mark.is_limit]
    caption = f"{len(recordings)} recording{'s' if len(recordings) > 1 else ''} from {recordings[0].recorded:%Y-%m-%d}"
    svg = plot_history(points, marks, unit="time over eager's", name=f"{name}-history", label=f"History: {caption}")
    return _picture("History over recordings", f"{caption}, and this run.", svg)


def _draw_leaves(leaves: Sequence[LeafResult], name: str) -> Picture | None:
    shares = [share for number, leaf in enumerate(leaves, 1) if (share := _share(f"#{number}", leaf)) is not None]
    caption = "Errors of the candidate (●) and of eager (◆), each as a multiple of the candidate's limit"
    svg = plot_leaves(shares, name=f"{name}-leaves", label=caption)
    return _picture("Numerics by leaf", f"{caption}. Numbers are those of the table below.", svg)


def _picture(title: str, caption: str, svg: str | None) -> Picture | None:
    return None if svg is None else Picture(title, caption, svg)


def _share(label: str, leaf: LeafResult) -> LeafShare | None:
    """Return the errors of the kind that comes closer to its limit; None where none was measured."""
    kinds = (
        (leaf.candidate_nrmse, leaf.reference_nrmse, leaf.limit_nrmse),
        (leaf.candidate_max, leaf.reference_max, leaf.limit_max),
    )
    shares = [
        LeafShare(label, candidate / limit, None if reference is None else reference / limit)
        for candidate, reference, limit in kinds
        if candidate is not None and limit
    ]
    return max(shares, key=lambda share: share.candidate or 0.0, default=None)


def _sides(case: CaseResult) -> list[Estimate]:
    """Return the estimates that there are, the baseline's first."""
    context = case.context
    found = ((_BASELINE, context.level_times, Ink.BASELINE), (_HERE, context.times, Ink.HEAD)) if context else ()
    return [_estimate(label, times, ink) for label, times, ink in found if times is not None]


def _estimate(label: str, times: RatioSummary, ink: Ink) -> Estimate:
    return Estimate(label, times.ratio, times.low, times.high, ink)


def _marks(case: CaseResult) -> list[Mark]:
    """Return what a case's time is held against, and where eager is."""
    marks = [Mark("eager", 1.0, Ink.MUTED, is_optional=True)]
    latency, speedup = _find(case, CheckName.LATENCY), _find(case, CheckName.SPEEDUP)
    level = case.context.level_times if case.context else None
    if latency is not None and latency.limit is not None and level is not None:
        label = f"limit {format_percent(latency.limit, signed=True)}"
        marks.append(Mark(label, level.ratio * (1 + latency.limit), Ink.LIMIT, is_limit=True))
    if speedup is not None and speedup.limit:
        marks.append(Mark(f"wanted {speedup.limit:g}x", 1 / speedup.limit, Ink.LIMIT, is_limit=True))
    return marks


def _series(label: str, timing: Sequence[ProcessRecord], ink: Ink) -> Series:
    ratios = [math.exp(process.candidate_to_reference.log_ratio) for process in timing]
    errors = [math.sqrt(process.candidate_to_reference.variance) for process in timing]
    return Series(
        label,
        tuple(ratios),
        tuple(ratio * error for ratio, error in zip(ratios, errors, strict=True)),
        ink,
    )


def _device_micros(timing: Sequence[ProcessRecord]) -> list[float]:
    return [process.device_seconds * 1e6 for process in timing if process.device_seconds]


def _find(case: CaseResult, name: CheckName) -> CheckRecord | None:
    return next((check for check in case.checks if check.name is name), None)
