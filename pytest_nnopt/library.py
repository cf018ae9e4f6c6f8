"""The same parts outside of pytest: compile a model, validate it, fall back, and say what became of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.config import CaseConfig, CompileConfig, ToleranceConfig, validate_section
from pytest_nnopt.model import Check, CheckName, CompileAttempt, CompileFacts, CompileStatus, Outcome, Verdict
from pytest_nnopt.numerics import describe_agreement, describe_comparison
from pytest_nnopt.observers import tell
from pytest_nnopt.results import CaseResult, speedup_of
from pytest_nnopt.session.case import CaseRun, compile_steps
from pytest_nnopt.session.records import record_compile, record_numerics
from pytest_nnopt.torch_backend.compiling import compile_for_use
from pytest_nnopt.torch_backend.isolation import default_cache_dir
from pytest_nnopt.torch_backend.pair import PairRequest
from pytest_nnopt.torch_backend.side import ExecutionMode
from pytest_nnopt.torch_backend.threads import current_threads

if TYPE_CHECKING:
    import torch

    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.observers import Observer


@dataclass(frozen=True, slots=True)
class CompileResult:
    """What became of compiling a model.

    Attributes:
        model: what to use from now on: the model, compiled in place where it is a module, or as it was where nothing
            served.
        status: how it ended; ``fell_back`` is never silent.
        attempts: every step tried, in order, with the reason why it did not serve.
        facts: what the compiler did in the last attempt.
        numerics: how far the numbers of the last attempt are from eager's; None where there were none.
        speedup: eager time over compiled time in this process; None where it was not measured.
    """

    model: Callable[..., Any]
    status: CompileStatus
    attempts: tuple[CompileAttempt, ...]
    facts: CompileFacts
    numerics: NumericsComparison | None = None
    speedup: float | None = None

    @property
    def is_compiled(self) -> bool:
        """Whether ``model`` runs compiled code that was validated."""
        return self.mode_used not in (None, "eager")

    @property
    def mode_used(self) -> str | None:
        """Description of the step in use; None where every step failed."""
        last = self.attempts[-1]
        return last.description if last.error is None else None

    @property
    def error(self) -> str | None:
        """Why the first step that failed did not serve; None where none failed."""
        return next((attempt.error for attempt in self.attempts if attempt.error is not None), None)

    def to_metadata(self) -> dict[str, str | int | float | bool]:
        """Return flat values for an experiment tracker; what is unknown is left out."""
        worst = self.numerics.worst if self.numerics is not None else None
        breaks = self.facts.graph_breaks
        values = {
            "compile/status": self.status.value,
            "compile/mode_used": self.mode_used,
            "compile/error": self.error,
            "compile/graphs": self.facts.graphs,
            "compile/graph_breaks": None if breaks is None else len(breaks),
            "compile/numerics_within": None if self.numerics is None else self.numerics.is_within,
            "compile/numerics_excess": worst.excess if worst is not None and math.isfinite(worst.excess) else None,
            "compile/speedup": self.speedup,
        }
        return {name: value for name, value in values.items() if value is not None}


def compile_model(
    model: Callable[..., Any],
    example_inputs: object,
    config: CompileConfig | Mapping[str, Any] | None = None,
    *,
    tolerance: ToleranceConfig | None = None,
    loss: Callable[[Any], torch.Tensor] | None = None,
    measures_speedup: bool = False,
    name: str | None = None,
    observers: Sequence[Observer] = (),
) -> CompileResult:
    """Compile a model by the first step of a declared chain whose numbers are right.

    Every step is compiled and validated on deep copies; only then is the model itself compiled, in place where it is a
    module, so an optimiser keeps its parameters. Call it before other models are compiled: it empties the
    compiler's memory in between, and what was compiled before is compiled again on its next call.

    Args:
        model: a module, a bound method of one, or any callable.
        example_inputs: a tuple of positional inputs, a mapping of keyword inputs, or the only input.
        config: arguments of ``torch.compile`` and the chain ``fallback``.
        tolerance: how far the numbers may be from eager's; by default both are held against a float64 run.
        loss: makes a scalar from the output; given, gradients are validated, too.
        measures_speedup: whether to time both sides for a few seconds.
        name: what observers know the model by; by default its own name.
        observers: who is told how each step compiled, what was measured, and what became of it. What an observer
            raises becomes a warning.

    Raises:
        ConfigError: an argument of ``config`` is unknown or impossible.
        PairError: the model cannot be copied, or raises without any compilation.
    """
    request = _request(model, example_inputs, loss)
    audience = _Audience(name or str(getattr(model, "__qualname__", type(model).__name__)), observers)
    result, timing = _follow_chain(
        request,
        _chain(_as_config(config)),
        tolerance or ToleranceConfig(),
        audience,
        measures_speedup=measures_speedup,
    )
    audience.tell_result(result, timing)
    return result


def _follow_chain(
    request: PairRequest,
    chain: Sequence[CompileConfig],
    tolerance: ToleranceConfig,
    audience: _Audience,
    *,
    measures_speedup: bool,
) -> tuple[CompileResult, tuple[ProcessRecord, ...]]:
    """Try one step after the other; return what became of it, and the times behind its speedup."""
    model = request.model
    attempts: list[CompileAttempt] = []
    tried = _Tried(CompileFacts(CompileStatus.FAILED), problem=None)
    for step_config in chain:
        (step,) = compile_steps(step_config)
        if step.is_eager:
            attempts.append(CompileAttempt(step.description))
            return CompileResult(model, CompileStatus.FELL_BACK, tuple(attempts), tried.facts, tried.numerics), ()
        tried = _try_step(request, step_config, tolerance, measures_speedup=measures_speedup)
        audience.tell_compile(tried.facts)
        attempts.append(CompileAttempt(step.description, tried.problem))
        if tried.problem is None:
            status = CompileStatus.FELL_BACK if len(attempts) > 1 else CompileStatus.COMPILED
            compiled, speedup = compile_for_use(model, step), speedup_of(tried.timing)
            result = CompileResult(compiled, status, tuple(attempts), tried.facts, tried.numerics, speedup)
            return result, tried.timing
    status = CompileStatus.NOTHING_COMPILED if tried.is_nothing_compiled else CompileStatus.FAILED
    return CompileResult(model, status, tuple(attempts), tried.facts, tried.numerics), ()


@dataclass(frozen=True, slots=True)
class _Audience:
    """The observers of one model, told in the form in which a pytest run tells them.

    Attributes:
        name: what they know the model by.
        observers: who is told; what they raise becomes a warning.
    """

    name: str
    observers: Sequence[Observer]

    def tell_compile(self, facts: CompileFacts) -> None:
        """Tell how one step compiled."""
        record = record_compile(facts)
        for observer in self.observers:
            _warn(tell(observer.on_compile, self.name, record))

    def tell_result(self, result: CompileResult, timing: tuple[ProcessRecord, ...]) -> None:
        """Tell what was measured, and what became of the model."""
        numerics = record_numerics(result.numerics) if result.numerics is not None else {}
        evidence = Evidence(timing=timing, numerics=numerics, compile=record_compile(result.facts))
        case = CaseResult.of(Verdict(self.name, tuple(_checks(result))), evidence)
        for observer in self.observers:
            _warn(tell(observer.on_measure, self.name, evidence))
            _warn(tell(observer.on_verdict, case))


def _checks(result: CompileResult) -> Iterator[Check]:
    """Put a result into the checks that a gate would make of it; a fallback to eager passes none."""
    used = Outcome.PASSED if result.is_compiled else Outcome.FAILED
    outcome = Outcome.SKIPPED if result.mode_used == "eager" else used
    said = f"{result.status.value}: {result.mode_used or 'no step served'}"
    yield Check(CheckName.COMPILE, outcome, said if result.error is None else f"{said}, since {result.error}")
    if result.numerics is not None:
        within = Outcome.PASSED if result.numerics.is_within else Outcome.FAILED
        lines = describe_comparison(result.numerics) or [describe_agreement(len(result.numerics.leaves))]
        yield Check(CheckName.NUMERICS, within, lines[0], details=tuple(lines[1:]))


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        warnings.warn(problem, RuntimeWarning, stacklevel=4)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What one step came to; ``problem`` says why it does not serve, None where it does."""

    facts: CompileFacts
    problem: str | None
    numerics: NumericsComparison | None = None
    timing: tuple[ProcessRecord, ...] = ()

    @property
    def is_nothing_compiled(self) -> bool:
        return self.facts.status is CompileStatus.NOTHING_COMPILED


