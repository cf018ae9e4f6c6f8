"""What a report draws: estimates with intervals, single processes, history, and errors against their limits.

Every figure is 380 units wide, so that it is readable on a telephone, too. Labels are texts of this module or figures,
never names out of a results file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pytest_nnopt.report.html.svg import Ink, in_own_style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 380.0
_POINTS_PER_INCH = 72.0
_LEFT, _RIGHT, _BOTTOM, _TOP = 74.0, 12.0, 42.0, 36.0
_ROW = 28.0
_PROCESS_ROW = 9.0
_HISTORY_HEIGHT = 120.0
_LEAF_ROW = 19.0
_FONT = 12.0
_SMALL = 11.0
_PADDING = 0.07
_DEVIATIONS = 1.96
_STRETCH = 3.0
"""How many times wider an optional mark may make the axis."""

_SMALLEST, _LARGEST = 1e-12, 1e12
_LEAST_SHARE, _MOST_SHARE = 1e-3, 1e3
"""Ends of the axis of errors; what lies beyond is drawn at its end."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        label: what it is of.
        value: the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
        ink: its colour.
    """

    label: str
    value: float
    low: float
    high: float
    ink: Ink


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across the axis.

    Attributes:
        label: what it is.
        value: where it is.
        ink: its colour.
        is_limit: whether what lies above it is too much.
        is_optional: whether it is left out where it would squeeze everything else.
    """

    label: str
    value: float
    ink: Ink
    is_limit: bool = False
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """The processes of one side: a figure each and its standard error."""

    label: str
    values: tuple[float, ...]
    errors: tuple[float, ...]
    ink: Ink

    @property
    def ends(self) -> list[float]:
        """Both ends of each process's 95 % interval."""
        pairs = zip(self.values, self.errors, strict=True)
        return [value + sign * _DEVIATIONS * error for value, error in pairs for sign in (-1, 1)]


@dataclass(frozen=True, slots=True)
class LeafShare:
    """A leaf's errors as multiples of the candidate's limit; None where unknown."""

    label: str
    candidate: float | None
    reference: float | None


@in_own_style
def plot_intervals(
    estimates: Sequence[Estimate], marks: Sequence[Mark], *, unit: str, name: str, label: str
) -> str | None:
    """Draw estimates below each other on one axis; None where there is nothing that fits on one."""
    figures = [figure for estimate in estimates for figure in (estimate.value, estimate.low, estimate.high)]
    if not _are_drawable(figures):
        return None
    marks = _marks_that_fit(marks, figures)
    figure, axes = _open(len(estimates) * _ROW)
    _set_range(axes, [*figures, *(mark.value for mark in marks)])
    _draw_marks(axes, marks)
    for row, estimate in enumerate(estimates):
        errors = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
        axes.errorbar(
            estimate.value,
            -row,
            xerr=[[max(0.0, error) for error in side] for side in errors],
            fmt="o",
            markersize=6,
            capsize=4,
            linewidth=2,
            color=estimate.ink.value,
        )
    _name_rows(axes, [estimate.label for estimate in estimates])
    axes.set_xlabel(unit)
    return to_svg(figure, name=name, label=label)


@in_own_style
def plot_processes(series: Sequence[Series], marks: Sequence[Mark], *, unit: str, name: str, label: str) -> str | None:
    """Draw every process of each side in the order measured, first on top; None where there is nothing to draw."""
    figures = [figure for side in series for figure in (*side.values, *side.ends)]
    if not _are_drawable(figures):
        return None
    marks = _marks_that_fit(marks, figures)
    rows = sum(len(side.values) + 1 for side in series) - 1
    figure, axes = _open(max(rows * _PROCESS_ROW, _ROW))
    _set_range(axes, [*figures, *(mark.value for mark in marks)])
    _draw_marks(axes, marks)
    ticks, row = [], 0
    for side in series:
        positions = [-(row + index) for index in range(len(side.values))]
        errors = [_DEVIATIONS * error for error in side.errors]
        axes.errorbar(
            side.values, positions, xerr=errors, fmt="o", markersize=4, linewidth=1, color=side.ink.value, alpha=0.8
        )
        ticks.append(sum(positions) / len(positions))
        row += len(side.values) + 1
    axes.set_yticks(ticks, [side.label for side in series])
    axes.set_ylim(-rows + 0.2, 0.8)
    axes.set_xlabel(unit)
    return to_svg(figure, name=name, label=label)


@in_own_style
def plot_history(points: Sequence[Estimate], marks: Sequence[Mark], *, unit: str, name: str, label: str) -> str | None:
    """Draw one figure over recordings, oldest on the left; None where there is nothing to draw."""
    figures = [figure for point in points for figure in (point.value, point.low, point.high)]
    if not _are_drawable(figures):
        return None
    marks = _marks_that_fit(marks, figures)
    figure, axes = _open(_HISTORY_HEIGHT)
    low, high = _range_of([*figures, *(mark.value for mark in marks)])
    axes.set_ylim(low, high)
    for mark in marks:
        axes.axhline(mark.value, color=mark.ink.value, linewidth=1.2, linestyle=(0, (4, 3)))
        if mark.is_limit:
            axes.axhspan(mark.value, high, color=Ink.BEYOND.value, linewidth=0)
        axes.text(
            1.0,
            mark.value,
            mark.label,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            color=mark.ink.value,
            fontsize=_SMALL,
        )
    axes.plot(range(len(points)), [point.value for point in points], color=Ink.LINE.value, linewidth=1)
    for index, point in enumerate(points):
        errors = [[max(0.0, point.value - point.low)], [max(0.0, point.high - point.value)]]
        axes.errorbar(index, point.value, yerr=errors, fmt="o", markersize=5, capsize=3, color=point.ink.value)
    axes.set_xlim(-0.5, len(points) - 0.5)
    shown = _spread(len(points), most=5)
    axes.set_xticks(shown, [points[index].label for index in shown])
    axes.set_ylabel(unit)
    axes.yaxis.set_major_formatter(_shortly)
    return to_svg(figure, name=name, label=label)


