"""How long compiling takes, cold and warm, and how much work it is: three compilations of a case of their own."""

from __future__ import annotations

import cProfile
import pstats
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.torch_backend.compiling import CompiledSide, CompileStep, compile_side, copy_side
from pytest_nnopt.torch_backend.isolation import isolated_compilation

if TYPE_CHECKING:
    from pytest_nnopt.model import CompileFacts
    from pytest_nnopt.torch_backend.side import Side


class CacheState(str, Enum):
    """What the compiler's own cache did for a compilation, by its hit and miss counters.

    Equal graphs share an entry, so a model of equal blocks hits what it stored itself: starting from an empty cache it
    is mixed, not cold.
    """

    COLD = "cold"
    WARM = "warm"
    MIXED = "mixed"
    UNUSED = "unused"

    @classmethod
    def of(cls, facts: CompileFacts) -> CacheState:
        """Read the state from the facts of a compilation; a backend without a cache leaves it unused."""
        is_hit = any(facts.counters.get(name) for name in ("fx_cache_hits", "autograd_cache_hits"))
        is_missed = bool(facts.counters.get("fx_cache_misses"))
        if is_hit:
            return cls.MIXED if is_missed else cls.WARM
        return cls.COLD if is_missed else cls.UNUSED


@dataclass(frozen=True, slots=True)
class CompileTime:
    """What compiling one side costs.

    Attributes:
        cold_seconds: wall time of the first call with an empty cache.
        warm_seconds: the same in the state the first one left, as the next process would find it; None where the
            backend keeps no cache, or where it did not serve every graph.
        work_calls: function calls the compiler makes when cold, as the profiler counts them without recursion. It
            repeats to a few parts in ten thousand where the seconds vary; None unless asked for.
    """

    cold_seconds: float
    warm_seconds: float | None
    work_calls: int | None = None


def measure_compile_time(
    eager: Side,
    step: CompileStep,
    *,
    make_side: Callable[[], Side] | None = None,
    counts_work: bool = True,
) -> CompileTime:
    """Compile a copy of ``eager`` cold, again warm, and once more cold to count the work.

    Each compilation has an isolated compiler; code that the caller compiled before is forgotten. To be called after the
    process has compiled something, as otherwise the compiler's imports are counted too.

    Raises:
        MeasurementError: the step does not compile, or the cache was not in the state that the figure needs.
    """
    make = make_side or (lambda: copy_side(eager))
    with tempfile.TemporaryDirectory(prefix="nnopt-compile-time-") as directory:
        cold_seconds, cold_state = _compile(make, step, Path(directory))
        warm_seconds, warm_state = _compile(make, step, Path(directory))
    if cold_state is CacheState.WARM:
        raise MeasurementError(f"an empty cache served the whole compile of {step.description}")
    return CompileTime(
        cold_seconds=cold_seconds,
        warm_seconds=warm_seconds if warm_state is CacheState.WARM else None,
        work_calls=_count_work(make, step) if counts_work else None,
    )


def _compile(make: Callable[[], Side], step: CompileStep, cache_dir: Path) -> tuple[float, CacheState]:
    with isolated_compilation(cache_dir=cache_dir):
        compiled = compile_side(make(), [step], make_side=make)
    return _seconds(compiled), CacheState.of(compiled.facts)


def _count_work(make: Callable[[], Side], step: CompileStep) -> int:
    profiler = cProfile.Profile()
    with isolated_compilation():
        compiled = profiler.runcall(compile_side, make(), [step], make_side=make)
    _seconds(compiled)
    return int(pstats.Stats(profiler).prim_calls)  # type: ignore[attr-defined]


def _seconds(compiled: CompiledSide) -> float:
    """Return the seconds of a compilation, which says whether it succeeded at all."""
    if compiled.seconds is None or not compiled.facts.graphs:
        attempt = compiled.facts.attempts[-1]
        why = attempt.error or compiled.facts.explanation
        raise MeasurementError(f"no compile time of {attempt.description}: {why}")
    return compiled.seconds
