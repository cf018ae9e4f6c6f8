from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import nn

from pytest_nnopt.errors import PairError
from pytest_nnopt.torch_backend.pair import (
    PairRequest,
    build_own_candidate,
    build_side,
    device_asked_for,
    device_of,
    owner_of,
)
from pytest_nnopt.torch_backend.side import ExecutionMode, Side


class Model(nn.Module):
    """A model with a parameter, a buffer, a hook-visible forward and a second method."""

    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return torch.as_tensor(self.linear(x))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.linear(x)).relu()


class Uncopyable(nn.Module):
    """A model that refuses to be copied."""

    def __deepcopy__(self, memo: object) -> object:
        raise RuntimeError("it holds a socket")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def request_of(model: Any, *args: Any, **fields: Any) -> PairRequest:
    return PairRequest(model, args, **fields)


class TestBuildSide:
    def test_a_side_shares_no_tensor_with_the_test(self) -> None:
        model, x = Model(), torch.zeros(1, 3)
        side = build_side(request_of(model, x, kwargs={"extra": x}))
        assert isinstance(side.module, Model)
        assert side.function is side.module
        assert side.module.linear.weight.data_ptr() != model.linear.weight.data_ptr()
        assert side.args[0].data_ptr() != x.data_ptr()
        assert side.kwargs["extra"] is side.args[0]

    def test_running_a_side_leaves_the_tests_model_alone(self) -> None:
        model = Model()
        build_side(request_of(model, torch.zeros(1, 3))).call()
        assert model.steps.item() == 0

    def test_two_sides_share_nothing(self) -> None:
        request = request_of(Model(), torch.zeros(1, 3))
        one, other = build_side(request), build_side(request)
        assert one.module is not other.module
        assert one.args[0] is not other.args[0]

    def test_a_bound_method_keeps_its_module(self) -> None:
        model = Model()
        side = build_side(request_of(model.encode, torch.zeros(1, 3)))
        assert isinstance(side.module, Model)
        assert side.module is not model
        assert side.function.__self__ is side.module  # type: ignore[attr-defined]  # a bound method has it

    def test_forward_stands_for_the_module_so_that_hooks_run(self) -> None:
        calls: list[str] = []
        model = Model()
        model.register_forward_hook(lambda *_: calls.append("hook"))
        side = build_side(request_of(model.forward, torch.zeros(1, 3)))
        assert side.function is side.module
        side.call()
        assert calls == ["hook"]

    def test_a_forward_of_something_else_stays_a_method(self) -> None:
        class Plain:
            def forward(self, x: int) -> int:
                return x + 1

        side = build_side(request_of(Plain().forward, 1))
        assert (side.module, side.call()) == (None, 2)

    def test_a_function_has_no_module(self) -> None:
        side = build_side(request_of(torch.add, torch.ones(2), torch.ones(2)))
        assert side.module is None
        assert side.call().tolist() == [2.0, 2.0]

    def test_loss_and_mode_are_the_requests(self) -> None:
        mode = ExecutionMode(is_grad_enabled=True)
        side = build_side(request_of(Model(), torch.zeros(1, 3), loss=torch.sum, mode=mode))
        assert (side.loss, side.mode) == (torch.sum, mode)

    def test_a_device_moves_model_and_inputs(self) -> None:
        leaf = torch.zeros(1, 3, requires_grad=True)
        side = build_side(request_of(Model(), leaf, kwargs={"more": [torch.zeros(2)]}), device="meta")
        assert side.module is not None
        assert {tensor.device.type for tensor in [*side.module.parameters(), *side.module.buffers()]} == {"meta"}
        assert side.args[0].device.type == "meta"
        assert side.args[0].is_leaf
        assert side.args[0].requires_grad
        assert side.kwargs["more"][0].device.type == "meta"
        assert not side.kwargs["more"][0].requires_grad

    def test_a_device_moves_the_inputs_of_a_function(self) -> None:
        side = build_side(request_of(torch.add, torch.ones(2), torch.ones(2)), device="meta")
        assert [tensor.device.type for tensor in side.args] == ["meta", "meta"]

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (Model, "model_pair got the class Model as its model; hand over an instance of it"),
            ("model", "model_pair takes a module, a bound method or another callable as its model, not str"),
            (
                torch.compile(nn.ReLU(), backend="eager"),
                "model_pair got a model that is compiled already; hand over the eager one",
            ),
        ],
    )
    def test_what_is_no_model_is_named(self, model: object, message: str) -> None:
        with pytest.raises(PairError, match=message):
            build_side(request_of(model, torch.zeros(1)))

    def test_a_model_that_cannot_be_copied_is_an_error(self) -> None:
        with pytest.raises(PairError, match="cannot copy the model or its inputs: RuntimeError: it holds a socket; "):
            build_side(request_of(Uncopyable(), torch.zeros(1)))

    def test_an_input_inside_a_graph_is_an_error_with_its_remedy(self) -> None:
        inside = torch.zeros(1, requires_grad=True) * 2
        with pytest.raises(PairError, match=r"inputs must be leaf tensors \(use \.detach\(\)\)"):
            build_side(request_of(nn.ReLU(), inside))


