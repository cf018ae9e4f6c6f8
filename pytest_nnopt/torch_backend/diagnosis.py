"""Trace wrong numbers to their cause by further runs: by stages of the compiler, then by parts of the model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.numerics import describe_problem
from pytest_nnopt.numerics.diagnosis import Diagnosis, PartResult, StageResult
from pytest_nnopt.torch_backend.comparing import compare_sides, with_inputs
from pytest_nnopt.torch_backend.compile_errors import describe_error
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_copy, copy_side
from pytest_nnopt.torch_backend.observation import clone_tensor
from pytest_nnopt.torch_backend.tree import map_tensors, named_tensors

if TYPE_CHECKING:
    from pytest_nnopt.numerics import Tolerance
    from pytest_nnopt.torch_backend.compiling import Inputs
    from pytest_nnopt.torch_backend.side import Side

_EARLIER_STAGES = ("eager", "aot_eager")
_BUDGET_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """A case whose numbers are wrong.

    Attributes:
        reference: the eager side, with the inputs on which the numbers are wrong.
        candidate: the candidate side with the same inputs.
        step: how the candidate was compiled; None for one that ``torch.compile`` did not make.
        tolerance: what is allowed.
        seed: seed of the run that failed.
        inputs_name: name of the inputs; empty for the pair's own.
    """

    reference: Side
    candidate: Side
    step: CompileStep | None
    tolerance: Tolerance
    seed: int
    inputs_name: str = ""


def diagnose(
    trouble: Trouble, *, budget_seconds: float = _BUDGET_SECONDS, now: Callable[[], float] = time.monotonic
) -> Diagnosis:
    """Find the stage of the compiler that makes the numbers wrong, and the first part of the model that is wrong alone.

    Compiled candidates are compiled anew, by the backends ``eager`` and ``aot_eager`` and then by their own; with
    inductor also under ``emulate_precision_casts``. The parts of a module are then compiled one at a time by the first
    backend that is wrong, and get the inputs that they have in the reference. To be called inside
    :func:`~pytest_nnopt.torch_backend.isolation.isolated_compilation`.

    Args:
        trouble: the case.
        budget_seconds: no further compilation begins after so long.
        now: the clock, in seconds.
    """
    deadline = now() + budget_seconds
    stages: list[StageResult] = []
    for step in _stages(trouble.step):
        if now() >= deadline or (stages and stages[-1].problem is not None):
            break
        stages.append(StageResult(_name_of(step), _problem_of(trouble, step)))
    wrong = stages[-1] if stages and stages[-1].problem is not None else None
    emulated = None
    if wrong is not None and wrong.backend == "inductor" and trouble.step is not None and now() < deadline:
        with _emulated_casts() as is_known:
            emulated = StageResult(wrong.backend, _problem_of(trouble, trouble.step)) if is_known else None
    parts = None
    if (wrong is not None or trouble.step is None) and trouble.reference.module is not None:
        first_wrong = None if wrong is None else _stages(trouble.step)[len(stages) - 1]
        parts = _Parts(trouble, first_wrong, lambda: now() < deadline).search()
    return Diagnosis(trouble.inputs_name, tuple(stages), emulated, parts)


def _stages(step: CompileStep | None) -> list[CompileStep]:
    """Return the ways to compile, from the earliest stage to the whole."""
    if step is None or step.is_eager:
        return []
    names = [name for name in _EARLIER_STAGES if name != step.backend]
    if step.backend == "eager":
        names = []
    return [*(CompileStep(backend=name, fullgraph=step.fullgraph, dynamic=step.dynamic) for name in names), step]


def _name_of(step: CompileStep) -> str:
    return step.backend if isinstance(step.backend, str) else getattr(step.backend, "__name__", repr(step.backend))


def _problem_of(trouble: Trouble, step: CompileStep) -> str | None:
    try:
        candidate = compile_copy(trouble.reference, step)
    except Exception as error:  # a compiler may raise anything, and then this stage has no numbers at all
        return describe_error(error)
    return _compared(candidate, trouble.reference, trouble)


def _compared(candidate: Side, reference: Side, trouble: Trouble) -> str | None:
    """Say what is wrong with a candidate; None where nothing is, or nothing can be compared."""
    try:
        comparison = compare_sides(candidate, reference, trouble.tolerance, seed=trouble.seed)
    except NumericsError:
        return None
    worst = comparison.worst
    return None if comparison.is_within or worst is None else describe_problem(worst)


@contextlib.contextmanager
def _emulated_casts() -> Iterator[bool]:
    """Let inductor round intermediate results as eager does; False where this version of torch cannot."""
    from torch._inductor import config

    if not hasattr(config, "emulate_precision_casts"):
        yield False
        return
    with config.patch(emulate_precision_casts=True):
        yield True


class _Parts:
    """The search for the first part of a module that is wrong on its own.

    It looks at the children in the order of their calls, and then at the children of the one found.
    """

    def __init__(self, trouble: Trouble, step: CompileStep | None, has_time: Callable[[], bool]) -> None:
        self._trouble = trouble
        self._step = step
        self._has_time = has_time
        self._compared = 0
        self._is_complete = True

    def search(self) -> PartResult | None:
        """Return what was found; None for a module without parts."""
        found = PartResult()
        while (deeper := self._first_wrong_child(found.path or "")) is not None:
            found = deeper
        if self._compared == 0:
            return None
        return replace(found, compared=self._compared, is_complete=self._is_complete)

    def _first_wrong_child(self, path: str) -> PartResult | None:
        for name, inputs in _calls_of_children(self._trouble, path):
            if not self._has_time():
                self._is_complete = False
                return None
            reference = self._part(self._trouble.reference, name, inputs)
            problem = self._problem(reference, name, inputs)
            if problem is not None:
                assert reference.module is not None
                return PartResult(name, type(reference.module).__name__, problem)
        return None

    def _part(self, side: Side, name: str, inputs: Inputs) -> Side:
        assert side.module is not None
        part = side.module.get_submodule(name)
        loss = None if self._trouble.reference.loss is None else _projection
        return with_inputs(replace(side, function=part, module=part, loss=loss), inputs)

    def _problem(self, reference: Side, name: str, inputs: Inputs) -> str | None:
        """Say what is wrong with one part; None where nothing is, or where it cannot be run alone."""
        try:
            if self._step is None:
                candidate = self._part(self._trouble.candidate, name, inputs)
            else:
                candidate = compile_copy(reference, self._step)
            self._compared += 1
            return _compared(candidate, reference, self._trouble)
        except Exception:  # a part that cannot be run or compiled alone tells nothing about the whole
            return None


def _projection(output: Any) -> torch.Tensor:
    """Make a scalar of a part's output whose gradient differs from element to element."""
    tensors = [tensor for _, tensor in named_tensors(output, "") if tensor.is_floating_point() and tensor.requires_grad]
    return torch.stack([_weighted_sum(tensor) for tensor in tensors]).sum()


