"""What else moved when a case became slower: the likely cause, or that nothing structural moved."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.compilation import generated_code
from pytest_nnopt.model import Variant
from pytest_nnopt.units import format_percent, format_seconds
from pytest_nnopt.verdict.counters import (
    explaining_figures,
    graph_figures,
    judged_figures,
    kernel_changes,
    operation_changes,
)
from pytest_nnopt.verdict.device_time import describe_kernel_changes
from pytest_nnopt.verdict.growth import memory_growths
from pytest_nnopt.verdict.launched import with_kernels

if TYPE_CHECKING:
    from pytest_nnopt.baseline.compilation import CompileLevel
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.verdict.question import Observed, Question

_SHOWN_LINES = 8
_SHOWN_PLACES = 3
_LINE_END = "\n"
_SAME_HOST_TIME = 0.05
"""Change of the time spent outside of a GPU's kernels that its own noise between processes hides."""
_TELLING_SHARE = 0.01
"""Change of that time over the latency, below which it explains no slowdown: where the host is ahead, next to no time
is spent outside of kernels, and any change of it is large beside itself."""


def explain_slowdown(question: Question, observed: Observed) -> tuple[str, ...]:
    """Say what moved beside the latency, or that nothing did and where the cause is then to be sought.

    Compared are what was gathered in this run and what the baseline holds: breaks and other counters, kernels, memory,
    and on a GPU the host's time. A part that either side lacks is named, so that "nothing moved" claims no more than
    was looked at.

    Returns:
        lines for people, never empty.
    """
    level = question.compilation
    moved = [] if level is None else _compile_changes(observed, level)
    moved += _device_changes(question, observed)
    moved += _memory_changes(question, observed)
    compared = _compared_parts(question, observed)
    if moved:
        hidden = len(moved) - _SHOWN_LINES
        more = [f"  and {hidden} more"] if hidden > 0 else []
        return ("what else moved:", *(f"  {line}" for line in moved[:_SHOWN_LINES]), *more)
    if not compared:
        return ("what else moved is unknown: this run and its baseline have neither counters nor memory in common",)
    return (f"nothing structural moved ({', '.join(compared)} are as before): suspect the machine or a library first",)


def _compile_changes(observed: Observed, level: CompileLevel) -> list[str]:
    """Name the counters that moved, with the new places behind them, then the kernels and the operations.

    Where compilations of this run differ, the kernels of its own are no reason of times that were measured elsewhere.
    """
    lines, facts = [], observed.compile
    judged = judged_figures(facts, level, bytes_tolerance=0.0, further=generated_code(observed.timing))
    for figure in [*judged, *explaining_figures(facts, level)]:
        places = () if figure.name in ("generated kernels", "external kernels") else figure.new[:_SHOWN_PLACES]
        if figure.has_moved:
            lines.append(figure.change)
        elif places:
            lines.append(f"{figure.name}: as many as before, but not the same")
        lines += [
            f"  new: {place.partition(_LINE_END)[0]}" for place in places
        ]  # the check of compilation says the rest
    kernels = [] if any(figure.varies for figure in judged) else kernel_changes(facts, level)
    return [*lines, *kernels, *operation_changes(facts, level)]


def _device_changes(question: Question, observed: Observed) -> list[str]:
    """Name a GPU's kernels that were added, removed or changed in time, and how the host's own time moved."""
    now, before = with_kernels(observed.timing), with_kernels(_recorded_timing(question))
    if not now or not before:
        return []
    lines = describe_kernel_changes(now, before)
    host_now, host_before = (statistics.median(map(_host_seconds, side)) for side in (now, before))
    least = max(_SAME_HOST_TIME * host_before, _TELLING_SHARE * statistics.median(map(_latency, before)))
    if host_before > 0 and abs(host_now - host_before) > least:
        change = format_percent(host_now / host_before - 1, signed=True)
        lines.append(
            f"time outside the kernels {format_seconds(host_before)} → {format_seconds(host_now)} per call ({change})"
        )
    return lines


def _memory_changes(question: Question, observed: Observed) -> list[str]:
    level = question.baseline
    if observed.memory is None or level is None or level.memory is None:
        return []
    growths = memory_growths(observed.memory, level.memory, limit=0.0)
    return [
        f"{growth.what} {growth.write(growth.before)} → {growth.write(growth.now)} "
        f"({format_percent(growth.change, signed=True)})"
        for growth in growths
        if growth.change
    ]


def _compared_parts(question: Question, observed: Observed) -> list[str]:
    """Name what could be compared."""
    level = question.compilation
    parts: list[str] = []
    if level is not None:
        figures = [*graph_figures(observed.compile, level), *explaining_figures(observed.compile, level)]
        known = {figure.name for figure in figures if figure.is_known}
        parts += [name for name in ("graphs", "graph breaks", "recompiles") if name in known]
        is_known = level.record.kernels is not None and observed.compile.kernels is not None
        parts += ["generated code"] if is_known and not level.code_differences else []
    if with_kernels(observed.timing) and with_kernels(_recorded_timing(question)):
        parts.append("kernels")
    if observed.memory is not None and question.baseline is not None and question.baseline.memory is not None:
        parts.append("memory")
    return parts


def _recorded_timing(question: Question) -> Sequence[ProcessRecord]:
    return () if question.baseline is None else question.baseline.timing


def _host_seconds(process: ProcessRecord) -> float:
    """Return the seconds per call in which no kernel of the candidate ran, as far as kernels do not overlap."""
    return max(0.0, _latency(process) - (process.device_seconds or 0.0))


def _latency(process: ProcessRecord) -> float:
    return process.seconds[Variant.CANDIDATE.value]
