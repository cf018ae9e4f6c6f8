"""What changed between the level and this run, as the lines of a diff."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_nnopt.units import format_percent, format_seconds
from pytest_nnopt.verdict.device_time import describe_launch

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, KernelRecord, ProcessRecord

_SAME_TIME = 0.02
"""Growth of a kernel's own time below which it is the same: between processes it varies by less."""

_FIGURES = ("status", "used", "graphs", "graph_breaks", "recompiles", "eager_frames")


@dataclass(frozen=True, slots=True)
class Change:
    """One line: what was added (``+``), removed (``-``) or altered (``~``)."""

    sign: str
    text: str


@dataclass(frozen=True, slots=True)
class _Event:
    """Something that went wrong at a place in the source."""

    kind: str
    reason: str
    file: str | None = None
    line: int | None = None
    code: str | None = None

    def describe(self) -> str:
        place = "" if self.file is None else f" {self.file}" if self.line is None else f" {self.file}:{self.line}"
        return f"{self.kind}{place}: {self.reason}" + (f" — {self.code}" if self.code else "")


def describe_events(record: CompileRecord | None) -> list[str]:
    """Return a line for each graph break, recompile, eager frame and skipped CUDA graph."""
    return [] if record is None else [event.describe() for event in _events(record)]


def changed_events(now: CompileRecord | None, before: CompileRecord | None) -> list[Change]:
    """Name graph breaks, recompiles, eager frames and skipped CUDA graphs that came or went.

    One whose line merely moved did neither. Empty where a side is unknown.
    """
    if now is None or before is None:
        return []
    here, there = Counter(map(_without_line, _events(now))), Counter(map(_without_line, _events(before)))
    shown = {_without_line(event): event.describe() for event in (*_events(before), *_events(now))}
    removed = [Change("-", shown[event]) for event in (there - here).elements()]
    return removed + [Change("+", shown[event]) for event in (here - there).elements()]


def changed_code(now: CompileRecord | None, before: CompileRecord | None) -> list[Change]:
    """Name generated and library kernels that the generated code calls more or less often. Empty where unknown."""
    changes = []
    for field, what in (("kernels", "generated kernel"), ("external_kernels", "library kernel")):
        here, there = getattr(now, field, None), getattr(before, field, None)
        if here is None or there is None:
            continue
        counts = {name: (there.get(name), here.get(name)) for name in {**there, **here}}
        changes += [_describe_call(f"{what} {name}", *pair) for name, pair in counts.items() if pair[0] != pair[1]]
    return sorted(changes, key=lambda change: "-+~".index(change.sign))


def changed_figures(now: CompileRecord | None, before: CompileRecord | None) -> list[Change]:
    """Name the compilation's figures that are others than before. Empty where a side is unknown."""
    if now is None or before is None:
        return []
    values = {name: (getattr(before, name), getattr(now, name)) for name in _FIGURES}
    counted = {
        name: (before.counters.get(name), now.counters.get(name)) for name in {**before.counters, **now.counters}
    }
    return [_describe_figure(name, *pair) for name, pair in {**values, **counted}.items() if pair[0] != pair[1]]


def changed_kernels(now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]) -> list[Change]:
    """Name the candidate's kernels that came, went, or take another time, costliest change first.

    The last process of each side with kernels speaks for it. Empty where a side has none.
    """
    here, there = _kernels_of(now), _kernels_of(before)
    if not here or not there:
        return []
    altered = [name for name in there if name in here and _is_altered(here[name], there[name])]
    changes = [(there[name].seconds, _only("-", name, there[name])) for name in there if name not in here]
    changes += [(here[name].seconds, _only("+", name, here[name])) for name in here if name not in there]
    changes += [
        (abs(here[name].seconds - there[name].seconds), _altered(name, here[name], there[name])) for name in altered
    ]
    return [change for _, change in sorted(changes, key=lambda pair: -pair[0])]


def _events(record: CompileRecord) -> list[_Event]:
    found = [_Event("graph break", one.reason, one.file, one.line, one.code) for one in record.breaks]
    found += [_Event("run eagerly", one.reason, one.file, one.line, one.code) for one in record.eager_reasons]
    found += [_Event("no CUDA graph", one.reason, one.file, one.line, one.code) for one in record.skips]
    for one in record.recompiled:
        reason = one.reason or "reason unknown"
        found.append(_Event(f"recompile of {one.function}", reason, one.file, one.line, one.code))
    return found


def _without_line(event: _Event) -> _Event:
    return replace(event, line=None)


def _describe_call(name: str, before: int | None, now: int | None) -> Change:
    if before is None:
        return Change("+", f"{name} x{now}")
    if now is None:
        return Change("-", f"{name} x{before}")
    return Change("~", f"{name} x{before} → x{now}")


def _describe_figure(name: str, before: object, now: object) -> Change:
    words = name.replace("_", " ")
    if before is None:
        return Change("+", f"{words} {now}")
    if now is None:
        return Change("-", f"{words} {before}")
    return Change("~", f"{words} {before} → {now}")


def _kernels_of(processes: Sequence[ProcessRecord]) -> Mapping[str, KernelRecord]:
    return next((process.kernels for process in reversed(processes) if process.kernels), {})


def _only(sign: str, name: str, kernel: KernelRecord) -> Change:
    return Change(sign, f"kernel {name}: {format_seconds(kernel.seconds)} per call, launched {kernel.count:g} times")


def _is_altered(now: KernelRecord, before: KernelRecord) -> bool:
    return now.count != before.count or abs(now.seconds - before.seconds) > _SAME_TIME * before.seconds


def _altered(name: str, now: KernelRecord, before: KernelRecord) -> Change:
    growth = f" ({format_percent(now.seconds / before.seconds - 1, signed=True)})" if before.seconds else ""
    launches = "" if now.count == before.count else f", launched {before.count:g} → {now.count:g} times"
    times = f"{format_seconds(before.seconds)} → {format_seconds(now.seconds)} per call"
    return Change("~", f"kernel {name}: {times}{growth}{launches}{describe_launch(now, before)}")
