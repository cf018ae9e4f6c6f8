"""What running a side changes, put back afterwards: its state, its inputs, and torch's random numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side


_HOST = torch.device("cpu")
"""Has room where a GPU may have none for another copy of both sides."""


@contextlib.contextmanager
def undone(*sides: Side) -> Iterator[None]:
    """Put the state, the inputs and the gradients of sides back in place afterwards, and torch's random generators.

    What a model keeps outside of tensors is not put back.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(list({gpu for side in sides for gpu in gpus_of(side)})))
        for side in sides:
            stack.enter_context(preserved_state(side.module, kept_on=_HOST))
            stack.enter_context(_preserved_inputs(side))
        yield


@contextlib.contextmanager
def preserved_state(module: torch.nn.Module | None, *, kept_on: torch.device | None = None) -> Iterator[None]:
    """Put parameters, buffers, tensor attributes and gradients back in place afterwards.

    Args:
        module: whose; None has none.
        kept_on: where their values are kept meanwhile; None is where they are.
    """
    owners = [] if module is None else [owner for m in module.modules() for owner in _tensor_owners(m)]
    before = [(owner, name, tensor, _copied(tensor, kept_on)) for owner, name, tensor in _tensors(owners)]
    gradients = [] if module is None else [(parameter, parameter.grad) for parameter in module.parameters()]
    try:
        yield
    finally:
        for owner, name, tensor, value in before:
            _copy_back(tensor, value)
            owner[name] = tensor
        for parameter, gradient in gradients:
            parameter.grad = gradient


@contextlib.contextmanager
def _preserved_inputs(side: Side) -> Iterator[None]:
    """Put inputs and their gradients back in place: a CUDA graph keeps their addresses."""
    before = [(tensor, _copied(tensor, _HOST), tensor.grad) for tensor in _inputs_of(side) if tensor.is_leaf]
    try:
        yield
    finally:
        for tensor, value, gradient in before:
            with contextlib.suppress(RuntimeError):  # of a kind that cannot be compared, nor written to
                _copy_back(tensor, value)
            tensor.grad = gradient


def _copied(tensor: torch.Tensor, place: torch.device | None) -> torch.Tensor:
    return tensor.detach().to(place or tensor.device, copy=True)


def _copy_back(tensor: torch.Tensor, value: torch.Tensor) -> None:
    if not torch.equal(tensor.detach().to(value.device), value):
        with torch.inference_mode(tensor.is_inference()):
            tensor.detach().copy_(value)


def _inputs_of(side: Side) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves((side.args, side.kwargs)) if isinstance(leaf, torch.Tensor)]


def gpus_of(side: Side) -> list[torch.device]:
    """Return the GPUs that hold the side's inputs and state."""
    tensors = _inputs_of(side)
    if side.module is not None:
        tensors += [*side.module.parameters(), *side.module.buffers()]
    return list({tensor.device for tensor in tensors if tensor.device.type == "cuda"})


def _tensor_owners(module: torch.nn.Module) -> tuple[dict[str, Any], ...]:
    return module._parameters, module._buffers, vars(module)


def _tensors(owners: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    for owner in owners:
        for name, value in owner.items():
            if isinstance(value, torch.Tensor):
                yield owner, name, value
