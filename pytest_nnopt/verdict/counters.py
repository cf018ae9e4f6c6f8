"""Exact figures of a compilation against recorded ones: what grew, what fell, and the lines of code behind it.

Pure comparison, used both for the check of compile health and to explain a slowdown. Places are matched by file name,
function, code and reason but not by line number, so code that moved is not new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_nnopt.files import short_path
from pytest_nnopt.model import CODE_COUNTERS, TIMED_CHOICES
from pytest_nnopt.units import format_bytes

if TYPE_CHECKING:
    from pytest_nnopt.baseline.compilation import CompileLevel
    from pytest_nnopt.baseline.schema import CompileRecord, GraphBreakRecord, RecompileRecord
    from pytest_nnopt.model import CompileFacts, GraphBreak, Recompile

    Place = GraphBreak | GraphBreakRecord | Recompile | RecompileRecord

_EXPLAINING = ("graphs", "calls_captured", "guards", "fused_nodes", "nodes_before_fusion")
"""Figures that tell why others moved. None is judged: fewer fused nodes may mean a smaller model, more graphs another
shape that the test declares. Where they cost anything, a judged figure moves."""

BYTES = "accessed by kernels"
"""The name of the figure that counts bytes and no things."""
_WORDS = {"bytes_accessed": BYTES}


@dataclass(frozen=True, slots=True)
class Figure:
    """One exact figure now and in the baseline; None means unknown, which is never compared.

    Attributes:
        name: what is counted, in words and in the plural.
        now: the figure of this run.
        before: the figure of the baseline.
        found: what is behind the figure, in words: places and reasons, or kernels.
        new: those of ``found`` that the baseline does not have.
        tolerance: tolerated growth as a fraction; 0 where any growth counts.
        is_by_chance: whether the compiler chose by timing what it generated, in this run or in the baseline.
        further: the figure in further compilations of this run.
        further_before: the figure in further compilations of the baseline.
    """

    name: str
    now: int | None
    before: int | None
    found: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    tolerance: float = 0.0
    is_by_chance: bool = False
    further: tuple[int, ...] = ()
    further_before: tuple[int, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether both values are."""
        return self.now is not None and self.before is not None

    @property
    def has_grown(self) -> bool:
        """Whether the figure is beyond its tolerance above the baseline's, in every compilation."""
        now, before = self._all_now, self._all_before
        return bool(now and before) and min(now) > max(before) * (1 + self.tolerance)

    @property
    def has_fallen(self) -> bool:
        """Whether the figure is beyond its tolerance below the baseline's, in every compilation."""
        now, before = self._all_now, self._all_before
        return bool(now and before) and max(now) < min(before) * (1 - self.tolerance)

    @property
    def has_moved(self) -> bool:
        """Whether it has grown or fallen."""
        return self.has_grown or self.has_fallen

    @property
    def varies(self) -> bool:
        """Whether compilations of this run differ in it."""
        return len(set(self._all_now)) > 1

    @property
    def compilations(self) -> tuple[int, int]:
        """How many compilations the figure is known of, in this run and in the baseline."""
        return len(self._all_now), len(self._all_before)

    @property
    def change(self) -> str:
        """Both values in words, of all compilations those that are nearest to each other: ``graph breaks 1 → 2``."""
        now, before = self._nearest
        return f"{self.name} {self._write(before)} → {self._write(now)}"

    @property
    def own_change(self) -> str:
        """Both values in words, of this run's own compilation and of the one that the baseline records."""
        return f"{self.name} {self._write(self.before)} → {self._write(self.now)}"

    def comparison(self, level: str) -> str:
        """The figure against a level's, as a failure says it: ``2 graph breaks, the baseline has 1``."""
        return f"{self.counted}, {level} has {self._write(self._nearest[1])}"

    @property
    def counted(self) -> str:
        """The figure of this run in words: ``1 graph break``."""
        now = self._nearest[0]
        return f"{self._write(now)} {_singular(self.name) if now == 1 else self.name}"

    @property
    def _all_now(self) -> tuple[int, ...]:
        return () if self.now is None else (self.now, *self.further)

    @property
    def _all_before(self) -> tuple[int, ...]:
        return () if self.before is None else (self.before, *self.further_before)

    @property
    def _nearest(self) -> tuple[int | None, int | None]:
        """The values of this run and of the baseline that a change is told by."""
        if self.has_grown:
            return min(self._all_now), max(self._all_before)
        if self.has_fallen:
            return max(self._all_now), min(self._all_before)
        return self.now, self.before

    def _write(self, value: int | None) -> str:
        if value is None:
            return "unknown"
        return format_bytes(value) if self.name == BYTES else str(value)


