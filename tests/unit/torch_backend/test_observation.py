"""A run is observed whole and leaves no trace."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.numerics.leaves import ArrayLeaf, ConstantLeaf, LeafKind, Observation
from pytest_nnopt.torch_backend.observation import clean_name, clone_tensor, observe
from pytest_nnopt.torch_backend.side import ExecutionMode, Side

TRAINING = ExecutionMode(is_grad_enabled=True)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.unused = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(4)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        self.seen = self.seen + 1
        return F.dropout(self.norm(self.fc(x)))


def values(observation: Observation) -> dict[str, list[float] | str]:
    return {
        leaf.path: leaf.text if isinstance(leaf, ConstantLeaf) else [float(v) for chunk in leaf.read() for v in chunk]
        for leaf in observation.leaves
    }


def changed(observation: Observation) -> set[str]:
    return {leaf.path for leaf in observation.leaves if isinstance(leaf, ArrayLeaf) and not leaf.is_unchanged}


def test_a_training_step_is_observed_whole() -> None:
    net, x = Net(), torch.randn(8, 4, requires_grad=True)
    observation = observe(Side(net, (x,), module=net, loss=lambda y: y.square().sum(), mode=TRAINING), seed=1)
    found = values(observation)
    assert changed(observation) == {
        "output",
        "loss",
        "gradient of fc.weight",
        "gradient of fc.bias",
        "gradient of norm.weight",
        "gradient of norm.bias",
        "gradient of input args[0]",
        "buffer seen",
        "buffer norm.running_mean",
        "buffer norm.running_var",
        "buffer norm.num_batches_tracked",
    }
    assert found["gradient of unused.weight"] == "None"
    assert found["buffer seen"] == [1.0]


def test_nothing_remains_of_a_run() -> None:
    net, x = Net(), torch.randn(8, 4, requires_grad=True)
    net.fc.weight.grad = torch.ones(4, 4)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    buffer = net.seen
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    observe(Side(net, (x,), module=net, loss=lambda y: y.sum(), mode=TRAINING), seed=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.seen is buffer
    assert torch.equal(net.fc.weight.grad, torch.ones(4, 4))
    assert (net.fc.bias.grad, x.grad) == (None, None)
    assert states[0] == random.getstate()
    assert states[1] == np.random.get_state()[1].tolist()  # type: ignore[index]
    assert torch.equal(states[2], torch.get_rng_state())


def test_the_same_seed_gives_the_same_run() -> None:
    net, x = Net(), torch.randn(8, 4)
    side = Side(net, (x,), module=net)
    assert values(observe(side, seed=3)) == values(observe(side, seed=3))
    assert values(observe(side, seed=3)) != values(observe(side, seed=4))


def test_a_mutated_input_and_parameter_are_seen_and_put_back() -> None:
    net, cache = nn.Linear(2, 2), {"k": torch.zeros(2)}

    def step(cache: dict[str, Tensor]) -> Tensor:
        cache["k"] += 1
        net.weight.data.zero_()
        return cache["k"] * 2

    observation = observe(Side(step, kwargs={"cache": cache}, module=net), seed=0)
    assert changed(observation) == {"output", "input cache['k']", "parameter weight"}
    assert cache["k"].tolist() == [0, 0]
    assert net.weight.abs().sum() > 0


def test_an_input_of_nan_is_not_taken_for_changed() -> None:
    observation = observe(Side(torch.sin, (torch.tensor([torch.nan, 1.0]),)), seed=0)
    assert changed(observation) == {"output"}


@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_an_input_that_is_not_dense_is_compared_in_full() -> None:
    inputs = torch.eye(2).to_sparse(), torch.nested.nested_tensor([torch.ones(2)], layout=torch.strided)
    observation = observe(Side(lambda *tensors: None, inputs), seed=0)
    assert {"input args[0].values()", "input args[1][0]"} <= changed(observation)


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
def test_state_that_cannot_be_compared_matters_only_if_it_changed() -> None:
    packed = torch.zeros(4, dtype=torch.uint8).view(torch.bits8)
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    assert values(observe(Side(lambda *_: 1, (packed, quantized)), seed=0)) == {"output": [1.0]}
    with pytest.raises(NumericsError, match=r"input args\[0\] is a tensor of torch.bits8"):
        observe(Side(lambda packed: packed.view(torch.uint8).add_(1), (packed,)), seed=0)


def test_an_input_replaced_by_another_shape_is_seen() -> None:
    observation = observe(Side(lambda tensors: tensors.append(tensors.pop()[:1]), ([torch.ones(3)],)), seed=0)
    assert "input args[0][0]" in changed(observation)


def test_a_changed_integer_input_is_seen() -> None:
    observation = observe(Side(lambda count: count.add_(1), (torch.zeros(2, dtype=torch.int64),)), seed=0)
    assert changed(observation) == {"output", "input args[0]"}


def test_an_output_that_is_overwritten_later_is_kept() -> None:
    memory = torch.zeros(2)

    def overwrite(x: Tensor) -> Tensor:
        memory.copy_(x)
        return memory

    first = observe(Side(overwrite, (torch.ones(2),)), seed=0)
    observe(Side(overwrite, (torch.full((2,), 5.0),)), seed=0)
    assert values(first)["output"] == [1, 1]


@pytest.mark.parametrize("stage", ["forward", "loss", "backward"])
def test_an_exception_is_observed_with_its_stage(stage: str) -> None:
    def forward(x: Tensor) -> Tensor:
        if stage == "forward":
            raise ValueError("no") from KeyError("k")
        if stage == "backward":
            x.register_hook(fail)  # type: ignore[no-untyped-call]
        return x * 2

    def fail(_: Tensor) -> Tensor:
        raise ValueError("no")

    def loss(y: Tensor) -> Tensor:
        return fail(y) if stage == "loss" else y.sum()

    side = Side(forward, (torch.ones(2, requires_grad=True),), loss=loss, mode=TRAINING)
    error = observe(side, seed=0).error
    assert error is not None
    assert (error.type_names[0], error.message, error.stage) == ("ValueError", "no", stage)
    assert ("KeyError" in error.type_names) == (stage == "forward")


def test_an_output_that_cannot_be_compared_is_the_users_to_mend() -> None:
    with pytest.raises(NumericsError, match=r"output is a _thread\.lock"):
        observe(Side(lambda: threading.Lock()), seed=0)


def test_the_mode_of_the_side_is_entered() -> None:
    def modes() -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    assert values(observe(Side(modes, mode=ExecutionMode(is_inference=True)), seed=0))["output[0]"] == [1]
    assert values(observe(Side(modes), seed=0))["output[1]"] == [0]


def test_names_are_those_of_the_model_before_it_was_wrapped() -> None:
    assert clean_name("_orig_mod.fc.weight") == "fc.weight"


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0),
        torch.arange(24.0).view(2, 3, 4).transpose(0, 2),
        torch.arange(24.0)[3:20:4],
        torch.arange(3.0).expand(4, 3),
        torch.zeros(0, 3),
        torch.tensor([[0.0, 1.0]]).to_sparse(),
        torch.ones(2, requires_grad=True) * 2,
    ],
)
def test_copies_have_the_same_strides_and_memory_of_their_own(tensor: Tensor) -> None:
    copied = clone_tensor(tensor)
    assert copied.layout is tensor.layout
    assert (copied.requires_grad, copied.is_leaf) == (tensor.requires_grad, True)
    assert torch.equal(copied.to_dense(), tensor.to_dense())
    if tensor.layout is torch.strided:
        assert copied.stride() == tensor.stride()
        assert tensor.numel() == 0 or copied.data_ptr() != tensor.data_ptr()


def test_kinds_tell_what_a_leaf_is() -> None:
    net = nn.BatchNorm1d(4)
    kinds = {leaf.path: leaf.kind for leaf in observe(Side(net, (torch.ones(2, 4),), module=net), seed=0).leaves}
    assert kinds["output"] is LeafKind.OUTPUT
    assert kinds["input args[0]"] is LeafKind.INPUT
    assert kinds["buffer running_mean"] is LeafKind.BUFFER
    assert kinds["parameter weight"] is LeafKind.PARAMETER


@pytest.mark.gpu
def test_generators_of_a_gpu_are_seeded_and_put_back() -> None:
    x = torch.ones(8, device="cuda")
    before = torch.cuda.get_rng_state()
    side = Side(F.dropout, (x,))
    assert values(observe(side, seed=3)) == values(observe(side, seed=3))
    assert torch.equal(before, torch.cuda.get_rng_state())


def test_inputs_with_gaps_between_their_elements_can_be_compared() -> None:
    x = torch.rand(4, 6)[:, ::2]
    observation = observe(Side(torch.neg, (x,)), seed=0)
    assert [leaf.path for leaf in observation.leaves if getattr(leaf, "is_unchanged", False)] == ["input args[0]"]
