"""What several ranks saw of one model, as one: the slowest, the largest, the worst, and every comparison of numbers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pytest_nnopt.baseline.schema import KernelRecord, MemoryRecord, OriginRecord, WorkRecord
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import CompileAttempt, CompileFacts, CompileStatus, CompileTime, GraphBreak, Recompile
from pytest_nnopt.numerics import NumericsComparison, join_comparisons

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.environment import Environment

_Event = TypeVar("_Event", GraphBreak, Recompile)

_WORST_FIRST = (
    CompileStatus.FAILED,
    CompileStatus.NOTHING_COMPILED,
    CompileStatus.FELL_BACK,
    CompileStatus.COMPILED,
    CompileStatus.OWN_CANDIDATE,
)
_COMMUNICATION = "nccl"
"""Kernels of this name wait for other ranks; how long says nothing of the device's own work."""


def join_processes(records: Sequence[ProcessRecord]) -> ProcessRecord:
    """Join what the ranks of one sample measured: they share their times; kernels and concerns are each rank's own."""
    names = dict.fromkeys(name for record in records for name in record.kernels)
    kernels = {
        name: _slowest([record.kernels[name] for record in records if name in record.kernels])
        for name in names
        if not name.startswith(_COMMUNICATION)
    }
    concerns = {kind: text for record in reversed(records) for kind, text in record.concerns.items()}
    wall_seconds = _longest(record.wall_seconds for record in records)
    return records[0].model_copy(update={"kernels": kernels, "concerns": concerns, "wall_seconds": wall_seconds})


def join_comparisons_of_ranks(comparisons: Sequence[NumericsComparison]) -> NumericsComparison:
    """Join the comparisons of all ranks; the path of each leaf begins with its rank."""
    nothing = replace(comparisons[0], leaves=())
    return join_comparisons(nothing, {f"rank{rank}": comparison for rank, comparison in enumerate(comparisons)})


def join_facts(facts: Sequence[CompileFacts]) -> CompileFacts:
    """Join how the ranks compiled: the worst status, the largest figures, and whatever happened on some ranks alone."""
    worst = min(facts, key=lambda one: _WORST_FIRST.index(one.status))
    return replace(
        worst,
        attempts=_attempts(facts, worst),
        graphs=_most(one.graphs for one in facts),
        graph_breaks=_events([one.graph_breaks for one in facts]),
        recompiles=_events([one.recompiles for one in facts]),
        eager_frames=_most(one.eager_frames for one in facts),
        eager_reasons=_events([one.eager_reasons for one in facts]) or (),
        cudagraph_skips=_events([one.cudagraph_skips for one in facts]) or (),
        graph_ops=_most_by_name([one.graph_ops for one in facts]),
        kernels=_most_by_name([one.kernels for one in facts]),
        external_kernels=_most_by_name([one.external_kernels for one in facts]),
        counters=_most_by_name([one.counters for one in facts]) or {},
    )


def join_memory(records: Sequence[MemoryRecord]) -> MemoryRecord:
    """Return, of each figure, the largest of any rank's."""
    names = MemoryRecord.model_fields
    return MemoryRecord(**{name: _most(getattr(record, name) for record in records) for name in names})


def join_compile_times(times: Sequence[CompileTime]) -> CompileTime:
    """Return what compiling costs on the rank where it costs most."""
    return CompileTime(
        cold_seconds=_longest(time.cold_seconds for time in times),
        warm_seconds=_longest(time.warm_seconds for time in times),
        work_calls=_most(time.work_calls for time in times),
        work_conditions=times[0].work_conditions,
    )


def join_origins(origins: Sequence[OriginRecord]) -> OriginRecord:
    """Return digests over those of all ranks."""
    names = OriginRecord.model_fields
    return OriginRecord(**{name: _digest(getattr(origin, name) for origin in origins) for name in names})


def join_work(works: Sequence[WorkRecord]) -> WorkRecord:
    """Add up what all ranks do in one call."""
    operators: Counter[str] = Counter()
    for work in works:
        operators.update(work.operators)
    return WorkRecord(operators=dict(operators), elements=sum(work.elements for work in works))


def join_environments(environments: Sequence[Environment]) -> Environment:
    """Return the environment of all ranks, with how many there are.

    Raises:
        MeasurementError: they differ in what figures depend on.
    """
    first = environments[0]
    for rank, other in enumerate(environments):
        differences = other.differences(first)
        if differences:
            raise MeasurementError(f"rank {rank} sees another environment than rank 0: {'; '.join(differences)}")
    return replace(first, fields={**first.fields, "ranks": len(environments)})


def _slowest(kernels: Sequence[KernelRecord]) -> KernelRecord:
    """Return the largest figures of one kernel; how it was launched only where all ranks agree."""
    launches = {kernel.launch for kernel in kernels}
    return KernelRecord(
        count=max(kernel.count for kernel in kernels),
        seconds=max(kernel.seconds for kernel in kernels),
        launch=launches.pop() if len(launches) == 1 else None,
    )


def _attempts(facts: Sequence[CompileFacts], worst: CompileFacts) -> tuple[CompileAttempt, ...]:
    """Return the attempts of the rank that fared worst, with its number where the others fared otherwise."""
    if all(one.attempts == worst.attempts for one in facts):
        return worst.attempts
    rank = facts.index(worst)
    return tuple(
        attempt if attempt.error is None else replace(attempt, error=f"rank {rank}: {attempt.error}")
        for attempt in worst.attempts
    )


def _events(found: Sequence[tuple[_Event, ...] | None]) -> tuple[_Event, ...] | None:
    """Return the events of the rank that has most, with its number where the others have others; None if unknown."""
    known = [events for events in found if events is not None]
    if len(known) < len(found):
        return None
    most = max(known, key=len)
    if all(events == most for events in known):
        return most
    rank = known.index(most)
    return tuple(replace(event, reason=f"{event.reason} (on rank {rank})") for event in most)


def _most(values: Iterable[int | None]) -> int | None:
    """Return the largest value, None where one is unknown."""
    known = list(values)
    return None if None in known else max(value for value in known if value is not None)


def _longest(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else max(value for value in known if value is not None)


def _most_by_name(found: Sequence[Mapping[str, int] | None]) -> dict[str, int] | None:
    """Return of each name the largest count of any rank; None where a rank's counts are unknown."""
    counted: Counter[str] = Counter()
    for counts in found:
        if counts is None:
            return None
        counted |= Counter(counts)
    return dict(counted)


def _digest(digests: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:8]
