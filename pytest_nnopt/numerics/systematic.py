"""A second pass over a leaf whose elements seem to share an error: how sure that is if errors go together.

Elements of a row often err together, because they share a scale or a statistic, and so may those of a channel. Errors
are therefore summed along each dimension in turn, and the spread of these sums gives the uncertainty: the
cluster-robust variance of Liang and Zeger (Biometrika 73, 1986), here the largest over the dimensions. What is summed
is what the gain or offset leaves of the errors, lest an error widen its own limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_nnopt.numerics.measure import Figures, Floats, Runs

_GROUPS = 4096
_FEW_GROUPS = 8.0
_RUNS = 3
_ALIKE = 1.5


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Standard errors of what all elements share.

    Attributes:
        gain: of the relative error.
        offset: of the absolute error.
    """

    gain: float
    offset: float


def shared_uncertainty(shape: tuple[int, ...], runs: Iterable[Runs], figures: Figures) -> Uncertainty:
    """Return the standard errors of a candidate's gain and offset if elements of a row or channel err together.

    Args:
        shape: shape of the leaf as it is read; complex numbers have a last dimension of 2.
        runs: chunks of all runs.
        figures: what the first pass found.
    """
    sums = [_GroupSums(size, math.prod(shape[place + 1 :])) for place, size in enumerate(shape) if size > 1]
    errors = (figures.candidate, figures.reference, figures.nudged)
    start = 0
    for actual, expected, true, moved in runs:
        is_finite = np.isfinite(actual) & np.isfinite(expected) & np.isfinite(true)
        scaled = np.where(is_finite, true, 0.0)
        for run, (values, known) in enumerate(zip((actual, expected, moved), errors, strict=True)):
            if values is None or known is None:
                continue
            deviations = np.where(is_finite & np.isfinite(values), values - true, 0.0)
            products, rests = (deviations - known.gain * scaled) * scaled, deviations - known.offset * is_finite
            for group in sums:
                group.add(run, start, products, rests)
        start += actual.size
    gain = max(group.spread(group.products) for group in sums) / (figures.true_square_sum or 1.0)
    return Uncertainty(gain, max(group.spread(group.rests) for group in sums) / max(figures.count, 1))


class _GroupSums:
    """Sums of each run's errors over all but one dimension; neighbours share a group where the dimension is long."""

    def __init__(self, size: int, step: int) -> None:
        self._size = size
        self._step = step
        self._groups = min(size, _GROUPS)
        self.products: Floats = np.zeros((_RUNS, self._groups))
        self.rests: Floats = np.zeros((_RUNS, self._groups))

    def add(self, run: int, start: int, products: Floats, rests: Floats) -> None:
        flat = np.arange(start, start + products.size)
        group: NDArray[np.int64] = flat // self._step % self._size * self._groups // self._size
        self.products[run] += np.bincount(group, weights=products, minlength=self._groups)
        self.rests[run] += np.bincount(group, weights=rests, minlength=self._groups)

    def spread(self, sums: Floats) -> float:
        """Return the standard deviation of the candidate's total, wider where it rests on few groups.

        Known runs whose groups err about as much as the candidate's say how much such groups err, too.
        """
        own, *others = (math.sqrt(self._groups / (self._groups - 1) * float(run @ run)) for run in sums)
        alike = [own, *(spread for spread in others if spread >= own / _ALIKE)]
        pooled = math.sqrt(sum(spread**2 for spread in alike) / len(alike))
        return min(self._widened(own, 1), self._widened(pooled, len(alike)))

    def _widened(self, spread: float, runs: int) -> float:
        return spread * (1 + _FEW_GROUPS / (self._groups * runs))
