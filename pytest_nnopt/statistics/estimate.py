"""What one process knows about the ratio of two times, and how sure it can be from the inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_nnopt.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LOW_QUANTILE = 0.10
_JACKKNIFE_GROUPS = 10
_SINGLE_BLOCK_VARIANCE = 0.10**2
"""Variance of one block's log-ratio on a shared machine, assumed where one block is all there is."""


@dataclass(frozen=True, slots=True)
class ProcessEstimate:
    """What one process knows about one ratio of times.

    Attributes:
        log_ratio: natural logarithm of numerator over denominator; of candidate over reference, negative is faster.
        variance: variance of ``log_ratio`` within the process. It says nothing about other processes.
        blocks: how many blocks it rests on.
    """

    log_ratio: float
    variance: float
    blocks: int

    @property
    def inverse(self) -> ProcessEstimate:
        """The same knowledge about denominator over numerator."""
        return ProcessEstimate(-self.log_ratio, self.variance, self.blocks)


def estimate_log_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> ProcessEstimate:
    """Estimate the log-ratio of two interleaved series of times.

    The estimate is the average of the mean block log-ratio, in which drift cancels, and of the log-ratio of the
    10th percentiles, which spikes do not reach; each alone has the larger spread between processes. Its variance
    is a delete-a-group jackknife over runs of neighbouring blocks (Shao and Wu 1989; Künsch 1989), so that
    correlation between neighbours counts and the percentile's variance is consistent.

    Args:
        numerator: seconds per call, block by block.
        denominator: seconds per call of the same blocks.

    Raises:
        MeasurementError: the series are empty, differ in length, or hold a time that is not positive and finite.
    """
    times = _as_log_times(numerator, denominator)
    return ProcessEstimate(_combined_log_ratio(times), _jackknife_variance(times), times.shape[1])


def drift_of(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return by how much the mean block log-ratio of the later half of the blocks lies above the earlier half's.

    Arguments and errors as of ``estimate_log_ratio``; 0 for a single block.
    """
    times = _as_log_times(numerator, denominator)
    ratios = times[0] - times[1]
    middle = len(ratios) // 2
    return float(np.mean(ratios[-middle:]) - np.mean(ratios[:middle])) if middle else 0.0


def estimate_log_value(values: Sequence[float]) -> ProcessEstimate:
    """Estimate the logarithm of one series, for quantities that need no reference, such as kernel time.

    Args:
        values: positive figures in any one unit, block by block.

    Raises:
        MeasurementError: as ``estimate_log_ratio``.
    """
    return estimate_log_ratio(values, [1.0] * len(values))


def _as_log_times(numerator: Sequence[float], denominator: Sequence[float]) -> NDArray[np.float64]:
    """Check both series and return their logarithms as an array of shape (2, blocks)."""
    if len(numerator) != len(denominator):
        raise MeasurementError(
            f"cannot compare {len(numerator)} blocks with {len(denominator)}; every block times both variants"
        )
    if len(numerator) == 0:
        raise MeasurementError("cannot estimate a ratio from no blocks; measure at least one")
    times = np.array([numerator, denominator], dtype=np.float64)
    is_bad = ~(np.isfinite(times) & (times > 0))
    if is_bad.any():
        side, block = np.argwhere(is_bad)[0]
        raise MeasurementError(
            f"{('numerator', 'denominator')[side]} of block {block} is {times[side, block]}; "
            "a time must be positive and finite"
        )
    return np.log(times)


def _combined_log_ratio(log_times: NDArray[np.float64]) -> float:
    mean_ratio = float(np.mean(log_times[0] - log_times[1]))
    low_numerator, low_denominator = np.quantile(log_times, _LOW_QUANTILE, axis=1)
    return (mean_ratio + float(low_numerator - low_denominator)) / 2


def _jackknife_variance(log_times: NDArray[np.float64]) -> float:
    blocks = log_times.shape[1]
    if blocks == 1:
        return _SINGLE_BLOCK_VARIANCE
    groups = np.array_split(np.arange(blocks), min(_JACKKNIFE_GROUPS, blocks))
    left_out = np.array([_combined_log_ratio(np.delete(log_times, group, axis=1)) for group in groups])
    return float((len(groups) - 1) * np.var(left_out))
