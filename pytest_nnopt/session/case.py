"""One case from request to result: build the pair, look at it, time it, judge it. Every step runs once, on demand."""

from __future__ import annotations

import contextlib
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.schema import Evidence, MemoryRecord, ProcessRecord
from pytest_nnopt.errors import PairError
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.measurement.exclusive import exclusive
from pytest_nnopt.model import CheckName, CompileFacts, CompileStatus
from pytest_nnopt.numerics import Tolerance
from pytest_nnopt.results import CaseMessage, CaseResult
from pytest_nnopt.session.context import describe_context
from pytest_nnopt.session.gathering import gather_timing, hired_crew
from pytest_nnopt.session.recording import plan_recording
from pytest_nnopt.session.records import record_compile, record_memory, record_numerics, record_process
from pytest_nnopt.torch_backend.comparing import compare_sides
from pytest_nnopt.torch_backend.compiling import CompiledSide, CompileStep, Inputs, compile_side
from pytest_nnopt.torch_backend.facts import current_environment, device_key
from pytest_nnopt.torch_backend.isolation import isolated_compilation, probe_instruction_sets
from pytest_nnopt.torch_backend.memory import measure_memory
from pytest_nnopt.torch_backend.pair import build_own_candidate, build_samples, build_side, device_of
from pytest_nnopt.torch_backend.quiet import torch_kept_quiet
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.torch_backend.timing import time_sides
from pytest_nnopt.verdict import Observed, judge, keep_exact_failures

if TYPE_CHECKING:
    from pytest_nnopt.config import CaseConfig, CompileConfig
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.torch_backend.pair import PairRequest
    from pytest_nnopt.torch_backend.side import Side
    from pytest_nnopt.verdict import Question

_SEED = 0


