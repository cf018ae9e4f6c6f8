"""A second pass over a leaf whose elements seem to share an error: how sure that is if errors go together.

Elements of a row often err together, because they share a scale or a statistic, and so may those of a channel. Errors
are therefore summed along each dimension in turn, and the spread of these sums gives the uncertainty: the
cluster-robust variance of Liang and Zeger (Biometrika 73, 1986), here the largest over the dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_nnopt.numerics.measure import Errors, Floats, Runs

_GROUPS = 4096
_FEW_GROUPS = 8.0


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Standard errors of what all elements share.

    Attributes:
        gain: of the relative error.
        offset: of the absolute error.
    """

    gain: float
    offset: float


def shared_uncertainty(shape: tuple[int, ...], runs: Iterable[Runs], errors: Errors) -> Uncertainty:
    """Return the standard errors of a candidate's gain and offset if elements of a row or channel err together.

    Args:
        shape: shape of the leaf as it is read; complex numbers have a last dimension of 2.
        runs: chunks of all runs.
        errors: the candidate's gain and offset.
    """
    sums = [_GroupSums(size, math.prod(shape[place + 1 :])) for place, size in enumerate(shape) if size > 1]
    true_square_sum, count, start = 0.0, 0, 0
    for actual, _, true, _ in runs:
        is_finite = np.isfinite(actual) & np.isfinite(true)
        deviations = np.where(is_finite, actual - true, 0.0)
        scaled = np.where(is_finite, true, 0.0)
        for group in sums:
            group.add(start, (deviations - errors.gain * scaled) * scaled, deviations - errors.offset * is_finite)
        true_square_sum += float(scaled @ scaled)
        count += int(np.count_nonzero(is_finite))
        start += actual.size
    gains, offsets = zip(*((group.spread(group.products), group.spread(group.rests)) for group in sums), strict=True)
    return Uncertainty(max(gains) / (true_square_sum or 1.0), max(offsets) / max(count, 1))


class _GroupSums:
    """Sums of errors over all but one dimension; neighbours share a group where the dimension is long."""

    def __init__(self, size: int, step: int) -> None:
        self._size = size
        self._step = step
        self._groups = min(size, _GROUPS)
        self.products: Floats = np.zeros(self._groups)
        self.rests: Floats = np.zeros(self._groups)

    def add(self, start: int, products: Floats, rests: Floats) -> None:
        flat = np.arange(start, start + products.size)
        group: NDArray[np.int64] = flat // self._step % self._size * self._groups // self._size
        self.products += np.bincount(group, weights=products, minlength=self._groups)
        self.rests += np.bincount(group, weights=rests, minlength=self._groups)

    def spread(self, sums: Floats) -> float:
        """Return the standard deviation of the total, wider where it rests on few groups."""
        groups = self._groups
        deviation = math.sqrt(groups / (groups - 1) * float(sums @ sums))
        return deviation * (1 + _FEW_GROUPS / groups)
