"""Compile one side of a pair safely: every failure becomes a fact, and nothing falls back in silence.

``torch.compile`` is lazy. A wrong mode or backend raises where the model is wrapped, everything else on the first call;
so a step of the chain counts as working only once it has run, backward pass included.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch._dynamo
from torch.torch_version import TorchVersion
from torch.utils import _pytree as pytree

from pytest_nnopt.errors import PairError
from pytest_nnopt.model import CompileAttempt, CompileFacts, CompileStatus
from pytest_nnopt.torch_backend.compile_errors import describe_error, explain_nothing_compiled
from pytest_nnopt.torch_backend.counters import CompileObserver
from pytest_nnopt.torch_backend.isolation import reset_compiler, warnings_not_raised
from pytest_nnopt.torch_backend.layout import isolate_compilation
from pytest_nnopt.torch_backend.side import Side
from pytest_nnopt.torch_backend.undoing import gpus_of, preserved_state

Inputs = tuple[tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class CompileStep:
    """One way of calling ``torch.compile``; the mode ``"eager"`` stands for not calling it.

    Attributes:
        mode: a mode of ``torch.compile``, or ``"eager"``.
        backend: name of a registered backend, or a backend itself.
        fullgraph: whether a graph break is an error.
        dynamic: whether shapes are symbolic; None leaves it to the compiler.
        options: options of the backend; torch accepts them only without a mode.
    """

    mode: str | None = None
    backend: str | Callable[..., Any] = "inductor"
    fullgraph: bool = False
    dynamic: bool | None = None
    options: Mapping[str, Any] | None = None

    @property
    def is_eager(self) -> bool:
        """Whether this step leaves the model uncompiled."""
        return self.mode == "eager"

    @property
    def description(self) -> str:
        """The step as people would write it, as in ``mode='max-autotune', fullgraph=True``."""
        if self.is_eager:
            return "eager"
        said = {
            "mode": None if self.mode == "default" else self.mode,
            "backend": None if self.backend == "inductor" else self._backend_name,
            "fullgraph": self.fullgraph or None,
            "dynamic": self.dynamic,
            "options": dict(self.options) if self.options else None,
        }
        return ", ".join(f"{name}={value!r}" for name, value in said.items() if value is not None) or "default mode"

    @property
    def _backend_name(self) -> str:
        return self.backend if isinstance(self.backend, str) else getattr(self.backend, "__name__", repr(self.backend))

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of ``torch.compile``."""
        return {
            "mode": None if self.mode == "default" else self.mode,
            "backend": self.backend,
            "fullgraph": self.fullgraph,
            "dynamic": self.dynamic,
            "options": None if self.options is None else dict(self.options),
        }


@dataclass(frozen=True, slots=True)
class CompiledSide:
    """What came of a chain of steps.

    Attributes:
        side: the candidate, ready to run; None where every step failed.
        facts: how it was compiled, and what was tried before.
        errors: the exceptions of the steps that failed, in order, with their tracebacks.
        seconds: wall time of the first call, which is when torch compiles; None where nothing was to be compiled.
    """

    side: Side | None
    facts: CompileFacts
    errors: tuple[Exception, ...] = ()
    seconds: float | None = None


def compile_side(
    eager: Side,
    steps: Sequence[CompileStep],
    *,
    make_side: Callable[[], Side] | None = None,
    samples: Sequence[Inputs] = (),
) -> CompiledSide:
    """Compile a copy of ``eager`` by the first of ``steps`` that works.

    A step works when the side, on copies of its inputs, runs through: once on its own inputs, once on each sample, and
    once more on its own inputs, so that a model which recompiles on every call shows it. A training step includes its
    backward pass. Afterwards inputs, parameters, buffers, gradients and random state are as they were. To be called
    inside :func:`~pytest_nnopt.torch_backend.isolation.isolated_compilation`.

    Args:
        eager: the side to copy; it is left alone.
        steps: what to try, in order; a step ``"eager"`` always works and counts as a fallback.
        make_side: makes a fresh uncompiled side for each step, for models that cannot be deep-copied.
        samples: further inputs the candidate will be called with, as pairs of positional and keyword arguments.

    Raises:
        PairError: the uncompiled side raises on these inputs too, or cannot be copied.
    """
    make = make_side or (lambda: copy_side(eager))
    errors: list[Exception] = []
    attempts: list[CompileAttempt] = []
    for step in steps:
        try:
            compiled = _attempt(make(), step, samples)
        except Exception as error:
            if not errors:
                _require_eager_to_run(make(), samples)
            errors.append(error)
            attempts.append(CompileAttempt(step.description, error=describe_error(error)))
            reset_compiler()
            continue
        attempts.append(CompileAttempt(step.description))
        fell_back = errors and (step.is_eager or compiled.facts.graphs)
        status = CompileStatus.FELL_BACK if fell_back else compiled.facts.status
        facts = replace(compiled.facts, status=status, attempts=tuple(attempts))
        return replace(compiled, facts=facts, errors=tuple(errors))
    return CompiledSide(None, CompileFacts(CompileStatus.FAILED, attempts=tuple(attempts)), tuple(errors))