def judged_figures(
    facts: CompileFacts, level: CompileLevel | None, *, bytes_tolerance: float, further: Sequence[Mapping[str, int]]
) -> list[Figure]:
    """Return the figures that may not grow against the baseline, those of generated code where it is comparable.

    Args:
        facts: of this run's compilation.
        level: what is compared with.
        bytes_tolerance: tolerated growth of the bytes accessed, as a fraction.
        further: figures of generated code, by name, of further compilations of this run.
    """
    code = code_figures([facts.counters, *further], level, bytes_tolerance)
    return [*graph_figures(facts, level), *(_named(figure, facts, level) for figure in code)]


def graph_figures(facts: CompileFacts, level: CompileLevel | None) -> list[Figure]:
    """Return what captured graphs are judged by: breaks, recompilations, eager frames, skipped CUDA graphs."""
    record = None if level is None else level.record
    skips = facts.counters.get("cudagraph_skips")
    return [
        _placed("graph breaks", _length(facts.graph_breaks), facts.graph_breaks, record, "graph_breaks", "breaks"),
        _placed("recompiles", _length(facts.recompiles), facts.recompiles, record, "recompiles", "recompiled"),
        _placed("eager frames", facts.eager_frames, facts.eager_reasons, record, "eager_frames", "eager_reasons"),
        _placed("cudagraph skips", skips, facts.cudagraph_skips, record, "cudagraph_skips", "skips"),
    ]


def explaining_figures(facts: CompileFacts, level: CompileLevel) -> list[Figure]:
    """Return figures that are not judged but say what moved; of generated code only where it is comparable."""
    names = _EXPLAINING[:3] if level.code_differences else _EXPLAINING
    return [Figure(name.replace("_", " "), _counted(facts, name), _counted(level.record, name)) for name in names]


def operation_changes(facts: CompileFacts, level: CompileLevel) -> list[str]:
    """Name the operations that captured graphs hold more or less often than the baseline's."""
    return _count_changes("operation", facts.graph_ops, level.record.graph_ops)


def kernel_changes(facts: CompileFacts, level: CompileLevel) -> list[str]:
    """Name the kernels that generated code calls more or less often than the baseline's, by content hash."""
    if level.code_differences:
        return []
    kinds = (
        ("generated kernel", facts.kernels, level.record.kernels),
        ("external kernel", facts.external_kernels, level.record.external_kernels),
    )
    return [line for kind, now, before in kinds for line in _count_changes(kind, now, before)]


def describe_places(kind: str, places: Iterable[Place]) -> tuple[str, ...]:
    """Say where each thing happened and why, with the code and the compiler's advice below; equal ones together.

    The same advice is given once.
    """
    alike: dict[tuple[object, ...], list[Place]] = {}
    for place in places:
        alike.setdefault((place.line, *_identity(place)), []).append(place)
    given: set[str] = set()
    described = []
    for place, *equal in alike.values():
        notes = next(filter(None, (getattr(one, "notes", ()) for one in (place, *equal))), ())
        below = [f"    {line}" for line in (place.code, *notes) if line and line not in given]
        given.update(notes)
        described.append("\n".join([_describe_place(kind, place, 1 + len(equal)), *below]))
    return tuple(described)


def _describe_place(kind: str, place: Place, times: int) -> str:
    """Say it in one line, such as ``graph break at model.py:7: call to print``."""
    function = getattr(place, "function", None)
    what = kind if function is None else f"{kind} of {function}"
    where = f" at {short_path(place.file)}:{place.line}" if place.file else ""
    count = f" ({times} times)" if times > 1 else ""
    return f"{what}{where}{count}: {_why(place.reason, is_guard=function is not None)}"


def _why(reason: str | None, *, is_guard: bool) -> str:
    if reason is None:
        return "reason unknown to this version of torch"
    return f"guard failed: {reason}" if is_guard else reason.removeprefix("skipping cudagraphs due to ")