def _try_step(
    request: PairRequest, config: CompileConfig, tolerance: ToleranceConfig, *, measures_speedup: bool
) -> _Tried:
    """Compile and validate copies by one step.

    Raises:
        PairError: the model cannot be copied, or raises without any compilation.
    """
    case_config = CaseConfig(compile=config, tolerance=tolerance)
    run = CaseRun(request, case_config, threads=current_threads())
    run.cache_dir = default_cache_dir()
    try:
        facts = run.built.facts
        if facts.status is not CompileStatus.COMPILED:
            errors = [attempt.error for attempt in facts.attempts if attempt.error is not None]
            return _Tried(facts, facts.explanation or "; ".join(errors) or facts.status.value)
        comparison = run.numerics
        if comparison is None or not comparison.is_within:
            lines = [] if comparison is None else describe_comparison(comparison)
            return _Tried(facts, "; ".join(lines[:2]) or "nothing could be compared", comparison)
        timing = (run.measure_ratio(),) if measures_speedup else ()
        return _Tried(facts, None, comparison, timing)
    finally:
        run.close()


def _chain(config: CompileConfig) -> list[CompileConfig]:
    """Return one configuration a step, in order."""
    first = config.model_copy(update={"fallback": ()})
    return [first, *(first.model_copy(update={"mode": mode, "options": None}) for mode in config.fallback)]


def _as_config(config: CompileConfig | Mapping[str, Any] | None) -> CompileConfig:
    if isinstance(config, CompileConfig):
        return config
    return validate_section(CompileConfig, config or {}, "compile_model")


def _request(
    model: Callable[..., Any], example_inputs: object, loss: Callable[[Any], torch.Tensor] | None
) -> PairRequest:
    if isinstance(example_inputs, Mapping):
        args, kwargs = (), dict(example_inputs)
    else:
        args, kwargs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,), {}
    mode = ExecutionMode.capture(is_training_step=loss is not None)
    return PairRequest(model, args, kwargs, loss=loss, mode=mode)