def _weighted_sum(tensor: torch.Tensor) -> torch.Tensor:
    count = torch.arange(tensor.numel(), device=tensor.device, dtype=torch.float32)
    return (tensor.reshape(-1) * torch.cos(count).to(tensor.dtype)).sum().to(torch.float64)


def _calls_of_children(trouble: Trouble, path: str) -> list[tuple[str, Inputs]]:
    """Run the reference once and return the children of a part in the order of their first calls, with its inputs."""
    reference = copy_side(trouble.reference)
    assert reference.module is not None
    calls: dict[str, Inputs] = {}
    handles = []
    for name, child in reference.module.get_submodule(path).named_children():
        full_name = f"{path}.{name}" if path else name
        hook = _Recorder(full_name, calls)
        handles.append(child.register_forward_pre_hook(hook, with_kwargs=True))
    torch.manual_seed(trouble.seed)
    with contextlib.suppress(Exception), reference.mode.active():  # what was called before it raised is of use, too
        reference.call()
    for handle in handles:
        handle.remove()
    return list(calls.items())


class _Recorder:
    """A hook that keeps a copy of the inputs of a module's first call."""

    def __init__(self, name: str, calls: dict[str, Inputs]) -> None:
        self._name = name
        self._calls = calls

    def __call__(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._name not in self._calls:
            self._calls[self._name] = map_tensors((args, kwargs), clone_tensor)
