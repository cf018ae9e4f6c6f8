"""What one run of one side left behind: arrays and constants with their paths, or the exception it raised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chunk = NDArray[Any]
CHUNK_ELEMENTS = 1 << 13
"""Elements read at once: as float64 they stay in a core's cache, and below the size at which an allocator fetches fresh
pages from the system for every intermediate result, which costs ten times the arithmetic."""

_EPS = {
    "float64": 2.0**-52,
    "complex128": 2.0**-52,
    "float32": 2.0**-23,
    "complex64": 2.0**-23,
    "float16": 2.0**-10,
    "complex32": 2.0**-10,
    "bfloat16": 2.0**-7,
    "float8_e4m3fn": 2.0**-3,
    "float8_e4m3fnuz": 2.0**-3,
    "float8_e5m2": 2.0**-2,
    "float8_e5m2fnuz": 2.0**-2,
    "float8_e8m0fnu": 1.0,
}


def eps_of(dtype: str) -> float | None:
    """Return the distance from 1 to the next larger value of ``dtype``; None for integers and booleans."""
    return _EPS.get(dtype)


class LeafKind(str, Enum):
    """What a leaf is to the model."""

    OUTPUT = "output"
    LOSS = "loss"
    GRADIENT = "gradient"
    INPUT = "input"
    BUFFER = "buffer"
    PARAMETER = "parameter"

    @property
    def is_state(self) -> bool:
        """Whether the leaf existed before the run, so that only a change to it is the run's doing."""
        return self in (LeafKind.INPUT, LeafKind.BUFFER, LeafKind.PARAMETER)


@dataclass(frozen=True, slots=True)
class ArrayLeaf:
    """An array without the array: what it is, and a way to read it in chunks.

    Attributes:
        path: how the leaf is reached, such as ``output.logits`` or ``gradient of fc.weight``.
        kind: what it is to the model.
        shape: its shape.
        dtype: name of its dtype as torch writes it, without ``torch.``.
        device: where it lives.
        strides: steps between elements, in elements; None where the layout has none.
        layout: ``strided``, or how a sparse or nested array is stored.
        read: yields the elements in logical order, exactly converted: float64 for floats; float64 pairs (real,
            imaginary) for complex numbers; the own dtype for integers and booleans. How the elements are cut into
            chunks depends on ``shape`` alone.
        is_unchanged: the leaf existed before the run and still holds the same bits.
    """

    path: str
    kind: LeafKind
    shape: tuple[int, ...]
    dtype: str
    device: str
    strides: tuple[int, ...] | None
    layout: str
    read: Callable[[], Iterator[Chunk]]
    is_unchanged: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_complex(self) -> bool:
        """Whether each element is read as a pair of floats."""
        return self.dtype.startswith("complex")

    @property
    def is_floating(self) -> bool:
        """Whether elements are rounded, so that they need not match exactly."""
        return self.dtype in _EPS

    @property
    def eps(self) -> float:
        """Machine epsilon of the dtype.

        Raises:
            KeyError: the dtype has none.
        """
        return _EPS[self.dtype]


@dataclass(frozen=True, slots=True)
class ConstantLeaf:
    """A value that is not an array: a string, None, a dtype. Compared by its text.

    Attributes:
        path: how the leaf is reached.
        kind: what it is to the model.
        text: the value as ``repr`` writes it.
    """

    path: str
    kind: LeafKind
    text: str


Leaf = ArrayLeaf | ConstantLeaf


@dataclass(frozen=True, slots=True)
class RaisedError:
    """An exception a run ended with.

    Attributes:
        type_names: qualified name of its class, then those of the exceptions it was raised from.
        message: its text.
        stage: what was running: ``forward``, ``loss`` or ``backward``.
    """

    type_names: tuple[str, ...]
    message: str
    stage: str

    def __str__(self) -> str:
        """Write it as a traceback's last line."""
        return f"{self.type_names[0]} in {self.stage}: {self.message}"


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything one run did.

    Attributes:
        leaves: outputs, loss, gradients, inputs, buffers and parameters after the run.
        containers: type of every container of the output by its path.
        error: the exception the run ended with; None where it returned.
        seed: seed of the random number generators before the run.
        notes: what could not be observed, one sentence each.
    """

    leaves: tuple[Leaf, ...]
    containers: Mapping[str, str] = field(default_factory=dict)
    error: RaisedError | None = None
    seed: int = 0
    notes: tuple[str, ...] = ()


def leaf_of_array(path: str, array: Chunk, *, kind: LeafKind = LeafKind.OUTPUT, dtype: str | None = None) -> ArrayLeaf:
    """Make a leaf of a numpy array.

    Args:
        path: how the leaf is reached.
        array: the elements, of any shape and layout.
        kind: what it is to the model.
        dtype: the dtype the elements are rounded to where numpy does not know it, such as ``bfloat16``.
    """
    return ArrayLeaf(
        path=path,
        kind=kind,
        shape=array.shape,
        dtype=dtype or array.dtype.name,
        device="cpu",
        strides=tuple(stride // array.itemsize for stride in array.strides) if array.itemsize else None,
        layout="strided",
        read=lambda: read_array(array),
    )


def read_array(array: Chunk) -> Iterator[Chunk]:
    """Yield the elements of a numpy array as :class:`ArrayLeaf` promises them."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHUNK_ELEMENTS):
        yield exact_chunk(flat[start : start + CHUNK_ELEMENTS])


def exact_chunk(flat: Chunk) -> Chunk:
    """Convert a flat array to the types that leaves are read in; no value changes."""
    if flat.dtype.kind == "c":
        return np.ascontiguousarray(flat, dtype=np.complex128).view(np.float64)
    if flat.dtype.kind == "f":
        return np.asarray(flat, dtype=np.float64)
    return flat
