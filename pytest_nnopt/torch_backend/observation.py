"""One run of one side, and everything it did: outputs, loss, gradients, mutated inputs and state, or its exception."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.numerics.leaves import ConstantLeaf, Leaf, LeafKind, Observation, RaisedError
from pytest_nnopt.torch_backend.tensors import leaves_of
from pytest_nnopt.torch_backend.tree import containers, flatten, map_tensors, named_tensors
from pytest_nnopt.torch_backend.undoing import gpus_of

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side

_WRAPPER_PREFIX = "_orig_mod."
_Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def observe(side: Side, *, seed: int) -> Observation:
    """Run a side once and return everything it did, leaving the side as it was.

    The run happens in the side's mode, on copies of its inputs, with every random number generator seeded. Outputs
    and gradients are copied before anything else runs, because a replayed CUDA graph overwrites them. Afterwards
    parameters, buffers, gradients, inputs and generators are as before. What a model keeps outside of its parameters
    and buffers, such as a cache in a plain attribute, is not restored.

    Args:
        side: what to run.
        seed: seed of Python's, numpy's and torch's generators.

    Raises:
        NumericsError: the output holds something that cannot be compared.
    """
    inputs = clone_inputs(side)
    with _seeded(side, seed), _restored(side.module) as before:
        run = _run(replace(side, args=inputs[0], kwargs=inputs[1]))
        if run.error is not None:
            return Observation(leaves=(), error=run.error, seed=seed)
        leaves = [
            *_tree_leaves(run.output, "output", LeafKind.OUTPUT),
            *_gradient_leaves(side, inputs, run),
            *_input_leaves(side, inputs),
            *_state_leaves(side.module, before),
        ]
    return Observation(leaves=tuple(leaves), containers=containers(run.output, "output"), seed=seed)


def clone_inputs(side: Side) -> _Inputs:
    """Copy a side's inputs with their strides; a tensor that appears twice still appears twice."""
    args, kwargs = map_tensors((side.args, dict(side.kwargs)), clone_tensor)
    return args, kwargs


def clone_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor with its strides, also overlapping ones, as a leaf that requires grad if the tensor does."""
    source = tensor.detach()
    if source.layout is torch.strided and not source.is_nested and source.numel() and not source.is_quantized:
        extent = 1 + sum((size - 1) * stride for size, stride in zip(source.shape, source.stride(), strict=True))
        memory = source.as_strided((extent,), (1,)).clone()
        copied = memory.as_strided(source.shape, source.stride(), 0)
    else:
        copied = source.clone()
    return copied.requires_grad_(tensor.requires_grad)


@dataclass(frozen=True)
class _Run:
    """What a call returned, copied, or what it raised."""

    output: Any = None
    loss: torch.Tensor | None = None
    gradients: Mapping[str, torch.Tensor | None] | None = None
    error: RaisedError | None = None


def _run(side: Side) -> _Run:
    stage = "forward"
    try:
        with side.mode.active():
            output = side.call()
            flatten(output, "output")  # says what cannot be compared before it is copied
            copied = _copy_output(output)
            if side.loss is None:
                return _Run(output=copied)
            stage = "loss"
            loss = side.loss(output)
            copied_loss = loss.detach().clone()
        stage = "backward"
        torch.autograd.backward(loss)
        return _Run(output=copied, loss=copied_loss, gradients=_copy_gradients(side.module))
    except NumericsError:
        raise
    except Exception as error:  # a model may raise anything, and what it raises is compared
        return _Run(error=_describe(error, stage))


def _copy_output(output: Any) -> Any:
    return map_tensors(output, lambda tensor: tensor.detach().clone())


def _copy_gradients(module: torch.nn.Module | None) -> dict[str, torch.Tensor | None]:
    if module is None:
        return {}
    return {
        clean_name(name): None if parameter.grad is None else parameter.grad.detach().clone()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def _describe(error: BaseException, stage: str) -> RaisedError:
    names: list[str] = []
    message = str(error)
    cause: BaseException | None = error
    while cause is not None and len(names) < 8:
        names.append(type(cause).__qualname__)
        cause = cause.__cause__ or cause.__context__
    return RaisedError(type_names=tuple(names), message=message, stage=stage)


def clean_name(name: str) -> str:
    """Return a parameter's name without the prefix that torch.compile's wrapper puts into it."""
    return name.replace(_WRAPPER_PREFIX, "")


def _tree_leaves(tree: object, path: str, kind: LeafKind) -> list[Leaf]:
    return [leaf for where, value in flatten(tree, path) for leaf in leaves_of(where, kind, value)]


def _gradient_leaves(side: Side, inputs: _Inputs, run: _Run) -> list[Leaf]:
    if side.loss is None:
        return []
    leaves = leaves_of("loss", LeafKind.LOSS, run.loss)
    for name, gradient in (run.gradients or {}).items():
        leaves += _gradient_leaf(f"gradient of {name}", gradient)
    for where, value in _input_tensors(inputs):
        if value.requires_grad:
            leaves += _gradient_leaf(f"gradient of input {where}", value.grad)
    return leaves


def _gradient_leaf(path: str, gradient: torch.Tensor | None) -> list[Leaf]:
    if gradient is None:
        return [ConstantLeaf(path, LeafKind.GRADIENT, "None")]
    return leaves_of(path, LeafKind.GRADIENT, gradient)


def _input_tensors(inputs: _Inputs) -> list[tuple[str, torch.Tensor]]:
    """List every input tensor once with the path that a user would write."""
    args, kwargs = inputs
    named = named_tensors(args, "args")
    for key, value in kwargs.items():
        named += named_tensors(value, key)
    first = {id(tensor): (where, tensor) for where, tensor in reversed(named)}
    return list(reversed(first.values()))


def _input_leaves(side: Side, inputs: _Inputs) -> list[Leaf]:
    leaves: list[Leaf] = []
    before = dict(_input_tensors((side.args, dict(side.kwargs))))
    for where, value in _input_tensors(inputs):
        original = before.get(where)
        is_unchanged = original is not None and _has_same_bits(original, value)
        kept = original if is_unchanged and original is not None else value
        leaves += _kept_leaves(f"input {where}", LeafKind.INPUT, kept, is_unchanged=is_unchanged)
    return leaves


def _kept_leaves(path: str, kind: LeafKind, tensor: torch.Tensor, *, is_unchanged: bool) -> list[Leaf]:
    """Make leaves of state; a tensor that cannot be compared, such as a packed weight, matters only if it changed."""
    try:
        return leaves_of(path, kind, tensor, is_unchanged=is_unchanged)
    except NumericsError:
        if is_unchanged:
            return []
        raise


def _has_same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors hold the same values bit by bit; False where that cannot be seen."""
    first, second = first.detach(), second.detach()
    if any(tensor.is_nested or tensor.layout is not torch.strided for tensor in (first, second)):
        return False
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.is_quantized:
        return torch.equal(first, second)
    return torch.equal(_bytes(first), _bytes(second))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the elements' memory, which exists for dtypes without arithmetic too."""
    return tensor.resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)