class CaseRun:
    """The measuring of one case.

    Args:
        request: what the test handed over.
        config: what the case is held against.
        device: where to move the pair; None leaves it where the test put it.
        threads: how many threads torch computes with until ``close``; None is half of the usable cores.
    """

    def __init__(
        self,
        request: PairRequest,
        config: CaseConfig,
        *,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        self._request = request
        self._config = config
        self._device = device
        self._scope = contextlib.ExitStack()
        self._scope.enter_context(thread_count(threads))
        self.timing: tuple[ProcessRecord, ...] = ()

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
        if any(step.backend == "inductor" for step in steps) and device_of(reference).type == "cpu":
            probe_instruction_sets()
        with torch_kept_quiet():
            self._scope.enter_context(isolated_compilation(cache_dir=self.cache_dir))
            return compile_side(reference, steps, samples=self.samples)

    def prepare_timing(self, cache_dir: Path) -> None:
        """Build both sides, with compiled code kept in ``cache_dir``.

        Raises:
            PairError: there is no candidate to time.
        """
        self.cache_dir = cache_dir
        self.require_candidate()

    @cached_property
    def samples(self) -> tuple[Inputs, ...]:
        """The further inputs for the numerics, copied and moved like the pair's own."""
        return build_samples(self._request, device=self._device)

    @cached_property
    def cache_dir(self) -> Path:
        """Where compiled code is kept, for measuring processes to share: a new directory unless one was set."""
        return Path(self._scope.enter_context(tempfile.TemporaryDirectory(prefix="nnopt-")))

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
        return current_environment(device_of(self.reference))

    @cached_property
    def numerics(self) -> NumericsComparison | None:
        """How far the candidate's numbers are from the reference's; None where there is no candidate."""
        if self.built.side is None:
            return None
        tolerance = Tolerance(**self._config.tolerance.model_dump())
        with torch_kept_quiet():
            return compare_sides(self.built.side, self.reference, tolerance, seed=_SEED, samples=self.samples)

    def measure_process(self, plan: Plan) -> tuple[ProcessRecord, ...]:
        """Time both sides in this process, add the sample to ``timing`` and return all of it.

        Raises:
            PairError: there is no candidate to time.
        """
        candidate = self.require_candidate()
        device = device_of(self.reference)
        with exclusive(device_key(device)), torch_kept_quiet():
            timed = time_sides(self.reference, candidate, device, plan)
        self.timing = (*self.timing, record_process(timed))
        return self.timing

    @cached_property
    def memory(self) -> MemoryRecord | None:
        """Peak bytes per call of both sides; None where there is no candidate."""
        if self.built.side is None:
            return None
        device = device_of(self.reference)
        with exclusive(device_key(device)), torch_kept_quiet():
            return record_memory(measure_memory(self.built.side), measure_memory(self.reference))

    def evidence(self, observed: Observed) -> Evidence:
        """Return what was gathered, as it is recorded."""
        return Evidence(
            timing=observed.timing,
            numerics=record_numerics(observed.numerics) if observed.numerics is not None else {},
            compile=record_compile(observed.compile, cold_seconds=observed.cold_seconds),
            memory=observed.memory,
        )

    def close(self) -> None:
        """Leave the compiler as it was found."""
        self._scope.close()


def conclude_case(run: CaseRun, gate: Gate, case_id: str, test_id: str) -> CaseMessage:
    """Measure what is left of a case, judge it, and say what becomes of its evidence.

    A rerun of the same case in this run adds to what its earlier attempts measured: it cannot turn a failure into a
    pass by luck.

    Raises:
        BaselineError: the case's baseline cannot be relied upon.
        MeasurementError: the case could not be timed in this process.
    """
    question = gate.question(case_id, test_id, run.environment)
    earlier = gate.earlier.get(case_id)
    timing, problem = _timing(run, gate, question, test_id)
    numerics = _numerics(run, question)
    memory = run.memory if question.wants_memory else None
    observed = Observed(run.built.facts, numerics, timing, problem, memory, run.built.seconds)
    verdict = judge(question, observed)
    if earlier is not None:
        verdict = keep_exact_failures(verdict, earlier.verdict)
    context = describe_context(question, observed, run.environment, *gate.recorded(case_id, run.environment))
    result = CaseResult.of(verdict, run.evidence(observed), context)
    gate.earlier[case_id] = result
    recording, changes = plan_recording(question, result)
    return CaseMessage(result=result, environment=dict(run.environment.fields), recording=recording, changes=changes)


def _numerics(run: CaseRun, question: Question) -> NumericsComparison | None:
    return run.numerics if CheckName.NUMERICS in question.asked else None


def _timing(run: CaseRun, gate: Gate, question: Question, test_id: str) -> tuple[tuple[ProcessRecord, ...], str | None]:
    """Time the case in fresh processes, in addition to what earlier attempts in this run measured.

    This process does not count: it has compiled, compared and run other tests, and times differently from one that
    has not. Only where no process can be started is it measured instead. While this process compiles and compares,
    the first of the others is on its way.

    Returns:
        what was measured, and why it ended early.
    """
    earlier = gate.earlier.get(question.case_id)
    timing = earlier.timing if earlier is not None else ()
    if not question.wants_timing:
        return timing, None
    if gate.launch is None:
        return (timing if run.built.side is None else (*timing, *(run.timing or run.measure_process(Plan())))), None
    with hired_crew(gate.launch, test_id, question.case_id, run.environment, lambda: run.cache_dir) as crew:
        crew.prepare(1)
        _numerics(run, question)
        if run.built.side is None:
            return timing, None
        return gather_timing(crew, question, timing, budget_seconds=gate.settings.budget)


def compile_steps(config: CompileConfig) -> tuple[CompileStep, ...]:
    """Return what is tried in order: what the marker says, then its fallback chain."""
    first = CompileStep(config.mode, config.backend, config.fullgraph, config.dynamic, config.options)
    return (first, *(CompileStep(mode, config.backend, config.fullgraph, config.dynamic) for mode in config.fallback))