def compile_for_use(model: Callable[..., Any], step: CompileStep) -> Callable[..., Any]:
    """Compile a model itself by a step that is known to work: a module in place, any other callable as a new one."""
    return _wrap(Side(function=model), step.arguments).function


def compile_copy(eager: Side, step: CompileStep) -> Side:
    """Compile a further copy of ``eager`` by a step that is known to work, with guards of its own, and run it once.

    To be called inside :func:`~pytest_nnopt.torch_backend.isolation.isolated_compilation`.
    """
    copied = copy_side(eager)
    if step.is_eager:
        return copied
    function, arguments = isolate_compilation(copied.function, step.arguments)
    with warnings_not_raised():
        compiled = _wrap(replace(copied, function=function), arguments)
        _run_on_copies(compiled, [])
    return compiled


def copy_side(side: Side) -> Side:
    """Return a side that shares no tensor with ``side``: its own module, function and inputs.

    Raises:
        PairError: the model cannot be deep-copied.
    """
    try:
        function, module = copy.deepcopy((side.function, side.module))
    except Exception as error:
        name = type(side.module or side.function).__name__
        raise PairError(f"{name} cannot be deep-copied: {describe_error(error)}") from error
    args, kwargs = clone_inputs((side.args, side.kwargs))
    return replace(side, function=function, module=module, args=args, kwargs=kwargs)


def clone_inputs(inputs: Inputs) -> Inputs:
    """Copy inputs with their strides and aliasing; a tensor inside a graph is copied without its history."""
    memo: dict[int, Any] = {}
    for leaf in pytree.tree_leaves(inputs):
        if isinstance(leaf, torch.Tensor) and not leaf.is_leaf:
            memo[id(leaf)] = leaf.detach().clone().requires_grad_()
    cloned: Inputs = copy.deepcopy(inputs, memo)
    return cloned


def _attempt(side: Side, step: CompileStep, samples: Sequence[Inputs]) -> CompiledSide:
    if step.is_eager:
        explanation = "the step in use is 'eager', which compiles nothing"
        return CompiledSide(side, CompileFacts(CompileStatus.NOTHING_COMPILED, graphs=0, explanation=explanation))
    with warnings_not_raised(), CompileObserver() as observer:
        compiled = _wrap(side, step.arguments)
        seconds = _run_on_copies(compiled, [*samples, (side.args, side.kwargs)])
        facts = observer.facts()
    if facts.status is CompileStatus.NOTHING_COMPILED:
        facts = replace(facts, explanation=explain_nothing_compiled(facts))
    return CompiledSide(compiled, facts, seconds=seconds)


def _wrap(side: Side, arguments: Mapping[str, Any]) -> Side:
    """Compile in place where a module is called, which keeps its type and its state_dict's keys."""
    function = side.function
    if not isinstance(function, torch.nn.Module):
        return replace(side, function=torch.compile(function, **arguments))
    if torch._dynamo.trace_rules.check(function.forward):
        return replace(side, function=_compile_library_module(function, arguments))
    function.compile(**arguments)
    return side


def _compile_library_module(module: torch.nn.Module, arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """Compile a module whose forward is torch's own, such as ``nn.Sequential``.

    Dynamo skips the frames of torch's files, so ``Module.compile`` compiles nothing there. A frame around the call
    mends that, as ``torch.compile`` itself does for such a module. On torch 2.4 the compiled graph calls the module as
    a whole, which would then call the compiled graph; releases before 2.6 therefore get a wrapper.
    """
    from torch._dynamo.external_utils import wrap_inline

    if TorchVersion(torch.__version__) < "2.6":
        return torch.compile(module, **arguments)
    module._compiled_call_impl = torch.compile(wrap_inline(module._call_impl), **arguments)
    return module


def _run_on_copies(side: Side, samples: Sequence[Inputs]) -> float:
    """Run the side on copies of its own inputs, then of each sample, and undo what that did to its state.

    Returns:
        The seconds that the first run took.
    """
    gpus = gpus_of(side)
    seconds = []
    with preserved_state(side.module), torch.random.fork_rng(gpus), side.mode.active():
        for inputs in ((side.args, side.kwargs), *samples):
            args, kwargs = clone_inputs(inputs)
            start = time.perf_counter()
            replace(side, args=args, kwargs=kwargs).step()
            for gpu in gpus:
                torch.cuda.synchronize(gpu)
            seconds.append(time.perf_counter() - start)
    return seconds[0]


def _require_eager_to_run(side: Side, samples: Sequence[Inputs]) -> None:
    named = {f" on samples[{index}]": sample for index, sample in enumerate(samples)}
    for where, (args, kwargs) in {"": (side.args, side.kwargs), **named}.items():
        try:
            _run_on_copies(replace(side, args=args, kwargs=kwargs), [])
        except Exception as error:
            why = f"the model raises {describe_error(error)}{where} without any compilation"
            raise PairError(f"{why}; mend the model or its inputs first") from error
