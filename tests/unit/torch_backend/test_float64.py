"""The float64 run computes the same thing, in float64 throughout."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.torch_backend.float64 import nudge, promote
from pytest_nnopt.torch_backend.observation import observe
from pytest_nnopt.torch_backend.side import ExecutionMode, Side


class Casting(nn.Module):
    """Casts to narrow types in every way that models do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.scale: Tensor
        self.register_buffer("scale", torch.full((8,), 0.1, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Any:
        y = self.fc(x).half().float().to(torch.bfloat16).to(dtype=torch.float32)
        return y + self.scale + torch.zeros(8, dtype=torch.float16) + torch.full((8,), 0.1)


def test_every_cast_is_widened() -> None:
    module, x = Casting(), torch.randn(4, 8)
    wide = promote(Side(module, (x,), module=module))
    output = wide.call()
    expected = F.linear(x.double(), module.fc.weight.double(), module.fc.bias.double()) + module.scale.double() + 0.1
    assert output.dtype is torch.float64
    torch.testing.assert_close(output, expected, rtol=1e-14, atol=1e-14)


def test_the_side_itself_stays_as_it_was() -> None:
    module, x = Casting(), torch.randn(4, 8)
    wide = promote(Side(module, (x,), module=module))
    assert module.fc.weight.dtype is torch.float32
    assert x.dtype is torch.float32
    assert torch.get_default_dtype() is torch.float32
    assert wide.module is not module


def test_a_bound_method_belongs_to_the_copy() -> None:
    module = nn.Linear(2, 2)
    wide = promote(Side(module.forward, (torch.ones(1, 2),), module=module))
    assert wide.call().dtype is torch.float64


def test_constants_that_a_function_closes_over_are_widened() -> None:
    weight = torch.randn(3, 3)
    wide = promote(Side(lambda x: torch.cat([x @ weight, weight]), (torch.ones(3, 3),)))
    assert wide.call().dtype is torch.float64


def test_a_loss_with_a_narrow_target_has_gradients_in_float64() -> None:
    target, x = torch.randn(3), torch.randn(3, requires_grad=True)
    side = Side(torch.sin, (x,), loss=lambda y: F.mse_loss(y, target), mode=ExecutionMode(is_grad_enabled=True))
    leaves = {leaf.path: leaf for leaf in observe(promote(side), seed=0).leaves}
    assert getattr(leaves["gradient of input args[0]"], "dtype", None) == "float64"


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x + torch.randn_like(x),
        lambda x: x + torch.rand_like(x),
        lambda x: x + torch.randn(64),
        lambda x: x + torch.rand(64),
        lambda x: x + torch.empty(64).uniform_(0, 2),
        lambda x: x + torch.empty(64).exponential_(),
        lambda x: F.dropout(x, 0.5),
    ],
)
def test_random_numbers_are_those_of_the_narrow_run(draw: Any) -> None:
    side = Side(draw, (torch.randn(64),))
    narrow, wide = (next(iter(observe(run, seed=5).leaves)) for run in (side, promote(side)))
    pairs = zip(narrow.read(), wide.read(), strict=True)  # type: ignore[union-attr]
    assert all(abs(a - b).max() < 1e-5 for a, b in pairs)


def test_integers_and_complex_numbers_keep_their_kind() -> None:
    side = Side(lambda i, z: (i, z), (torch.arange(3), torch.ones(2, dtype=torch.complex64)))
    assert [tensor.dtype for tensor in promote(side).call()] == [torch.int64, torch.complex128]


def test_works_in_place_and_by_assignment() -> None:
    def run(x: Tensor) -> Tensor:
        y = torch.zeros(4, dtype=torch.float32)
        y[0] = x.sum()
        y.add_(x)
        return y

    output = promote(Side(run, (torch.full((4,), 0.1, dtype=torch.float64),))).call()
    assert output[1] == 0.1


def test_autocast_is_off() -> None:
    side = Side(
        torch.matmul, (torch.ones(2, 2), torch.ones(2, 2)), mode=ExecutionMode(autocast={"cpu": torch.bfloat16})
    )
    assert not promote(side).mode.autocast


def test_what_cannot_be_copied_says_why() -> None:
    module = nn.Linear(2, 2)
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(NumericsError, match="cannot be copied to float64: TypeError"):
        promote(Side(module, (torch.ones(2),), module=module))


class TestNudge:
    def test_it_moves_within_the_rounding_of_the_dtype(self) -> None:
        x = torch.randn(1000)
        moved = nudge(Side(torch.sin, (x,)), seed=1).args[0]
        change = (moved / x.double() - 1).abs()
        assert 0 < change.max() <= torch.finfo(torch.float32).eps / 2

    def test_it_is_repeatable(self) -> None:
        side = Side(torch.sin, (torch.randn(10),))
        assert torch.equal(nudge(side, seed=1).args[0], nudge(side, seed=1).args[0])
        assert not torch.equal(nudge(side, seed=1).args[0], nudge(side, seed=2).args[0])

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_each_device_draws_its_own(self) -> None:
        side = Side(torch.add, (torch.randn(1000, device="cuda"), torch.randn(1000)))
        first, second = nudge(side, seed=1).args, nudge(side, seed=1).args
        for x, moved, again in zip(side.args, first, second, strict=True):
            assert torch.equal(moved, again)
            assert 0 < (moved / x.double() - 1).abs().max() <= torch.finfo(torch.float32).eps / 2

    def test_masks_integers_and_what_is_not_finite_stay(self) -> None:
        inputs = torch.tensor([0.0, 1.0, -2.0, torch.inf, torch.nan]), torch.arange(3), torch.zeros(0)
        moved = nudge(Side(torch.sin, inputs), seed=1).args
        torch.testing.assert_close(moved[0], inputs[0].double(), rtol=0, atol=0, equal_nan=True)
        assert torch.equal(moved[1], inputs[1])

    def test_parameters_and_complex_numbers_move_too(self) -> None:
        module, z = nn.Linear(2, 2), torch.randn(4, dtype=torch.complex64)
        moved = nudge(Side(module, (z,), module=module), seed=1)
        assert moved.module is not None
        assert not torch.equal(next(moved.module.parameters()), module.weight.double())
        assert not torch.equal(moved.args[0], z.to(torch.complex128))

    def test_autocast_rounds_more(self) -> None:
        x = torch.randn(1000)
        side = Side(torch.sin, (x,), mode=ExecutionMode(autocast={"cpu": torch.bfloat16}))
        assert (nudge(side, seed=1).args[0] / x.double() - 1).abs().max() > 1e-3