def _singular(name: str) -> str:
    """Return what a figure counts as a single one; all of them have regular plurals."""
    return name.removesuffix("s") if name != BYTES else name


def _placed(
    name: str,
    now: int | None,
    places: Iterable[Place] | None,
    record: CompileRecord | None,
    field: str,
    list_field: str,
) -> Figure:
    """Make a figure whose items have places."""
    found = tuple(places or ())
    before: tuple[Place, ...] = () if record is None else getattr(record, list_field)
    count = None if record is None else _counted(record, field)
    is_listed = bool(before) or count == 0
    return Figure(
        name,
        now,
        count,
        describe_places(_singular(name), found),
        describe_places(_singular(name), _new_places(found, before)) if is_listed else (),
    )


def code_figures(
    compilations: Sequence[Mapping[str, int]], level: CompileLevel | None, bytes_tolerance: float
) -> list[Figure]:
    """Return the figures of generated code, where it is comparable.

    Args:
        compilations: figures by name of each compilation of this run, of one at least. Further ones than the first
            count where the compiler chose by timing, in any of them or in the baseline.
        level: what is compared with.
        bytes_tolerance: tolerated growth of the bytes accessed, as a fraction.
    """
    if level is None or level.code_differences:
        return []
    before = [level.record.counters, *level.further]
    is_by_chance = any(code.get(TIMED_CHOICES) for code in (*compilations, *before))
    if not is_by_chance:
        compilations, before = compilations[:1], before[:1]
    return [
        Figure(
            _WORDS.get(name, name.replace("_", " ")),
            compilations[0].get(name),
            level.record.counters.get(name),
            tolerance=bytes_tolerance if name == "bytes_accessed" else 0.0,
            is_by_chance=is_by_chance,
            further=tuple(code[name] for code in compilations[1:] if name in code),
            further_before=tuple(code[name] for code in before[1:] if name in code),
        )
        for name in CODE_COUNTERS
    ]


def _named(figure: Figure, facts: CompileFacts, level: CompileLevel | None) -> Figure:
    """Return a figure of generated code with the kernels that are new in this run's own compilation."""
    kernels = {"generated kernels": "kernels", "external kernels": "external_kernels"}.get(figure.name)
    if level is None or kernels is None:
        return figure
    return replace(figure, new=tuple(_additions(getattr(facts, kernels), getattr(level.record, kernels))))


def _counted(side: CompileFacts | CompileRecord, name: str) -> int | None:
    """Return a figure by name, which is a field or one of the counters; None where it is unknown."""
    value = getattr(side, name, None)
    return value if isinstance(value, int) else side.counters.get(name)


def _length(places: tuple[object, ...] | None) -> int | None:
    return None if places is None else len(places)


def _new_places(found: Iterable[Place], before: Iterable[Place]) -> list[Place]:
    """Return the places that occur more often than before; line numbers do not matter."""
    known = Counter(map(_identity, before))
    new = []
    for place in found:
        identity = _identity(place)
        if known[identity]:
            known[identity] -= 1
        else:
            new.append(place)
    return new


def _identity(place: Place) -> tuple[str | None, ...]:
    file = PurePath(place.file).name if place.file else None
    code = place.code and place.code.partition("  #")[0].rstrip()
    return file, getattr(place, "function", None), code, place.reason


def _additions(now: Mapping[str, int] | None, before: Mapping[str, int] | None) -> list[str]:
    """Name what is counted more often than before."""
    if now is None or before is None:
        return []
    grown = {name: (before.get(name, 0), count) for name, count in now.items() if count > before.get(name, 0)}
    return [name if was == 0 else f"{name}: {was} → {count}" for name, (was, count) in grown.items()]


def _count_changes(kind: str, now: Mapping[str, int] | None, before: Mapping[str, int] | None) -> list[str]:
    if now is None or before is None:
        return []
    counts = {name: (before.get(name, 0), now.get(name, 0)) for name in sorted({**before, **now})}
    return [_describe_count(kind, name, was, count) for name, (was, count) in counts.items() if was != count]


def _describe_count(kind: str, name: str, was: int, count: int) -> str:
    if was == 0:
        return f"{kind} added: {name}"
    return f"{kind} removed: {name}" if count == 0 else f"{kind} {name}: {was} → {count}"
