"""What a baseline keeps of a leaf: small figures that show drift, in place of the values themselves."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pytest_nnopt.numerics.leaves import ArrayLeaf, Chunk, LeafKind

_SAMPLE_ELEMENTS = 16


@dataclass(frozen=True, slots=True)
class ErrorFigures:
    """How far a run is from the truth, relative to the truth's own magnitude; absolute where the truth is all zero.

    Attributes:
        nrmse: root mean square error relative to the true values' root mean square.
        maximum: largest error relative to the largest true value.
        gain: relative error that all elements share.
        offset: mean error relative to the true values' root mean square.
    """

    nrmse: float
    maximum: float
    gain: float
    offset: float


@dataclass(frozen=True, slots=True)
class LeafSummary:
    """What a baseline keeps of a leaf.

    Attributes:
        path: how the leaf is reached.
        kind: what it is to the model.
        dtype: its dtype.
        shape: its shape.
        candidate: errors of the candidate; None where errors could not be measured.
        reference: errors of the reference; None where it was the truth itself.
        rms: root mean square of the true values, None for integers.
        maximum: largest magnitude of the true values, None for integers.
        sample: true values by flat index, at places chosen by the path and the number of elements alone.
    """

    path: str
    kind: LeafKind
    dtype: str
    shape: tuple[int, ...]
    candidate: ErrorFigures | None
    reference: ErrorFigures | None
    rms: float | None
    maximum: float | None
    sample: tuple[tuple[int, float], ...]


@dataclass(slots=True)
class Sampler:
    """Picks a few seeded elements out of chunks that are read for another reason."""

    leaf: ArrayLeaf
    values: list[tuple[int, float]] = field(default_factory=list)

    def watch(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Pass chunks on, keeping the elements of the sample."""
        indices = sample_indices(self.leaf)
        start = 0
        for chunk in chunks:
            inside = indices[(indices >= start) & (indices < start + chunk.size)]
            self.values += [(int(index), float(chunk[index - start])) for index in inside]
            start += chunk.size
            yield chunk


def sample_indices(leaf: ArrayLeaf) -> Chunk:
    """Return the flat indices that are kept of a leaf, sorted; a complex leaf counts its parts one by one."""
    size = leaf.size * (2 if leaf.is_complex else 1)
    if size <= _SAMPLE_ELEMENTS:
        return np.arange(size)
    generator = np.random.default_rng(zlib.crc32(leaf.path.encode()))
    return np.unique(generator.integers(size, size=_SAMPLE_ELEMENTS))
