"""The measuring of one case: build the pair, look at it, time it. Every step runs once, on demand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_nnopt.baseline.schema import Evidence, MemoryRecord, OriginRecord, ProcessRecord, WorkRecord
from pytest_nnopt.errors import MeasurementError, PairError
from pytest_nnopt.files import temporary_directory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.measurement.exclusive import exclusive
from pytest_nnopt.model import CompileFacts, CompileStatus
from pytest_nnopt.numerics import Tolerance
from pytest_nnopt.session.records import record_compile, record_memory, record_process
from pytest_nnopt.torch_backend.comparing import compare_sides, with_inputs
from pytest_nnopt.torch_backend.compile_errors import describe_error
from pytest_nnopt.torch_backend.compile_time import complete_compile_time
from pytest_nnopt.torch_backend.compiling import (
    CompiledSide,
    CompileStep,
    Inputs,
    compile_copy,
    compile_side,
    copy_side,
)
from pytest_nnopt.torch_backend.diagnosis import Trouble
from pytest_nnopt.torch_backend.facts import current_environment, device_key
from pytest_nnopt.torch_backend.isolation import (
    isolated_compilation,
    load_compiler,
    probe_instruction_sets,
    rehearse_compilation,
)
from pytest_nnopt.torch_backend.memory import as_memory_allows, measure_memory
from pytest_nnopt.torch_backend.origin import origin_of
from pytest_nnopt.torch_backend.pair import build_own_candidate, build_side, device_asked_for, device_of
from pytest_nnopt.torch_backend.quiet import torch_kept_quiet
from pytest_nnopt.torch_backend.samples import Sample, build_samples
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.torch_backend.timing import time_sides
from pytest_nnopt.torch_backend.undoing import undone
from pytest_nnopt.torch_backend.work import count_work

if TYPE_CHECKING:
    import torch

    from pytest_nnopt.config import CaseConfig, CompileConfig
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.model import CompileTime
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.torch_backend.pair import PairRequest
    from pytest_nnopt.torch_backend.side import Side
    from pytest_nnopt.torch_backend.team import Team
    from pytest_nnopt.torch_backend.timing import Timed
    from pytest_nnopt.verdict import Observed

_ResultT = TypeVar("_ResultT")


class CaseRun:
    """The measuring of one case.

    Attributes:
        is_shared: whether other processes, the ranks of one model, do the same at the same time.

    Args:
        request: what the test handed over.
        config: what the case is held against.
        device: where to move the pair; None leaves it where the test put it.
        threads: how many threads torch computes with until ``close``; None is half of the usable cores.
        has_cold_cache: whether each timed call finds a GPU's L2 cache overwritten.
        seed: seed of every random number generator before each run that is compared.
    """

    is_shared = False

    def __init__(
        self,
        request: PairRequest,
        config: CaseConfig,
        *,
        device: str | None = None,
        threads: int | None = None,
        has_cold_cache: bool = False,
        seed: int = 0,
    ) -> None:
        self._request = request
        self._seed = seed
        self._config = config
        self._device = device
        self.has_cold_cache = has_cold_cache
        self._scope = contextlib.ExitStack()
        self._scope.enter_context(thread_count(threads))
        self.timing: tuple[ProcessRecord, ...] = ()

    @property
    def model(self) -> Callable[..., Any]:
        """What the test handed over as its model."""
        return self._request.model

    @cached_property
    def reference(self) -> Side:
        """The eager side.

        Raises:
            PairError: it cannot be built from what the test handed over.
        """
        return build_side(self._request, device=self._device)

    @cached_property
    def built(self) -> CompiledSide:
        """The candidate side and how it came about."""
        if self._request.candidate is not None:
            side = build_own_candidate(self._request, device=self._device)
            return CompiledSide(side, CompileFacts(CompileStatus.OWN_CANDIDATE))
        reference, steps = self.reference, compile_steps(self._config.compile)
        self.rehearse()
        if any(step.backend == "inductor" for step in steps) and device_of(reference).type == "cpu":
            probe_instruction_sets()
        with torch_kept_quiet():
            self._scope.enter_context(isolated_compilation(cache_dir=self.cache_dir))
            return compile_side(reference, steps, samples=self.samples)

    def rehearse(self) -> None:
        """Have the compiler ready where one will be asked for."""
        if self._request.candidate is None and _uses_inductor(self._config):
            with torch_kept_quiet():
                rehearse_compilation(str(device_asked_for(self._request, self._device)))

    def prepare_timing(self, cache_dir: Path) -> None:
        """Build both sides, with compiled code kept in ``cache_dir``.

        Raises:
            PairError: there is no candidate to time.
        """
        self.cache_dir = cache_dir
        self.require_candidate()

    @cached_property
    def samples(self) -> tuple[Inputs, ...]:
        """The user's further inputs, which the candidate is compiled for as well."""
        return tuple(sample.inputs for sample in self.numerics_samples if not sample.is_generated)

    @cached_property
    def numerics_samples(self) -> tuple[Sample, ...]:
        """All further inputs for the numerics, copied and moved like the pair's own.

        Raises:
            PairError: they cannot be made.
        """
        kinds = self._config.tolerance.samples
        return build_samples(self._request, kinds=kinds, seed=self._seed, device=self._device)

    @cached_property
    def cache_dir(self) -> Path:
        """Where compiled code is kept, for measuring processes to share: a new directory unless one was set."""
        return self._scope.enter_context(temporary_directory())

    def require_candidate(self) -> Side:
        """Return the candidate side.

        Raises:
            PairError: there is none, because compilation failed.
        """
        if self.built.side is None:
            attempts = "; ".join(f"{attempt.description}: {attempt.error}" for attempt in self.built.facts.attempts)
            raise PairError(f"there is no compiled model: {attempts}")
        return self.built.side

    @cached_property
    def environment(self) -> Environment:
        """The fingerprint of this process on the pair's device."""
        return current_environment(device_of(self.reference), has_cold_cache=self.has_cold_cache)

    @cached_property
    def numerics(self) -> NumericsComparison | None:
        """How far the candidate's numbers are from the reference's; None where there is no candidate."""
        if self.built.side is None:
            return None
        samples = self.numerics_samples
        with torch_kept_quiet():
            return compare_sides(self.built.side, self.reference, self.tolerance, seed=self._seed, samples=samples)

    def trouble(self, comparison: NumericsComparison) -> Trouble:
        """Return the sides with the inputs on which a comparison went worst, and how the candidate was compiled."""
        candidate, reference, seed, name = self.require_candidate(), self.reference, self._seed, ""
        path = comparison.worst.path if comparison.worst is not None else ""
        for sample in self.numerics_samples:
            if path.startswith(f"{sample.name}."):
                candidate, reference = with_inputs(candidate, sample.inputs), with_inputs(reference, sample.inputs)
                seed, name = sample.seed, sample.name
        is_own = self._request.candidate is not None
        step = None if is_own else compile_steps(self._config.compile)[len(self.built.facts.attempts) - 1]
        return Trouble(reference, candidate, step, self.tolerance, seed, name)

    @cached_property
    def origin(self) -> OriginRecord:
        """Digests of the inputs and parameters that the numbers come from."""
        return OriginRecord(**origin_of(self.reference))

    @cached_property
    def tolerance(self) -> Tolerance:
        """How far the candidate's numbers may be from the reference's."""
        return Tolerance(**self._config.tolerance.model_dump(exclude={"samples"}))

    def measure_process(self, plan: Plan, turn: Callable[[], None] | None = None) -> tuple[ProcessRecord, ...]:
        """Time both sides in this process, add the sample to ``timing`` and return all of it.

        Args:
            plan: how much to measure.
            turn: waits until it is this process's turn; whoever gives the turns holds the device's lock.

        Raises:
            PairError: there is no candidate to time.
        """
        self.timing = (*self.timing, self._measure(plan, turn))
        return self.timing

    def measure_ratio(self) -> ProcessRecord:
        """Time both sides in this process for their ratio alone, which enters no decision.

        A GPU's kernels are left out, lest the profiler stay attached while later pairs of this process are timed. What
        the calls do to both sides and to random numbers is undone: what is compared later starts alike.

        Raises:
            PairError: there is no candidate to time.
        """
        with undone(self.reference, self.require_candidate()):
            return self._measure(Plan(), has_kernels=False)

    def _measure(
        self, plan: Plan, turn: Callable[[], None] | None = None, *, has_kernels: bool = True
    ) -> ProcessRecord:
        candidate = self.require_candidate()
        device = device_of(self.reference)
        lock = self._exclusively(device) if turn is None else contextlib.nullcontext()
        with lock, torch_kept_quiet():
            timed = self._time_sides(candidate, plan, turn=turn, has_kernels=has_kernels)
            return record_process(timed, self.compiled_anew)

    @property
    def compiled_anew(self) -> CompileFacts | None:
        """How a measuring process compiled the candidate; None on a CPU, where it loads what the run compiled."""
        return None if device_of(self.reference).type == "cpu" else self.built.facts

    def _time_sides(
        self,
        candidate: Side,
        plan: Plan,
        *,
        has_kernels: bool,
        turn: Callable[[], None] | None = None,
        team: Team | None = None,
    ) -> Timed:
        """Time the reference and a candidate for this case's limit."""
        device = device_of(self.reference)
        limit = self._config.limits.latency_on(device.type)
        return time_sides(
            [self.reference],
            [candidate],
            device,
            plan,
            limit=limit,
            has_cold_cache=self.has_cold_cache,
            has_kernels=has_kernels,
            turn=turn,
            team=team,
        )

    @cached_property
    def memory(self) -> MemoryRecord | None:
        """Bytes per call of both sides; None where there is no candidate."""
        if self.built.side is None:
            return None
        device = device_of(self.reference)
        with self._exclusively(device), torch_kept_quiet():
            candidate = measure_memory(self.built.side, owns_cuda_graphs=True)
            return record_memory(candidate, measure_memory(self.reference))

    @cached_property
    def compile_time(self) -> CompileTime | None:
        """What compiling the candidate costs; None where nothing was compiled. To be asked for last.

        The candidate's code is forgotten by it, and compiled again from the cache when it is next called.

        Raises:
            MeasurementError: the candidate cannot be compiled once more.
        """
        built = self.built
        if built.seconds is None or not built.facts.graphs:
            return None
        step = compile_steps(self._config.compile)[len(built.facts.attempts) - 1]
        with torch_kept_quiet():
            return complete_compile_time(self.reference, step, built, self.cache_dir, samples=self.samples)

    @cached_property
    def work(self) -> WorkRecord | None:
        """What one call of the eager side does; None where it cannot be counted, as when the model raises."""
        try:
            with torch_kept_quiet():
                found = count_work(copy_side(self.reference))
        except Exception:
            return None
        return WorkRecord(operators=dict(found.operators), elements=found.elements)

    def look_ahead(self, look: Callable[[], object]) -> None:
        """Do now, while another process builds, what will be asked for anyway; ranks, which do it together, wait.

        A GPU, on which the compiler of the other process chooses kernels by timing them, is busy for a few calls of
        the model in all. What fails now, as where memory cannot hold both, is done again when it is asked for, and then
        says why.
        """
        if not self.is_shared:
            with contextlib.suppress(MeasurementError):
                as_memory_allows(look)

    def another_reference(self) -> Side:
        """Return a further copy of the eager side."""
        return copy_side(self.reference)

    def another_candidate(self) -> Side:
        """Return a further candidate side that has run once; a compiled one has guards of its own.

        Raises:
            PairError: it cannot be compiled.
        """
        if self._request.candidate is not None:
            return build_own_candidate(self._request, device=self._device)
        steps = compile_steps(self._config.compile)
        if len(steps) > 1:
            self.require_candidate()
        step = steps[0] if len(steps) == 1 else steps[len(self.built.facts.attempts) - 1]
        try:
            return compile_copy(self.reference, step)
        except Exception as error:
            raise PairError(f"a copy of the model cannot be compiled: {describe_error(error)}") from error

    def evidence(self, observed: Observed) -> Evidence:
        """Return what was gathered, as it is recorded."""
        return Evidence(
            timing=observed.timing,
            numerics=dict(observed.recorded.leaves) if observed.recorded is not None else {},
            origin=observed.recorded.origin if observed.recorded is not None else None,
            compile=record_compile(observed.compile, observed.compile_time),
            memory=observed.memory,
            work=self.work if observed.timing else None,
        )

    @property
    def cache_root(self) -> Path:
        """What measuring processes are told to keep compiled code in."""
        return self.cache_dir

    def by_lead(self, work: Callable[[], _ResultT]) -> _ResultT:
        """Do what is done once a case, however many processes it runs in."""
        return work()

    def _exclusively(self, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """Have the device to this case."""
        return exclusive(device_key(device))

    def close(self) -> None:
        """Leave the compiler as it was found."""
        self._scope.close()


def load_for(config: CaseConfig) -> None:
    """Load the compiler that a case may ask for, and leave its device alone."""
    if _uses_inductor(config):
        with torch_kept_quiet():
            load_compiler()


def _uses_inductor(config: CaseConfig) -> bool:
    return any(step.backend == "inductor" and not step.is_eager for step in compile_steps(config.compile))


def compile_steps(config: CompileConfig) -> tuple[CompileStep, ...]:
    """Return what is tried in order: what the marker says, then its fallback chain."""
    first = CompileStep(config.mode, config.backend, config.fullgraph, config.dynamic, config.options)
    return (first, *(CompileStep(mode, config.backend, config.fullgraph, config.dynamic) for mode in config.fallback))
