"""The same model in float64: the truth that both sides' rounding errors are measured against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.overrides import TorchFunctionMode

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.torch_backend.observation import clone_tensor
from pytest_nnopt.torch_backend.tree import map_tensors, named_tensors

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side

_CASTS = frozenset({torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16})
_RANDOM = frozenset({torch.rand, torch.randn, torch.rand_like, torch.randn_like})
_RANDOM_IN_PLACE = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.exponential_})


def promote(side: Side) -> Side:
    """Return a deep copy of a side that computes in float64, or complex128 where it computed with complex numbers.

    Parameters, buffers and inputs are converted, autocast is off, and casts to narrower types inside of the model,
    also hard-coded ones, are turned into casts to float64. Random numbers are drawn in the narrow type and then
    converted, so that the same seed gives the same numbers. A model that still returns something else than float64 (a
    custom kernel) is found when its outputs are compared, and named there.

    Raises:
        NumericsError: the model cannot be copied or converted; the message says why.
    """
    try:
        function, module, loss = copy.deepcopy((side.function, side.module, side.loss))
        if module is not None:
            module = cast("torch.nn.Module", module._apply(_widened))  # type: ignore[no-untyped-call]
        args, kwargs = map_tensors((side.args, dict(side.kwargs)), _promoted_input)
    except Exception as error:
        raise NumericsError(f"the model cannot be copied to float64: {type(error).__name__}: {error}") from error
    narrow = _dominant_dtype(side)
    return replace(
        side,
        function=_in_float64(function, narrow),
        args=args,
        kwargs=kwargs,
        module=module,
        loss=None if loss is None else _in_float64(loss, narrow),
        mode=replace(side.mode, autocast={}),
    )


def nudge(side: Side, *, seed: int) -> Side:
    """Return the side in float64 with parameters and inputs moved at random within their own dtype's rounding.

    How far this moves a leaf is the error that rounding the inputs alone causes: no implementation can be asked to be
    better. Whole numbers stay as they are, because masks and indices are stored as floats too.

    Args:
        side: the side as the user gave it, not yet in float64.
        seed: seed of the random moves.

    Raises:
        NumericsError: as for :func:`promote`.
    """
    moved = promote(side)
    tensors = _floating_tensors(moved)
    generators = {device: torch.Generator(device).manual_seed(seed) for device in {one.device for one in tensors}}
    narrowest = max((torch.finfo(dtype).eps for dtype in side.mode.autocast.values()), default=0.0)
    eps = max(torch.finfo(_dominant_dtype(side)).eps, narrowest)
    with torch.no_grad():
        for tensor in tensors:
            _move(tensor, eps, generators[tensor.device])
    return moved


def _move(tensor: torch.Tensor, eps: float, generator: torch.Generator) -> None:
    """Multiply every element that is no whole number by 1 plus up to half of ``eps``, in place."""
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.numel() == 0:
        return
    drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64, device=tensor.device)
    uniform = drawn * eps - eps / 2
    parts = torch.view_as_real(tensor).sum(-1) if tensor.is_complex() else tensor
    is_movable = torch.isfinite(parts) & (parts != parts.round())
    tensor.copy_(torch.where(is_movable, tensor * (1 + uniform), tensor))


def _floating_tensors(side: Side) -> list[torch.Tensor]:
    """List the inputs and parameters that hold floats or complex numbers."""
    tensors = [tensor for _, tensor in named_tensors((side.args, dict(side.kwargs)), "")]
    if side.module is not None:
        tensors += side.module.parameters()
    return [tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]


def _dominant_dtype(side: Side) -> torch.dtype:
    """Return the real floating dtype that most elements of parameters and inputs are stored in."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in _floating_tensors(side):
        dtype = tensor.dtype.to_real()
        sizes[dtype] = sizes.get(dtype, 0) + tensor.numel()
    return max(sizes, key=lambda dtype: sizes[dtype], default=torch.get_default_dtype())


def _wide(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else dtype


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(_wide(tensor.dtype))


def _promoted_input(tensor: torch.Tensor) -> torch.Tensor:
    if _wide(tensor.dtype) == tensor.dtype:
        return clone_tensor(tensor)
    return _widened(tensor.detach()).requires_grad_(tensor.requires_grad)


def _in_float64(function: Callable[..., Any], narrow: torch.dtype) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        default = torch.get_default_dtype()
        with ExitStack() as stack:
            stack.callback(torch.set_default_dtype, default)
            torch.set_default_dtype(torch.float64)
            stack.enter_context(_Float64Mode(default, narrow))
            return function(*args, **kwargs)

    return run


class _Float64Mode(TorchFunctionMode):
    """Turns every cast to a narrower float, explicit or through a constant tensor, into one to float64."""

    def __init__(self, default: torch.dtype, narrow: torch.dtype) -> None:
        super().__init__()
        self._default = default
        self._narrow = narrow

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if func in _CASTS:
            return args[0].to(torch.float64)
        if func in _RANDOM:
            return self._draw(func, args, named)
        if func in _RANDOM_IN_PLACE:
            drawn = func(torch.empty_like(args[0], dtype=self._narrow), *args[1:], **named)
            return args[0].copy_(drawn)
        if _is_access(func):
            return func(*args, **named)
        return func(*(_widened_argument(arg) for arg in args), **{k: _widened_argument(v) for k, v in named.items()})

    def _draw(self, func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
        is_like = func in (torch.rand_like, torch.randn_like)
        named.setdefault("dtype", self._narrow if is_like else self._default)
        drawn: torch.Tensor = func(*args, **named)
        return _widened(drawn)


def _is_access(func: Any) -> bool:
    """Whether a call reads or sets an attribute, or works in place, so that its first argument must stay itself."""
    name = getattr(func, "__name__", "")
    return name in ("__get__", "__set__", "__setitem__") or (name.endswith("_") and not name.endswith("__"))


def _widened_argument(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return _wide(value)
    if isinstance(value, torch.Tensor):
        return value if _wide(value.dtype) == value.dtype else _widened(value)
    if type(value) in (tuple, list):
        return type(value)(_widened_argument(item) for item in value)
    return value
