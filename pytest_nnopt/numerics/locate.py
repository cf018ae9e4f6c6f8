"""A second pass over a leaf that failed or has a declared tolerance: which elements are off, and which is worst."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_nnopt.numerics.measure import Floats, Runs, is_mismatched, octaves

if TYPE_CHECKING:
    from pytest_nnopt.numerics.leaves import ArrayLeaf, Chunk

Limits = Callable[[Floats, Floats], Floats]
"""From a chunk's expected and true values to the largest error each element may have."""


@dataclass(frozen=True, slots=True)
class WorstElement:
    """The element furthest beyond its limit.

    Attributes:
        index: where it is in the leaf.
        part: ``real`` or ``imag`` of a complex element, else empty.
        actual: the candidate's value.
        expected: the reference's value.
        true: the float64 run's value; the reference's where there was none.
        limit: the largest error allowed here; 0 for elements that must match exactly.
    """

    index: tuple[int, ...]
    part: str
    actual: float
    expected: float
    true: float
    limit: float


@dataclass(frozen=True, slots=True)
class Located:
    """Which elements of a leaf are off.

    Attributes:
        off: how many elements are beyond their own limit.
        excess: the worst element's error as a multiple of its limit.
        worst: the worst element; None where there are none, or none that differ in a leaf that must match exactly.
        maximum: largest absolute difference between candidate and reference.
        relative_maximum: largest such difference relative to the reference's element.
    """

    off: int
    excess: float
    worst: WorstElement | None
    maximum: float
    relative_maximum: float


def octave_limits(limits: Floats) -> Limits:
    """Make limits that depend on the magnitude of the true value.

    Args:
        limits: the limit for each octave, shape (OCTAVES,).
    """
    return lambda expected, true: limits[octaves(true)]


def declared_limits(rtol: float, atol: float) -> Limits:
    """Make limits as ``torch.testing.assert_close`` means them: ``atol + rtol * |expected|``."""
    return lambda expected, true: atol + rtol * np.abs(expected)


def locate(leaf: ArrayLeaf, runs: Iterable[Runs], limits: Limits, *, equal_nan: bool, is_declared: bool) -> Located:
    """Find the elements of a floating leaf that are beyond their limits.

    Args:
        leaf: the candidate's leaf, for its shape.
        runs: chunks of all runs, as :func:`~pytest_nnopt.numerics.measure.aligned` yields them.
        limits: the largest error each element may have.
        equal_nan: whether a NaN on both sides is equal.
        is_declared: whether the error is the distance to the reference, rather than to the truth.
    """
    search = _Search(leaf)
    with np.errstate(all="ignore"):
        for actual, expected, true, _ in runs:
            target = expected if is_declared else true
            allowed = limits(expected, true)
            differences = np.abs(actual - target)
            excess = _excess(differences, allowed)
            if not np.isfinite(differences.sum() + expected.sum()):
                is_wrong = is_mismatched(actual, expected) | (np.isnan(actual) & (not equal_nan))
                excess[~np.isfinite(differences)] = 0.0
                excess[is_wrong] = np.inf
                allowed = np.where(is_wrong, 0.0, allowed)
            search.add(actual, expected, true, allowed, excess)
    return search.located()


def locate_exact(leaf: ArrayLeaf, candidate: Iterable[Chunk], reference: Iterable[Chunk]) -> Located:
    """Find the elements of an integer or boolean leaf that differ."""
    search = _Search(leaf)
    for actual, expected in zip(candidate, reference, strict=True):
        is_different = actual != expected
        if is_different.any():
            values = actual.astype(np.float64), expected.astype(np.float64)
            search.add(*values, values[1], np.zeros(actual.shape), np.where(is_different, np.inf, 0.0))
        else:
            search.skip(actual.size)
    return search.located()


def _excess(errors: Floats, allowed: Floats) -> Floats:
    """Return errors as multiples of their limits; no error is 0 of any limit."""
    excess = errors / allowed
    if not allowed.all():
        excess[errors == 0] = 0.0
    return excess


class _Search:
    """Keeps the worst element over chunks."""

    def __init__(self, leaf: ArrayLeaf) -> None:
        self._leaf = leaf
        self._start = 0
        self._off = 0
        self._excess = -1.0
        self._worst: WorstElement | None = None
        self._maximum = 0.0
        self._relative_maximum = 0.0

    def add(self, actual: Floats, expected: Floats, true: Floats, allowed: Floats, excess: Floats) -> None:
        self._off += int(np.count_nonzero(excess > 1))
        self._note_differences(actual, expected)
        place = int(np.argmax(excess))
        if excess[place] > self._excess:
            self._excess = float(excess[place])
            index, part = self._index(self._start + place)
            values = (float(values[place]) for values in (actual, expected, true, allowed))
            self._worst = WorstElement(index, part, *values)
        self._start += actual.size

    def skip(self, count: int) -> None:
        self._start += count

    def _note_differences(self, actual: Floats, expected: Floats) -> None:
        differences = np.abs(actual - expected)
        if not np.isfinite(differences.max(initial=0.0)):
            differences[~np.isfinite(differences)] = 0.0
        self._maximum = max(self._maximum, float(differences.max(initial=0.0)))
        magnitudes = np.abs(expected)
        magnitudes[magnitudes == 0] = np.inf
        relative = differences / magnitudes
        self._relative_maximum = max(self._relative_maximum, float(np.nanmax(relative, initial=0.0)))

    def _index(self, flat: int) -> tuple[tuple[int, ...], str]:
        part = ""
        if self._leaf.is_complex:
            flat, is_imaginary = divmod(flat, 2)
            part = "imag" if is_imaginary else "real"
        return tuple(int(i) for i in np.unravel_index(flat, self._leaf.shape)), part

    def located(self) -> Located:
        return Located(self._off, max(self._excess, 0.0), self._worst, self._maximum, self._relative_maximum)
