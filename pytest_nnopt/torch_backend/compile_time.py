"""What compiling costs: wall time from an empty cache and from a full one, and the compiler's work, which repeats."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch._inductor import config as inductor_config

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement.engine import paused_collector
from pytest_nnopt.model import CompileTime
from pytest_nnopt.torch_backend.calls import COUNTS_PYTHON_ALONE, count_calls
from pytest_nnopt.torch_backend.compiling import CompiledSide, CompileStep, Inputs, compile_side
from pytest_nnopt.torch_backend.isolation import graph_caches_off, isolated_compilation
from pytest_nnopt.torch_backend.pair import device_of

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
        missing = ("fx_cache_misses", "fx_cache_bypasses")
        is_missed = any(facts.counters.get(name) for name in missing)
        if is_hit:
            return cls.MIXED if is_missed else cls.WARM
        return cls.COLD if is_missed else cls.UNUSED


def complete_compile_time(
    eager: Side, step: CompileStep, cold: CompiledSide, cache_dir: Path, *, samples: Sequence[Inputs] = ()
) -> CompileTime:
    """Add to a compilation from an empty cache what compiling again costs: once warm, and once to count the work.

    Each compilation is that of a copy, with an isolated compiler; code compiled before is forgotten, so this comes
    last. The work is counted where nothing is served from the cache but machine code, which other programs make from
    what the compiler wrote. The count repeats because the cold compilation has imported and cached in memory whatever
    this model needs.

    Args:
        eager: the side that was compiled.
        step: how it was compiled.
        cold: the compilation from an empty cache.
        cache_dir: the cache as that compilation left it.
        samples: the further inputs it was called with.

    Raises:
        MeasurementError: the step no longer compiles, or an empty cache served all of the cold compilation.
    """
    if CacheState.of(cold.facts) is CacheState.WARM:
        raise MeasurementError(f"an empty cache served the whole compile of {step.description}")
    with isolated_compilation(cache_dir=cache_dir):
        warm = compile_side(eager, [step], samples=samples)
    warm_seconds = _seconds(warm)
    return CompileTime(
        cold_seconds=_seconds(cold),
        warm_seconds=warm_seconds if CacheState.of(warm.facts) is CacheState.WARM else None,
        work_calls=_count_work(eager, step, cache_dir, samples),
        work_conditions=_work_conditions(eager),
    )


def _count_work(eager: Side, step: CompileStep, cache_dir: Path, samples: Sequence[Inputs]) -> int | None:
    """Count the calls of compiling and of running the side; None where they cannot be counted.

    Kernels are loaded in this process: others, whose answers are waited for, take their time, and may not be there yet.
    Garbage is collected before and not meanwhile: what that calls hangs on what ran in this process earlier.
    """
    in_process = inductor_config.patch(compile_threads=1) if _loads_in_process(eager) else nullcontext()
    with isolated_compilation(cache_dir=cache_dir), graph_caches_off(), in_process, paused_collector():
        return count_calls(lambda: _seconds(compile_side(eager, [step], samples=samples)))


def _loads_in_process(eager: Side) -> bool:
    return device_of(eager).type == "cuda"


def _work_conditions(eager: Side) -> str:
    """Name what the number of calls depends on and the environment's comparison does not know, or knows in part."""
    versions = {"torch": torch.__version__, "sympy": importlib.metadata.version("sympy")}
    python = f"python {sys.version_info.major}.{sys.version_info.minor}"
    counted = ["python's functions alone"] if COUNTS_PYTHON_ALONE else []
    loaded = ["kernels loaded in process"] if _loads_in_process(eager) else []
    return ", ".join([python, *(f"{name} {version}" for name, version in versions.items()), *counted, *loaded])


def _seconds(compiled: CompiledSide) -> float:
    """Return the seconds of a compilation, which says whether it succeeded at all."""
    if compiled.seconds is None or not compiled.facts.graphs:
        attempt = compiled.facts.attempts[-1]
        why = attempt.error or compiled.facts.explanation
        raise MeasurementError(f"no compile time of {attempt.description}: {why}")
    return compiled.seconds
