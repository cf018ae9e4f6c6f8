from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_nnopt.torch_backend.side import ExecutionMode, Side

TRAINING = ExecutionMode(is_grad_enabled=True)


def state() -> tuple[bool, bool, bool]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")


class TestCapture:
    def test_without_a_loss_gradients_are_off(self) -> None:
        assert ExecutionMode.capture(is_training_step=False) == ExecutionMode()

    def test_a_training_step_has_gradients_even_where_the_test_turned_them_off(self) -> None:
        with torch.inference_mode():
            assert ExecutionMode.capture(is_training_step=True) == TRAINING

    def test_inference_mode_and_autocast_are_the_tests_own(self) -> None:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.float16):
            mode = ExecutionMode.capture(is_training_step=False)
        assert mode == ExecutionMode(is_inference=True, autocast={"cpu": torch.float16})


class TestActive:
    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            (ExecutionMode(), (False, False, False)),
            (TRAINING, (True, False, False)),
            (ExecutionMode(is_inference=True), (False, True, False)),
            (ExecutionMode(autocast={"cpu": torch.bfloat16}), (False, False, True)),
        ],
    )
    def test_the_captured_mode_holds_inside_and_the_old_one_afterwards(
        self, mode: ExecutionMode, expected: tuple[bool, bool, bool]
    ) -> None:
        before = state()
        with mode.active():
            assert state() == expected
        assert state() == before

    def test_the_mode_is_left_after_an_error(self) -> None:
        before = state()
        with pytest.raises(ZeroDivisionError), ExecutionMode(is_inference=True).active():
            raise ZeroDivisionError
        assert state() == before

    def test_the_callers_autocast_and_inference_mode_do_not_leak_in(self) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode(), TRAINING.active():
            assert state() == (True, False, False)

    def test_autocast_can_be_left_off(self) -> None:
        with ExecutionMode(autocast={"cpu": torch.bfloat16}).active(autocast=False):
            assert state() == (False, False, False)

    def test_autocast_has_the_captured_dtype(self) -> None:
        with ExecutionMode(autocast={"cpu": torch.float16}).active():
            assert torch.get_autocast_dtype("cpu") is torch.float16


class TestStep:
    def test_without_a_loss_it_is_the_call(self) -> None:
        side = Side(lambda x, *, y: x + y, args=(1,), kwargs={"y": 2})
        assert side.call() == side.step() == 3

    def test_with_a_loss_it_makes_fresh_gradients_each_time(self) -> None:
        module = torch.nn.Linear(3, 1, bias=False)
        side = Side(module, args=(torch.ones(2, 3),), module=module, loss=torch.sum, mode=TRAINING)
        for _ in range(2):
            output = side.step()
            assert module.weight.grad is not None
            assert module.weight.grad.tolist() == [[2.0, 2.0, 2.0]]
        assert output.shape == (2, 1)

    def test_a_function_without_a_module_can_be_a_training_step(self) -> None:
        x = torch.ones(3, requires_grad=True)
        Side(lambda x: 2 * x, args=(x,), loss=torch.sum, mode=TRAINING).step()
        assert x.grad is not None
        assert x.grad.tolist() == [2.0, 2.0, 2.0]


class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the casts to another type, and products by the type of their result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.casts = 0
        self.products: list[torch.dtype] = []

    def __torch_dispatch__(
        self, func: Any, types: tuple[type, ...], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.casts += str(func) == "aten._to_copy.default"
        if str(func) in ("aten.mm.default", "aten.addmm.default"):
            self.products.append(result.dtype)
        return result


AUTOCAST = {"cpu": torch.bfloat16}


class TestAutocast:
    @pytest.mark.parametrize("loss", [None, torch.sum])
    def test_each_step_casts_the_parameters_as_a_call_in_an_autocast_of_its_own_does(self, loss: Any) -> None:
        linear = torch.nn.Linear(4, 4)
        mode = ExecutionMode(is_grad_enabled=loss is not None, autocast=AUTOCAST)
        side = Side(linear, args=(torch.ones(2, 4),), module=linear, loss=loss, mode=mode)

        def casts(steps: int, contexts: int) -> int:
            with Casts() as seen:
                for _ in range(contexts):
                    with mode.active():
                        for _ in range(steps):
                            side.step()
            return int(seen.casts)

        assert casts(1, 1) > 0
        assert casts(5, 1) == casts(1, 5) == 5 * casts(1, 1)

    def test_what_is_kept_out_of_it_keeps_its_precision_in_the_backward_pass(self) -> None:
        linear = torch.nn.Linear(4, 4, bias=False)

        def precise(x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", enabled=False):
                output: torch.Tensor = linear(x)
                return output

        side = Side(
            precise,
            args=(torch.ones(2, 4, requires_grad=True),),
            module=linear,
            loss=torch.sum,
            mode=ExecutionMode(is_grad_enabled=True, autocast=AUTOCAST),
        )
        with Casts() as seen, side.mode.active():
            side.step()
            assert torch.is_autocast_enabled("cpu")
        assert set(seen.products) == {torch.float32}


def test_only_a_call_of_the_function_alone_is_bare() -> None:
    assert Side(torch.relu).is_bare
    assert not Side(torch.relu, loss=torch.sum, mode=TRAINING).is_bare
    assert not Side(torch.relu, mode=ExecutionMode(autocast=AUTOCAST)).is_bare


@pytest.mark.parametrize("has_module", [False, True])
def test_gradients_of_inputs_are_those_of_one_step(has_module: bool) -> None:
    x = torch.ones(2, 3, requires_grad=True)
    module = torch.nn.Tanh()
    side = Side(module, kwargs={"input": x}, module=module if has_module else None, loss=torch.sum, mode=TRAINING)
    side.step()
    assert x.grad is not None
    once = x.grad.clone()
    for _ in range(3):
        side.step()
    assert torch.equal(x.grad, once)