@in_own_style
def plot_leaves(leaves: Sequence[LeafShare], *, name: str, label: str) -> str | None:
    """Draw both sides' errors of each leaf as multiples of the limit on a logarithmic axis; None of no leaves."""
    if not leaves:
        return None
    figure, axes = _open(len(leaves) * _LEAF_ROW)
    axes.set_xscale("log")
    shares = [_within_ends(share) for leaf in leaves for share in (leaf.candidate, leaf.reference) if share is not None]
    low, high = min([*shares, 0.1]) / 1.6, max([*shares, 1.0]) * 2.5
    axes.set_xlim(low, high)
    axes.axvline(1.0, color=Ink.LIMIT.value, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.axvspan(1.0, high, color=Ink.BEYOND.value, linewidth=0)
    axes.text(
        1.0,
        1.03,
        "limit",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="bottom",
        color=Ink.LIMIT.value,
        fontsize=_SMALL,
    )
    for row, leaf in enumerate(leaves):
        axes.axhline(-row, color=Ink.LINE.value, linewidth=0.6, zorder=0)
        _draw_share(axes, leaf.reference, row, Ink.BASELINE, "D")
        _draw_share(axes, leaf.candidate, row, Ink.HEAD, "o")
    _name_rows(axes, [leaf.label for leaf in leaves])
    axes.xaxis.set_major_formatter(_shortly)
    axes.minorticks_off()
    axes.set_xlabel("error, as a multiple of the candidate's limit")
    return to_svg(figure, name=name, label=label)


def _draw_share(axes: Axes, share: float | None, row: int, ink: Ink, marker: str) -> None:
    if share is not None:
        axes.plot([_within_ends(share)], [-row], marker, markersize=5.5, color=ink.value)


def _within_ends(share: float) -> float:
    return min(max(share, _LEAST_SHARE), _MOST_SHARE)


def _are_drawable(figures: Sequence[float]) -> bool:
    """Whether there are figures and all are of a size that an axis can show."""
    return bool(figures) and all(_SMALLEST < figure < _LARGEST for figure in figures)


def _marks_that_fit(marks: Iterable[Mark], figures: Sequence[float]) -> list[Mark]:
    """Leave out marks that no axis can show, and optional ones far from all figures."""
    kept = [mark for mark in marks if not mark.is_optional and _are_drawable([mark.value])]
    needed = [*figures, *(mark.value for mark in kept)]
    low, high = _range_of(needed)
    near = [
        mark
        for mark in marks
        if mark.is_optional and max(mark.value, high) - min(mark.value, low) < _STRETCH * (high - low)
    ]
    return [*kept, *near]


def _range_of(figures: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis for these figures, never an empty one."""
    low, high = min(figures), max(figures)
    padding = max((high - low) * _PADDING, high * 0.005)
    return low - padding, high + padding


def _set_range(axes: Axes, figures: Sequence[float]) -> None:
    axes.set_xlim(*_range_of(figures))
    axes.xaxis.set_major_formatter(_shortly)


def _shortly(value: float, _position: float) -> str:
    """Write a tick's figure."""
    return f"{value:.4g}"


def _draw_marks(axes: Axes, marks: Sequence[Mark]) -> None:
    """Draw lines across, each labelled above the axis on a line of its own where labels would meet."""
    low, high = axes.get_xlim()
    for level, mark in enumerate(sorted(marks, key=lambda mark: mark.value)):
        axes.axvline(mark.value, color=mark.ink.value, linewidth=1.2, linestyle=(0, (4, 3)))
        if mark.is_limit:
            axes.axvspan(mark.value, high, color=Ink.BEYOND.value, linewidth=0)
        share = (mark.value - low) / (high - low)
        side = "left" if share < 0.2 else "right" if share > 0.8 else "center"
        axes.annotate(
            mark.label,
            (mark.value, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 2 + 12 * (level % 3)),
            textcoords="offset points",
            ha=side,
            va="bottom",
            color=mark.ink.value,
            fontsize=_SMALL,
        )


def _name_rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks([-row for row in range(len(labels))], list(labels))
    axes.set_ylim(-len(labels) + 0.4, 0.6)


def _spread(count: int, *, most: int) -> list[int]:
    """Return at most so many indices, evenly spread, the last one always among them."""
    step = max(1, math.ceil(count / most))
    return list(range((count - 1) % step, count, step))


def _open(height: float) -> tuple[Figure, Axes]:
    """Return a figure whose drawing area is so high, and its axes, plain and in the page's colours."""
    total = height + _BOTTOM + _TOP
    figure = Figure(figsize=(_WIDTH / _POINTS_PER_INCH, total / _POINTS_PER_INCH), facecolor="none")
    box = (_LEFT / _WIDTH, _BOTTOM / total, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, height / total)
    axes = figure.add_axes(box, facecolor="none")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(Ink.LINE.value)
    axes.tick_params(colors=Ink.LINE.value, labelcolor=Ink.TEXT.value, labelsize=_FONT, length=3)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.label.set(color=Ink.MUTED.value, fontsize=_FONT)
    axes.yaxis.label.set(color=Ink.MUTED.value, fontsize=_FONT)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes
