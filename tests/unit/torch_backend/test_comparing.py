from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import torch
from torch import nn

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.numerics import Lane, Tolerance
from pytest_nnopt.torch_backend.comparing import compare_sides
from pytest_nnopt.torch_backend.samples import Sample
from pytest_nnopt.torch_backend.side import ExecutionMode, Side

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.compiling import Inputs


def linear_side(*, error: float = 0.0, **fields: Any) -> Side:
    """A linear layer whose output is off by a relative error."""
    torch.manual_seed(0)
    module = nn.Linear(8, 4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + error)
    return Side(module, args=(torch.randn(5, 8),), module=module, **fields)


def noisy(x: torch.Tensor) -> torch.Tensor:
    return x + torch.rand_like(x)


def wrong_above_ten(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 10, x * 1.1, x)


def test_equal_sides_agree_against_a_float64_run() -> None:
    comparison = compare_sides(linear_side(), linear_side(), Tolerance(), seed=0)
    assert comparison.is_within
    assert comparison.lane is Lane.FLOAT64


def test_a_wrong_side_is_found() -> None:
    comparison = compare_sides(linear_side(error=0.01), linear_side(), Tolerance(), seed=0)
    assert not comparison.is_within
    assert comparison.worst is not None
    assert comparison.worst.path == "output"


@pytest.mark.parametrize(("rtol", "is_within"), [(0.02, True), (0.005, False)])
def test_declared_tolerances_compare_element_by_element(rtol: float, is_within: bool) -> None:
    sides = Side(torch.mul, (torch.arange(1.0, 9.0), 1.01)), Side(torch.mul, (torch.arange(1.0, 9.0), 1.0))
    comparison = compare_sides(*sides, Tolerance(rtol=rtol), seed=0)
    assert next(leaf.path for leaf in comparison.leaves) == "output"
    assert comparison.lane is Lane.DECLARED
    assert comparison.leaves[0].is_within is is_within


def test_both_sides_see_the_same_random_numbers() -> None:
    sides = Side(noisy, (torch.zeros(16),)), Side(noisy, (torch.zeros(16),))
    assert compare_sides(*sides, Tolerance(rtol=0.0, atol=0.0), seed=3).is_within


def test_gradients_are_compared_in_a_training_step() -> None:
    def scaled(output: torch.Tensor) -> torch.Tensor:
        return output.sum() * 1.5 - output.sum().detach() * 0.5

    mode = ExecutionMode(is_grad_enabled=True)
    actual, expected = (linear_side(loss=loss, mode=mode) for loss in (scaled, torch.sum))
    comparison = compare_sides(actual, expected, Tolerance(rtol=1e-4, atol=1e-4), seed=0)
    wrong = [leaf.path for leaf in comparison.leaves if not leaf.is_within]
    assert wrong
    assert all("gradient" in path for path in wrong)


def test_every_sample_is_compared_and_named() -> None:
    sides = Side(wrong_above_ten, (torch.ones(4),)), Side(torch.clone, (torch.ones(4),))
    samples = [
        Sample(f"samples[{index}]", ((torch.full((4,), value),), {}), index) for index, value in enumerate((2.0, 20.0))
    ]
    assert compare_sides(*sides, Tolerance(), seed=0).is_within
    comparison = compare_sides(*sides, Tolerance(), seed=0, samples=samples)
    assert [leaf.path for leaf in comparison.leaves if not leaf.is_within] == ["samples[1].output"]


def test_every_sample_is_run_with_its_own_seed() -> None:
    sides = Side(torch.rand_like, (torch.zeros(16),)), Side(noisy, (torch.zeros(16),))
    sample = Sample("samples['zeros']", ((torch.zeros(16),), {}), 7, is_generated=True)
    comparison = compare_sides(*sides, Tolerance(rtol=0.0, atol=0.0), seed=3, samples=[sample])
    assert comparison.is_within
    first, second = (leaf.summary for leaf in comparison.leaves)
    assert first is not None
    assert second is not None
    assert first.sample != second.sample


def test_a_generated_sample_that_the_model_refuses_is_a_note() -> None:
    def picky(x: torch.Tensor) -> torch.Tensor:
        if x.abs().max() > 10:
            raise ValueError("too large")
        return x

    side = Side(picky, (torch.ones(4),))
    inputs: Inputs = ((torch.full((4,), 20.0),), {})
    comparison = compare_sides(side, side, Tolerance(), seed=0, samples=[Sample("samples['large']", inputs, 1, True)])
    (note,) = comparison.notes
    assert note == "samples['large']: the model does not take such inputs: ValueError in forward: too large"
    raising = compare_sides(side, side, Tolerance(), seed=0, samples=[Sample("samples[0]", inputs, 1)])
    assert raising.notes == ("both sides raise ValueError in forward: too large",)


def test_a_sample_that_could_not_be_made_is_a_note() -> None:
    side = Side(torch.clone, (torch.ones(4),))
    sample = Sample("samples['zeros']", ((), {}), 1, is_generated=True, problem="it would change nothing")
    assert compare_sides(side, side, Tolerance(), seed=0, samples=[sample]).notes == (
        "samples['zeros']: it would change nothing",
    )


def test_without_a_float64_run_the_dtype_decides_and_says_why() -> None:
    def single_only(x: torch.Tensor) -> torch.Tensor:
        if x.dtype is torch.float64:
            raise TypeError("single precision only")
        return x

    sides = Side(single_only, (torch.ones(4),)), Side(single_only, (torch.ones(4),))
    comparison = compare_sides(*sides, Tolerance(), seed=0)
    assert comparison.is_within
    assert comparison.lane is Lane.DTYPE
    assert comparison.lane_reason


class Rigid(nn.Module):
    """A model whose tensors cannot be converted."""

    def _apply(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("it is made of stone")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_model_that_cannot_be_widened_is_judged_by_its_dtype() -> None:
    actual, expected = (Side(module, (torch.ones(4),), module=module) for module in (Rigid(), Rigid()))
    comparison = compare_sides(actual, expected, Tolerance(), seed=0)
    assert comparison.is_within
    assert comparison.lane is Lane.DTYPE
    assert "it is made of stone" in comparison.lane_reason


def test_what_cannot_be_compared_is_an_error() -> None:
    side = Side(lambda x: object(), (torch.ones(4),))
    with pytest.raises(NumericsError, match="cannot be compared"):
        compare_sides(side, side, Tolerance(), seed=0)


def test_sides_are_as_before_afterwards() -> None:
    actual, expected = linear_side(), linear_side()
    before = {name: tensor.clone() for name, tensor in expected.module.state_dict().items()} if expected.module else {}
    generator = torch.get_rng_state()
    compare_sides(actual, expected, Tolerance(), seed=1)
    assert expected.module is not None
    assert all(torch.equal(before[name], tensor) for name, tensor in expected.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
