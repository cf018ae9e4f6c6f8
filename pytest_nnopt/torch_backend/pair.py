"""From what a test hands over to a reference side: own copies, one device, one execution mode."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pytest_nnopt.errors import PairError
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.tree import map_tensors, named_tensors


@dataclass(frozen=True)
class PairRequest:
    """What a test handed to ``model_pair``, untouched.

    Attributes:
        model: a module, a bound method of one, or any callable.
        args: positional inputs.
        kwargs: keyword inputs.
        candidate: an optimised callable to use in place of ``torch.compile``.
        loss: makes a scalar from the output; given, the case is a training step.
        samples: further inputs for the numerics, as ``samples.build_samples`` takes them.
        mode: the torch state of the test at the time of the call.
    """

    model: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    candidate: Callable[..., Any] | None = None
    loss: Callable[[Any], torch.Tensor] | None = None
    samples: object = ()
    mode: ExecutionMode = field(default_factory=ExecutionMode)


def build_side(request: PairRequest, *, device: str | None = None) -> Side:
    """Copy model and inputs into a side that shares no state with the test or with any other side.

    Raises:
        PairError: the model is no callable, is compiled already, or cannot be copied.
    """
    _check_callable(request.model, "model")
    return _own_side(request, request.model, device)


def build_own_candidate(request: PairRequest, *, device: str | None = None) -> Side:
    """Build the side of a user's own candidate, copied where it can be copied.

    Raises:
        PairError: the candidate is no callable.
    """
    assert request.candidate is not None
    _check_callable(request.candidate, "candidate")
    return _own_side(request, request.candidate, device, may_share=True)


def device_of(side: Side) -> torch.device:
    """Return the device a side computes on: that of its first parameter, buffer or input tensor, else the CPU."""
    tensors = [] if side.module is None else [*side.module.parameters(), *side.module.buffers()]
    tensors += [tensor for _, tensor in named_tensors((side.args, dict(side.kwargs)), "inputs")]
    return tensors[0].device if tensors else torch.device("cpu")


def device_asked_for(request: PairRequest, device: str | None) -> torch.device:
    """Return the device that the sides will compute on, before they are built.

    Args:
        request: what the test handed over.
        device: where to move it; None leaves it where the test put it.
    """
    if device is not None:
        return torch.device(device)
    return device_of(Side(request.model, request.args, request.kwargs, module=owner_of(request.model)))


def _own_side(request: PairRequest, model: Callable[..., Any], device: str | None, *, may_share: bool = False) -> Side:
    function, args, kwargs = _deep_copy((model, request.args, dict(request.kwargs)), may_share=may_share)
    module = owner_of(function)
    if isinstance(module, torch.jit.ScriptModule):
        _train_as(module, owner_of(model))
    if device is not None:
        if module is not None:
            module.to(device)
        args, kwargs = map_tensors((args, kwargs), lambda tensor: moved_to(tensor, device))
    return Side(
        function=_as_module(function), args=args, kwargs=kwargs, module=module, loss=request.loss, mode=request.mode
    )


def owner_of(function: Callable[..., Any]) -> torch.nn.Module | None:
    """Return the module whose state a callable works on, None for a callable without one."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, torch.nn.Module):
        return function
    owner = getattr(function, "__self__", None)
    return owner if isinstance(owner, torch.nn.Module) else None


def _as_module(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take ``module.forward`` for the module itself, so that its hooks run as they do in use."""
    if isinstance(function, types.MethodType) and function.__name__ == "forward":
        owner = owner_of(function)
        return owner if owner is not None else function
    return function


def _check_callable(model: object, role: str) -> None:
    if inspect.isclass(model):
        raise PairError(f"model_pair got the class {model.__name__} as its {role}; hand over an instance of it")
    if not callable(model):
        raise PairError(
            f"model_pair takes a module, a bound method or another callable as its {role}, not {type(model).__name__}"
        )
    if role == "model" and isinstance(model, torch._dynamo.eval_frame.OptimizedModule):
        raise PairError(
            "model_pair got a model that is compiled already; hand over the eager one and say how to compile it with "
            "@pytest.mark.nnopt_compile(...), or give the compiled one as candidate="
        )


def _train_as(copied: torch.nn.Module, original: torch.nn.Module | None) -> None:
    """Let parameters of a scripted module require gradients as the original's do: copying forgets it."""
    assert original is not None
    for parameter, model in zip(copied.parameters(), original.parameters(), strict=True):
        parameter.requires_grad_(model.requires_grad)


def _deep_copy(values: Any, *, may_share: bool) -> Any:
    try:
        with torch.no_grad():  # a scripted module would be copied inside the graph, and its parameters be no leaves
            return copy.deepcopy(values)
    except Exception as error:
        if may_share:
            model, *inputs = values
            return (model, *copy.deepcopy(inputs))
        raise PairError(
            f"model_pair cannot copy the model or its inputs: {type(error).__name__}: {error}; "
            "inputs must be leaf tensors (use .detach()), and a model must survive copy.deepcopy"
        ) from error


def moved_to(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """Move a tensor and keep it a leaf that requires gradients where it was one."""
    moved = tensor.detach().to(device)
    return moved.requires_grad_(tensor.requires_grad)
