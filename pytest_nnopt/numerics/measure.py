"""One pass over a leaf: how far both sides are from the truth, by magnitude, and what all elements share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pytest_nnopt.numerics.leaves import Chunk

Floats = NDArray[np.float64]
Runs = tuple[Floats, Floats, Floats, "Floats | None"]
"""Chunks of the candidate, the reference, the truth and the nudged run, cut alike."""
_FEW_ELEMENTS = 8.0
OCTAVES = 2048
"""Number of binary exponents of a float64; octave 0 holds zeros and subnormal numbers."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How far one side is from the truth.

    Attributes:
        square_sums: sum of squared errors in each octave of the truth, shape (OCTAVES,).
        maxima: largest absolute error in each octave, shape (OCTAVES,).
        gain: least-squares factor minus 1 between this side and the truth, through the origin.
        offset: mean error.
        gain_uncertainty: standard error of ``gain`` if what it leaves of the elements' errors is independent, wider
            where there are few elements; of the candidate alone.
        offset_uncertainty: standard error of ``offset`` likewise.
    """

    square_sums: Floats
    maxima: Floats
    gain: float
    offset: float
    gain_uncertainty: float
    offset_uncertainty: float

    @property
    def square_sum(self) -> float:
        """Sum of all squared errors."""
        return float(self.square_sums.sum())

    @property
    def maximum(self) -> float:
        """Largest absolute error."""
        return float(self.maxima.max())


@dataclass(frozen=True, slots=True)
class Figures:
    """What one pass over a leaf found. Real and imaginary parts of complex numbers count as elements of their own.

    Attributes:
        count: elements compared: those that are finite on both sides and in the truth.
        counts: the same for each octave of the truth, shape (OCTAVES,).
        true_square_sum: sum of squares of the truth.
        true_maximum: largest magnitude of the truth.
        candidate: errors of the candidate.
        reference: errors of the reference; all zero where the reference is the truth.
        nudged: errors of the float64 run with nudged inputs, None where there was none.
        mismatched: elements that are NaN, +Inf or -Inf on one side and not the same on the other.
        nan_count: elements that are NaN on both sides.
        untrue: elements finite on both sides where the truth is not.
    """

    count: int
    counts: NDArray[np.int64]
    true_square_sum: float
    true_maximum: float
    candidate: Errors
    reference: Errors
    nudged: Errors | None
    mismatched: int
    nan_count: int
    untrue: int

    @property
    def true_rms(self) -> float:
        """Root mean square of the truth; 0 where nothing could be compared."""
        return float(np.sqrt(self.true_square_sum / self.count)) if self.count else 0.0


def measure(
    candidate: Iterable[Chunk],
    reference: Iterable[Chunk],
    truth: Iterable[Chunk] | None,
    nudged: Iterable[Chunk] | None,
) -> Figures:
    """Measure a floating leaf in one pass.

    Args:
        candidate: float64 chunks of the candidate.
        reference: chunks of the reference, cut alike.
        truth: chunks of the float64 run, cut alike; None takes the reference for the truth.
        nudged: chunks of the float64 run with nudged inputs, cut alike.
    """
    tally = _Tally(has_nudged=nudged is not None)
    with np.errstate(all="ignore"):  # what overflows becomes an infinite error, which fails
        for actual, expected, true, moved in aligned(candidate, reference, truth, nudged):
            tally.add(actual, expected, true, moved)
    return tally.figures()


def aligned(
    candidate: Iterable[Chunk],
    reference: Iterable[Chunk],
    truth: Iterable[Chunk] | None,
    nudged: Iterable[Chunk] | None,
) -> Iterator[Runs]:
    """Step through all runs of a leaf together; the reference stands in for a missing truth."""
    truths = iter(truth) if truth is not None else None
    moved = iter(nudged) if nudged is not None else None
    for actual, expected in zip(candidate, reference, strict=True):
        yield actual, expected, next(truths) if truths else expected, next(moved) if moved else None


def octaves(true: Floats) -> NDArray[np.int64]:
    """Return the binary exponent of each element, biased by 1023, so that octave k spans [2^(k-1023), 2^(k-1022))."""
    bits = np.ascontiguousarray(true).view(np.int64)
    return (bits >> 52) & (OCTAVES - 1)


@dataclass(slots=True)
class _ErrorTally:
    has_uncertainty: bool = False
    square_sums: Floats = field(default_factory=lambda: np.zeros(OCTAVES))
    maxima: Floats = field(default_factory=lambda: np.zeros(OCTAVES))
    error_sum: float = 0.0
    product_sum: float = 0.0
    product_square_sum: float = 0.0
    product_cross_sum: float = 0.0

    def add(self, errors: Floats, true: Floats, octave: NDArray[np.int64]) -> None:
        self.error_sum += float(errors.sum())
        self.product_sum += float(errors @ true)
        if self.has_uncertainty:
            products = errors * true
            self.product_square_sum += float(products @ products)
            self.product_cross_sum += float(products @ (true * true))
        np.abs(errors, out=errors)
        np.maximum.at(self.maxima, octave, errors)
        np.multiply(errors, errors, out=errors)
        self.square_sums += np.bincount(octave, weights=errors, minlength=OCTAVES)

    def errors(self, count: int, true_square_sum: float, true_fourth_sum: float) -> Errors:
        scale, offset = true_square_sum or 1.0, self.error_sum / max(count, 1)
        gain = self.product_sum / scale
        around_gain = self.product_square_sum - 2 * gain * self.product_cross_sum + gain**2 * true_fourth_sum
        around_offset = float(self.square_sums.sum()) - count * offset**2
        widening = 1 + _FEW_ELEMENTS / max(count, 1)
        return Errors(
            square_sums=self.square_sums,
            maxima=self.maxima,
            gain=gain,
            offset=offset,
            gain_uncertainty=widening * _root(around_gain) / scale,
            offset_uncertainty=widening * _root(around_offset) / max(count, 1),
        )


def _root(square: float) -> float:
    """Return the square root of a sum of squares that rounding may have taken below zero, or overflow anywhere."""
    return math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.inf


class _Tally:
    """Running sums over chunks. Sums within a chunk are pairwise, and chunks are few, so rounding stays near 1e-15."""

    def __init__(self, *, has_nudged: bool) -> None:
        self._counts = np.zeros(OCTAVES, dtype=np.int64)
        self._true_square_sum = 0.0
        self._true_fourth_sum = 0.0
        self._true_maximum = 0.0
        self._candidate = _ErrorTally(has_uncertainty=True)
        self._reference = _ErrorTally()
        self._nudged = _ErrorTally() if has_nudged else None
        self._mismatched = 0
        self._nan_count = 0
        self._untrue = 0

    def add(self, actual: Floats, expected: Floats, true: Floats, moved: Floats | None) -> None:
        deviations, own_deviations = actual - true, expected - true
        if not np.isfinite(deviations.sum() + own_deviations.sum()):
            is_comparable = self._set_aside(actual, expected, true)
            deviations, own_deviations = deviations[is_comparable], own_deviations[is_comparable]
            true = true[is_comparable]
            moved = None if moved is None else moved[is_comparable]
        octave = octaves(true)
        self._counts += np.bincount(octave, minlength=OCTAVES)
        squares = true * true
        self._true_square_sum += float(squares.sum())
        self._true_fourth_sum += float(squares @ squares)
        self._true_maximum = max(self._true_maximum, float(true.max(initial=0.0)), -float(true.min(initial=0.0)))
        self._candidate.add(deviations, true, octave)
        if expected is not true:
            self._reference.add(own_deviations, true, octave)
        if self._nudged is not None and moved is not None:
            self._nudged.add(_finite(moved - true), true, octave)

    def _set_aside(self, actual: Floats, expected: Floats, true: Floats) -> NDArray[np.bool_]:
        """Count elements that are not finite and return which remain."""
        self._mismatched += int(np.count_nonzero(is_mismatched(actual, expected)))
        self._nan_count += int(np.count_nonzero(np.isnan(actual) & np.isnan(expected)))
        is_finite_on_both = np.isfinite(actual) & np.isfinite(expected)
        self._untrue += int(np.count_nonzero(is_finite_on_both & ~np.isfinite(true)))
        return is_finite_on_both & np.isfinite(true)

    def figures(self) -> Figures:
        count = int(self._counts.sum())
        sums = count, self._true_square_sum, self._true_fourth_sum
        return Figures(
            count=count,
            counts=self._counts,
            true_square_sum=self._true_square_sum,
            true_maximum=self._true_maximum,
            candidate=self._candidate.errors(*sums),
            reference=self._reference.errors(*sums),
            nudged=None if self._nudged is None else self._nudged.errors(*sums),
            mismatched=self._mismatched,
            nan_count=self._nan_count,
            untrue=self._untrue,
        )


def _finite(errors: Floats) -> Floats:
    """Return errors with 0 in place of what is not finite: a nudged run that overflows says nothing there."""
    return errors if np.isfinite(errors.sum()) else np.nan_to_num(errors, posinf=0.0, neginf=0.0)


def is_mismatched(actual: Floats, expected: Floats) -> NDArray[np.bool_]:
    """Return where one side is NaN, +Inf or -Inf and the other is not the same."""
    is_different_nan: NDArray[np.bool_] = np.isnan(actual) != np.isnan(expected)
    is_infinite = np.isinf(actual) | np.isinf(expected)
    is_different_infinity = is_infinite & (actual != expected) & ~is_different_nan
    result: NDArray[np.bool_] = is_different_nan | is_different_infinity
    return result
