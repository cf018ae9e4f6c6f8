"""Copies of one model at different places in memory, each compiled with guards of its own.

Where a model's tensors happen to lie decides part of its speed for the life of a process. Blocks that draw one of
several copies average over places (Curtsinger & Berger 2013).

The compiler keeps what it compiled in a list on the *code object* of a function and checks the guards of each entry in
turn, so copies that share code find their entry behind those of others: measured 7 % slower for a model of 50 µs
whose four copies take turns call by call. ``isolate_compilation`` gives a copy entries of its own.
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Generic, TypeVar

import torch

T = TypeVar("T")

SPACERS_PER_COPY = 8
SMALLEST_SPACER_BYTES = 64
LARGEST_SPACER_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class PlacedCopies(Generic[T]):
    """Copies and what keeps them apart.

    Attributes:
        copies: what was built, in order.
        spacers: memory between the copies; never read or written, it must live as long as the copies are built.
    """

    copies: tuple[T, ...]
    spacers: tuple[torch.Tensor, ...]


def place_copies(build: Callable[[], T], count: int, *, device: torch.device, random: Random) -> PlacedCopies[T]:
    """Build ``count`` copies, each behind fresh allocations of random sizes on ``device``.

    Sizes are log-uniform, so that small tensors, which the allocators keep in pools, move as well as large ones.
    Spacers on the host cost little but address space, as nothing touches them; on a GPU they cost up to 32 MiB a copy.
    """
    copies: list[T] = []
    spacers: list[torch.Tensor] = []
    for _ in range(count):
        spacers += [_make_spacer(device, random) for _ in range(SPACERS_PER_COPY)]
        copies.append(build())
    return PlacedCopies(tuple(copies), tuple(spacers))


def isolate_compilation(
    function: Callable[..., Any], options: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return what to hand to ``torch.compile`` so that guards of other copies are not checked before this one's.

    Where ``torch.compile`` knows ``isolate_recompiles`` that option is added; it covers every frame that the call
    reaches. Elsewhere ``function`` gets code objects of its own, see ``give_own_code``.

    The first copy needs neither: leave it as it is, and on recent versions the others reuse its entry where its
    guards hold for them, instead of compiling again. With CUDA graphs isolate the first as well, since a shared entry
    checks the recorded addresses of every copy in turn.

    Args:
        function: a module, a bound method or a function; a module's methods are replaced on the instance.
        options: arguments for ``torch.compile``.
    """
    if has_isolation():
        return function, {**options, "isolate_recompiles": True}
    return give_own_code(function), dict(options)


def has_isolation() -> bool:
    """Whether ``torch.compile`` can keep the entries of one call apart by itself."""
    return "isolate_recompiles" in inspect.signature(torch.compile).parameters


def give_own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` with new code objects, equal to the old ones, that the compiler has not seen.

    A module keeps its identity; it and its submodules get ``forward`` methods of their own, except those of torch's own
    classes and those that already differ from their class. Modules of one class within ``function`` go on sharing
    code among themselves, as they do without copies. What cannot be copied is returned as it is: callables that are
    neither function, bound method nor module, and helper functions, which matter only behind a graph break.
    """
    copied: dict[types.FunctionType, types.FunctionType] = {}
    if isinstance(function, torch.nn.Module):
        _give_own_forwards(function, copied)
    elif isinstance(function, types.MethodType) and isinstance(function.__func__, types.FunctionType):
        if isinstance(function.__self__, torch.nn.Module):
            _give_own_forwards(function.__self__, copied)
        return types.MethodType(_copy_once(function.__func__, copied), function.__self__)
    elif isinstance(function, types.FunctionType):
        return _copy_once(function, copied)
    return function


def _give_own_forwards(module: torch.nn.Module, copied: dict[types.FunctionType, types.FunctionType]) -> None:
    for submodule in module.modules():
        forward: object = inspect.getattr_static(type(submodule), "forward")
        if not isinstance(forward, types.FunctionType) or "forward" in vars(submodule):
            continue
        if not (forward.__module__ or "").startswith("torch."):  # code made at run time may name no module
            submodule.forward = types.MethodType(_copy_once(forward, copied), submodule)


def _copy_once(
    function: types.FunctionType, copied: dict[types.FunctionType, types.FunctionType]
) -> types.FunctionType:
    if function not in copied:
        copied[function] = _copy_function(function)
    return copied[function]


def _copy_function(function: types.FunctionType) -> types.FunctionType:
    copy = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = function.__annotations__
    copy.__qualname__ = function.__qualname__
    copy.__module__ = function.__module__
    copy.__doc__ = function.__doc__
    copy.__dict__.update(function.__dict__)
    return copy


def _make_spacer(device: torch.device, random: Random) -> torch.Tensor:
    exponent = random.uniform(math.log(SMALLEST_SPACER_BYTES), math.log(LARGEST_SPACER_BYTES))
    return torch.empty(round(math.exp(exponent)), dtype=torch.uint8, device=device)