class TestBuildOwnCandidate:
    def test_a_candidate_is_copied_with_inputs_of_its_own(self) -> None:
        candidate, x = Model(), torch.zeros(1, 3)
        side = build_own_candidate(request_of(Model(), x, candidate=candidate))
        assert isinstance(side.module, Model)
        assert side.module is not candidate
        assert side.args[0] is not x

    def test_a_candidate_that_cannot_be_copied_is_shared(self) -> None:
        candidate, x = Uncopyable(), torch.zeros(1)
        side = build_own_candidate(request_of(nn.Identity(), x, candidate=candidate))
        assert side.function is candidate
        assert side.args[0] is not x

    def test_a_compiled_candidate_is_welcome(self) -> None:
        compiled = torch.compile(nn.ReLU(), backend="eager")
        side = build_own_candidate(request_of(nn.ReLU(), torch.zeros(1), candidate=compiled))
        assert callable(side.function)

    @pytest.mark.parametrize("candidate", [Model, "model"])
    def test_what_is_no_candidate_is_named(self, candidate: Any) -> None:
        with pytest.raises(PairError, match="as its candidate"):
            build_own_candidate(request_of(Model(), torch.zeros(1, 3), candidate=candidate))


class TestDeviceOf:
    @pytest.mark.parametrize(
        ("side", "device"),
        [
            (Side(torch.add), "cpu"),
            (Side(torch.add, args=(1, 2)), "cpu"),
            (Side(torch.add, args=(torch.zeros(1, device="meta"),)), "meta"),
            (Side(torch.add, kwargs={"x": {"deep": [torch.zeros(1, device="meta")]}}), "meta"),
        ],
    )
    def test_a_function_is_where_its_inputs_are(self, side: Side, device: str) -> None:
        assert device_of(side) == torch.device(device)

    def test_a_module_is_where_its_parameters_are(self) -> None:
        module = nn.Linear(3, 2, device="meta")
        assert device_of(Side(module, args=(torch.zeros(1, 3),), module=module)) == torch.device("meta")

    def test_a_module_with_buffers_alone_is_where_they_are(self) -> None:
        module = nn.BatchNorm1d(3, affine=False, device="meta")
        assert device_of(Side(module, module=module)) == torch.device("meta")

    def test_a_module_without_any_is_where_its_inputs_are(self) -> None:
        module = nn.ReLU()
        assert device_of(Side(module, args=(torch.zeros(1, device="meta"),), module=module)) == torch.device("meta")


def test_the_owner_of_a_callable_is_the_module_whose_state_it_uses() -> None:
    model = Model()
    assert owner_of(model) is model
    assert owner_of(model.encode) is model
    assert owner_of(functools.partial(functools.partial(model.encode))) is model
    assert owner_of(functools.partial(torch.add)) is None
    assert owner_of([].append) is None


class TestDeviceAskedFor:
    def test_it_is_where_the_test_put_the_model(self) -> None:
        assert device_asked_for(request_of(Model().to("meta").encode), None) == torch.device("meta")
        assert device_asked_for(request_of(torch.sin, torch.ones(1)), None) == torch.device("cpu")

    def test_it_is_where_the_run_moves_it(self) -> None:
        assert device_asked_for(request_of(Model()), "meta") == torch.device("meta")
