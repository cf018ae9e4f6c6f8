"""Comparisons written for people, as lines of text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.numerics.comparison import Lane, LeafComparison, NumericsComparison

if TYPE_CHECKING:
    from pytest_nnopt.numerics.locate import Located, WorstElement

_SHOWN_LEAVES = 3
_TITLES = {"nrmse": "rms", "maximum": "largest", "gain": "gain", "offset": "offset"}


def describe_problem(leaf: LeafComparison) -> str:
    """Say in one line what is wrong with a leaf, with a figure that is beyond its limit where there is one."""
    figure = _telling_figure(leaf)
    return f"{leaf.path}: {leaf.problem}" + (f" ({figure})" if figure else "")


def describe_comparison(comparison: NumericsComparison, *, has_headline: bool = False) -> list[str]:
    """Describe what failed, worst leaf first, and what was not compared; empty if there is nothing to say.

    Args:
        comparison: what to describe.
        has_headline: whether the lines stand below the worst leaf's ``describe_problem``, which they do not repeat.
    """
    failed = sorted((leaf for leaf in comparison.leaves if not leaf.is_within), key=lambda leaf: -leaf.excess)
    lines = [line for leaf in failed[:_SHOWN_LEAVES] for line in describe_leaf(leaf)]
    if has_headline and failed:
        lines[0] = _name_of(failed[0])
    if len(failed) > _SHOWN_LEAVES:
        names = ", ".join(leaf.path for leaf in failed[_SHOWN_LEAVES : 2 * _SHOWN_LEAVES])
        lines.append(f"and {len(failed) - _SHOWN_LEAVES} more of {len(comparison.leaves)} leaves: {names}")
    if comparison.lane is Lane.DTYPE and any(leaf.lane is Lane.DTYPE for leaf in failed):
        lines.append(f"no float64 run, so the dtype's tolerance was used: {comparison.lane_reason}")
    return [*lines, *describe_not_compared(comparison), *comparison.notes]


def describe_agreement(leaves: int) -> str:
    """Say that so many leaves agree."""
    return "1 leaf agrees" if leaves == 1 else f"{leaves} leaves agree"


def describe_not_compared(comparison: NumericsComparison) -> list[str]:
    """Name the first few things that exist on one side only, and say how many more there are."""
    missing = comparison.not_compared
    lines = [f"not compared: {what}" for what in missing[:_SHOWN_LEAVES]]
    if len(missing) > _SHOWN_LEAVES:
        lines.append(f"not compared: {len(missing) - _SHOWN_LEAVES} more")
    return lines


def describe_leaf(leaf: LeafComparison) -> list[str]:
    """Describe one leaf: what is wrong, the worst element, and the errors against their limits."""
    lines = [f"{_name_of(leaf)}: {leaf.problem or 'within its limits'}"]
    if leaf.located is not None and leaf.located.worst is not None:
        lines += _element_lines(leaf, leaf.located, leaf.located.worst)
    if leaf.candidate is not None and leaf.limits is not None:
        lines += _error_lines(leaf)
    if leaf.note is not None:
        lines.append(f"  {leaf.note}")
    return lines


def _name_of(leaf: LeafComparison) -> str:
    if leaf.dtype == "constant":
        return f"{leaf.path} ({leaf.kind.value})"
    return f"{leaf.path} ({leaf.kind.value}, {leaf.dtype} {list(leaf.shape)})"


def _telling_figure(leaf: LeafComparison) -> str | None:
    """Return a figure that is beyond its limit; None where the problem is not one of size, such as a misplaced NaN."""
    if not math.isfinite(leaf.excess):
        return None
    return (
        _figure_beyond(leaf, ("nrmse", "maximum")) or _element_beyond(leaf) or _figure_beyond(leaf, ("gain", "offset"))
    )


def _figure_beyond(leaf: LeafComparison, names: tuple[str, ...]) -> str | None:
    for name in names:
        figure, limit = abs(getattr(leaf.candidate, name, 0.0)), getattr(leaf.limits, name, math.inf)
        if figure > limit:
            return f"{_TITLES[name]} {figure:.2g}, limit {limit:.2g}"
    return None


def _element_beyond(leaf: LeafComparison) -> str | None:
    if leaf.located is None or leaf.located.worst is None or not leaf.located.off:
        return None
    worst = leaf.located.worst
    return f"error {_error_of(leaf, worst):.2g}, limit {worst.limit:.2g}"


def _error_of(leaf: LeafComparison, worst: WorstElement) -> float:
    target = worst.expected if leaf.lane is Lane.DECLARED else worst.true
    return abs(worst.actual - target)


def _element_lines(leaf: LeafComparison, located: Located, worst: WorstElement) -> list[str]:
    where = f"[{', '.join(map(str, worst.index))}]{worst.part and f'.{worst.part}'}"
    line = f"  worst at {where}: actual {worst.actual:.9g}, expected {worst.expected:.9g}"
    if leaf.lane is Lane.FLOAT64:
        line += f", in float64 {worst.true:.9g}"
    if worst.limit:
        line += f"; error {_error_of(leaf, worst):.3g}, limit {worst.limit:.3g}"
    off = f"  {located.off} of {_elements(leaf)} elements are beyond their limit"
    return [line, f"{off}; largest difference {located.maximum:.3g}, relative {located.relative_maximum:.3g}"]


def _elements(leaf: LeafComparison) -> int:
    count = 1
    for size in leaf.shape:
        count *= size
    return count


def _error_lines(leaf: LeafComparison) -> list[str]:
    against = "the reference" if leaf.reference is None else "float64"
    lines = [f"  error against {against}: candidate{' / reference' if leaf.reference else ''} (limit)"]
    for name, title in _TITLES.items():
        figures = [leaf.candidate] if leaf.reference is None else [leaf.candidate, leaf.reference]
        written = " / ".join(f"{getattr(figure, name):.3g}" for figure in figures)
        lines.append(f"    {title:<8}{written} ({getattr(leaf.limits, name):.3g})")
    return lines
