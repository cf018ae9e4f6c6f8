"""What running a side changes is put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.undoing import gpus_of, undone


class Drawing(nn.Module):
    """Draws, counts its calls, and writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor, *, scratch: torch.Tensor) -> torch.Tensor:
        scratch.add_(1)
        return self.norm(x) * self.weight * torch.rand(3)  # type: ignore[no-any-return]


def make_side() -> Side:
    model = Drawing()
    x = torch.randn(4, 3, requires_grad=True)
    mode = ExecutionMode(is_grad_enabled=True)
    return Side(model, args=(x,), kwargs={"scratch": torch.zeros(2)}, module=model, loss=torch.sum, mode=mode)


def snapshot(side: Side) -> list[Any]:
    assert side.module is not None
    tensors = [*side.module.state_dict().values(), *side.args, *side.kwargs.values(), torch.get_rng_state()]
    return [tensor.detach().clone() for tensor in tensors]


def test_state_inputs_and_generators_are_as_before() -> None:
    sides = make_side(), make_side()
    before = [snapshot(side) for side in sides]
    addresses = [side.kwargs["scratch"].data_ptr() for side in sides]
    with undone(*sides):
        for side in sides:
            side.step()
        assert any(not torch.equal(a, b) for a, b in zip(before[0], snapshot(sides[0]), strict=True))
    for side, old, address in zip(sides, before, addresses, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(old, snapshot(side), strict=True))
        assert side.kwargs["scratch"].data_ptr() == address
        assert side.args[0].grad is None
        assert all(parameter.grad is None for parameter in side.module.parameters())  # type: ignore[union-attr]


def test_they_are_also_after_an_error() -> None:
    side = make_side()
    before = snapshot(side)

    def fail() -> None:
        with undone(side):
            side.step()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(side), strict=True))


def test_inputs_made_for_inference_are_put_back_as_well() -> None:
    with torch.inference_mode():
        x = torch.zeros(2)
    side = Side(lambda x: x.add_(1), args=(x,), mode=ExecutionMode(is_inference=True))
    with undone(side), side.mode.active():
        side.step()
    assert x.tolist() == [0, 0]


def test_an_input_that_cannot_be_written_to_is_left() -> None:
    x = torch.tensor(float("nan")).expand(3)
    with undone(Side(torch.relu, args=(x, "text"))):
        pass
    assert x.isnan().all()


def test_on_a_cpu_there_are_no_gpus() -> None:
    assert gpus_of(make_side()) == []