@dataclass(frozen=True)
class _State:
    """A module's parameters and buffers as they were: the objects and copies of their values."""

    tensors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]


@contextlib.contextmanager
def _restored(module: torch.nn.Module | None) -> Iterator[_State]:
    """Keep parameters, buffers and gradients, clear the gradients, and put everything back at the end."""
    if module is None:
        yield _State({})
        return
    named = [*module.named_parameters(), *module.named_buffers()]
    state = _State({name: (tensor, tensor.detach().clone()) for name, tensor in named})
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield state
    finally:
        _put_back(module, state)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _put_back(module: torch.nn.Module, state: _State) -> None:
    with torch.no_grad():
        for name, (tensor, value) in state.tensors.items():
            if not _has_same_bits(tensor, value):
                tensor.detach().copy_(value)
            _rebind(module, name, tensor)


def _rebind(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a parameter or buffer object back that the run replaced by another."""
    owner, _, attribute = name.rpartition(".")
    owning_module = functools.reduce(
        getattr, filter(None, owner.split(".")), module
    )  # scripted ones lack get_submodule
    if isinstance(owning_module, torch.jit.ScriptModule):
        if getattr(owning_module, attribute) is not tensor:
            setattr(owning_module, attribute, tensor)
        return
    slots = owning_module._parameters if isinstance(tensor, torch.nn.Parameter) else owning_module._buffers
    if slots.get(attribute) is not tensor:
        cast("dict[str, torch.Tensor | None]", slots)[attribute] = tensor


def _state_leaves(module: torch.nn.Module | None, before: _State) -> list[Leaf]:
    if module is None:
        return []
    leaves: list[Leaf] = []
    for kind, named in (
        (LeafKind.BUFFER, module.named_buffers()),
        (LeafKind.PARAMETER, module.named_parameters()),
    ):
        for name, tensor in named:
            value = before.tensors[name][1] if name in before.tensors else None
            is_unchanged = value is not None and _has_same_bits(value, tensor)
            kept = tensor if is_unchanged else tensor.detach().clone()
            leaves += _kept_leaves(f"{kind.value} {clean_name(name)}", kind, kept, is_unchanged=is_unchanged)
    return leaves


@contextlib.contextmanager
def _seeded(side: Side, seed: int) -> Iterator[None]:
    """Seed every generator and put their states back at the end."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    with torch.random.fork_rng(devices=gpus_of(side)):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
