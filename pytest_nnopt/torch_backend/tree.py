"""Nested inputs and outputs as trees: leaves with paths that read like the user's own code, and tensor-wise copies."""

from __future__ import annotations

import copy
import dataclasses
import enum
import numbers
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from pytest_nnopt.errors import NumericsError

_Tree = TypeVar("_Tree")
_CONSTANTS = (
    numbers.Number,
    str,
    bytes,
    enum.Enum,
    slice,
    range,
    type,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    type(None),
    type(Ellipsis),
)


def flatten(value: object, path: str) -> list[tuple[str, object]]:
    """Open every container in ``value`` and return its leaves in order, each with its path.

    Tuples, lists, named tuples, mappings, dataclasses, and objects that hold tensors in their attributes (key-value
    caches, distributions) are opened. Tensors, numpy arrays and constants (numbers, strings, None, dtypes) are leaves.

    Args:
        value: what a model takes or returns.
        path: how the root is written, such as ``output``.

    Returns:
        Pairs such as ``("output.logits", tensor)`` or ``("output[1].value", tensor)``.

    Raises:
        NumericsError: the tree holds something that is neither a known container nor a known leaf, or itself.
    """
    return [(where, node) for where, node, is_container in _walk(value, path) if not is_container]


def containers(value: object, path: str) -> dict[str, str]:
    """Return the type of every container in ``value`` by its path, the root's under ``path`` itself.

    Raises:
        NumericsError: as for :func:`flatten`.
    """
    return {where: type(node).__qualname__ for where, node, is_container in _walk(value, path) if is_container}


def named_tensors(tree: object, path: str) -> list[tuple[str, torch.Tensor]]:
    """Return every tensor object in ``tree`` once, with the first path that reaches it.

    What cannot be opened is passed over.
    """
    found: list[tuple[str, torch.Tensor]] = []
    seen: set[int] = set()
    pending: list[tuple[str, object]] = [(path, tree)]
    while pending:
        where, node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, torch.Tensor):
            found.append((where, node))
        else:
            pending.extend((where + suffix, child) for suffix, child in reversed(_children(node) or []))
    return found


def map_tensors(tree: _Tree, fn: Callable[[torch.Tensor], torch.Tensor]) -> _Tree:
    """Copy ``tree`` with every tensor replaced by ``fn`` of it.

    Container types are kept, and a tensor object that appears twice is replaced by one object that appears twice.
    What cannot be opened is deep-copied.
    """
    replacements: dict[int, Any] = {id(tensor): fn(tensor) for _, tensor in named_tensors(tree, "")}
    return copy.deepcopy(tree, replacements)


def _walk(value: object, path: str, ancestors: tuple[int, ...] = ()) -> Iterator[tuple[str, object, bool]]:
    """Yield (path, node, whether it is a container) in depth-first order."""
    if id(value) in ancestors:
        raise NumericsError(f"{path} contains itself and cannot be compared; return tensors in a plain container")
    children = _children(value)
    if children is None:
        if not _is_leaf(value):
            raise NumericsError(
                f"{path} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be compared; "
                "return tensors, numbers, strings, or containers of them"
            )
        yield path, value, False
        return
    yield path, value, True
    for suffix, child in children:
        yield from _walk(child, path + suffix, (*ancestors, id(value)))


def _is_leaf(value: object) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray, *_CONSTANTS))


def _children(value: object) -> list[tuple[str, object]] | None:
    """Return the parts of a container with the suffix that reaches each, or None for anything else."""
    if _is_leaf(value):
        return None
    if isinstance(value, Mapping):
        if dataclasses.is_dataclass(value):
            return [(f".{key}", child) for key, child in value.items()]
        return [(f"[{key!r}]", child) for key, child in value.items()]
    if dataclasses.is_dataclass(value):
        return [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f".{name}", child) for name, child in zip(value._fields, value, strict=True)]
    if isinstance(value, (tuple, list, deque)):
        return [(f"[{index}]", child) for index, child in enumerate(value)]
    return _attributes(value)


def _attributes(value: object) -> list[tuple[str, object]] | None:
    """Open a plain object by its attributes if a tensor lies somewhere below them."""
    if callable(value) or not hasattr(value, "__dict__") or not _holds_tensor(value, set()):
        return None
    return [(f".{name}", child) for name, child in vars(value).items()]


def _holds_tensor(value: object, seen: set[int]) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    if id(value) in seen or _is_leaf(value) or callable(value):
        return False
    seen.add(id(value))
    if isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, (tuple, list, deque)):
        parts = list(value)
    else:
        parts = list(getattr(value, "__dict__", {}).values())
    return any(_holds_tensor(part, seen) for part in parts)
