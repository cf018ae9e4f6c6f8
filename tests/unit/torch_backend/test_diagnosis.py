from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pytest_nnopt.numerics import Tolerance
from pytest_nnopt.torch_backend.compiling import CompileStep
from pytest_nnopt.torch_backend.diagnosis import Trouble, diagnose
from pytest_nnopt.torch_backend.isolation import isolated_compilation
from pytest_nnopt.torch_backend.quiet import torch_kept_quiet
from pytest_nnopt.torch_backend.side import ExecutionMode, Side

Backend = Callable[[torch.fx.GraphModule, list[torch.Tensor]], Callable[..., Any]]


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with torch_kept_quiet(), isolated_compilation():
        yield


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        output: torch.Tensor = x + self.act(self.linear(x)) * scale
        return output


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(8, 8)
        self.block = Block()
        self.last = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.last(self.block(torch.relu(self.first(x)), scale=0.5))
        return output


def wrong_gelu(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
    """A backend that computes GELU by its approximation."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and "gelu" in str(node.target):
            node.kwargs = {**node.kwargs, "approximate": "tanh"}
    graph.recompile()
    return graph.forward


def wrong_between(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
    """A backend that errs where a graph holds several linear layers alone."""
    count = sum(node.op == "call_function" and "linear" in str(node.target) for node in graph.graph.nodes)
    forward = graph.forward
    return forward if count < 2 else lambda *args: tuple(out * 1.01 for out in forward(*args))


def right(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
    return graph.forward


def side_of(module: nn.Module, **fields: Any) -> Side:
    return Side(module, (torch.linspace(-2, 2, 32).reshape(4, 8),), module=module, **fields)


def trouble_of(backend: Any, *, module: nn.Module | None = None, **fields: Any) -> Trouble:
    side = side_of(module or Net(), **fields)
    return Trouble(side, side, CompileStep(backend=backend), Tolerance(), seed=0)


def test_a_wrong_backend_is_the_culprit_and_the_part_it_spoils_is_named() -> None:
    diagnosis = diagnose(trouble_of(wrong_gelu))
    assert [(stage.backend, stage.problem is None) for stage in diagnosis.stages] == [
        ("eager", True),
        ("aot_eager", True),
        ("wrong_gelu", False),
    ]
    assert diagnosis.culprit is diagnosis.stages[-1]
    assert diagnosis.parts is not None
    assert (diagnosis.parts.path, diagnosis.parts.type_name) == ("block.act", "GELU")
    assert diagnosis.parts.problem.startswith("output: ")
    assert diagnosis.parts.compared == 4
    assert diagnosis.emulated is None


def test_an_error_in_no_part_alone_is_said_to_be_between_them() -> None:
    diagnosis = diagnose(trouble_of(wrong_between))
    assert diagnosis.culprit is not None
    assert diagnosis.parts is not None
    assert (diagnosis.parts.path, diagnosis.parts.compared, diagnosis.parts.is_complete) == (None, 3, True)


def test_what_is_right_when_compiled_afresh_has_no_culprit() -> None:
    diagnosis = diagnose(trouble_of(right))
    assert diagnosis.culprit is None
    assert diagnosis.parts is None
    assert len(diagnosis.stages) == 3


class Counting(nn.Module):
    """Uses a Python value that dynamo holds fast in its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.linear(x)
        return output * (1.0 if not torch.compiler.is_compiling() else 1.01)


def test_an_error_of_capture_is_found_at_the_first_stage() -> None:
    diagnosis = diagnose(trouble_of("aot_eager", module=Counting()))
    assert [stage.backend for stage in diagnosis.stages] == ["eager"]
    assert diagnosis.culprit is not None
    assert diagnosis.parts is not None
    assert diagnosis.parts.path is None


def test_the_backend_eager_is_its_own_only_stage() -> None:
    diagnosis = diagnose(trouble_of("eager", module=Counting()))
    assert [stage.backend for stage in diagnosis.stages] == ["eager"]


def test_a_stage_that_cannot_be_compiled_is_the_culprit_with_its_error() -> None:
    def broken(*_: object) -> Any:
        raise ValueError("no such kernel")

    diagnosis = diagnose(trouble_of(broken))
    assert diagnosis.culprit is not None
    assert "no such kernel" in str(diagnosis.culprit.problem)


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 1.01


class Twisted(Block):
    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        output: torch.Tensor = WrongGradient.apply(super().forward(x, scale=scale))  # type: ignore[no-untyped-call]
        return output


def test_a_candidate_of_the_users_is_compared_part_by_part_gradients_too() -> None:
    mode = ExecutionMode(is_grad_enabled=True)
    reference, wrong = Net(), Net()
    wrong.block = Twisted()
    wrong.load_state_dict(reference.state_dict())
    theirs, ours = (side_of(module, loss=torch.sum, mode=mode) for module in (reference, wrong))
    trouble = Trouble(theirs, ours, None, Tolerance(), seed=0, inputs_name="samples[0]")
    diagnosis = diagnose(trouble)
    assert diagnosis.stages == ()
    assert diagnosis.inputs == "samples[0]"
    assert diagnosis.parts is not None
    assert diagnosis.parts.path == "block"
    assert "gradient" in diagnosis.parts.problem


def test_a_candidate_without_such_parts_tells_nothing() -> None:
    trouble = trouble_of("eager")
    own = replace(trouble, candidate=Side(torch.neg, trouble.reference.args), step=None)
    assert diagnose(own).parts is None


def test_after_the_budget_no_further_compilation_begins() -> None:
    ticks = itertools.count()
    diagnosis = diagnose(trouble_of(wrong_gelu), budget_seconds=5, now=lambda: next(ticks))
    assert [stage.backend for stage in diagnosis.stages] == ["eager", "aot_eager", "wrong_gelu"]
    assert diagnosis.parts is not None
    assert (diagnosis.parts.path, diagnosis.parts.is_complete) == (None, False)
    assert diagnose(trouble_of(wrong_gelu), budget_seconds=0).stages == ()


def test_the_sides_are_as_before() -> None:
    trouble = trouble_of(wrong_gelu)
    assert trouble.reference.module is not None
    before = {name: value.clone() for name, value in trouble.reference.module.state_dict().items()}
    diagnose(trouble)
    assert all(torch.equal(before[name], value) for name, value in trouble.reference.module.state_dict().items())
    assert not any(module._forward_pre_hooks for module in trouble.reference.module.modules())
