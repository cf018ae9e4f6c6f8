"""How far the machine is from where it was: what that leaves open about a ratio of times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from pytest_nnopt.statistics.evidence import standard_error, sum_of_squares
from pytest_nnopt.statistics.prior import VariancePrior

if TYPE_CHECKING:
    from collections.abc import Sequence

RATIO_SHARE = 0.3
"""By how much the logarithm of a ratio moves with that of a fixed workload's time: the root mean square of slopes seen
from process to process, of either sign (``benchmarks/machine_state.py``)."""

_WORKLOAD_PRIOR = VariancePrior(0.05**2, 2.0)
"""A fixed workload's time on a shared CPU: 1 to 13 % between processes of one day."""

_NOISE_ERRORS = 2.5
"""Standard errors of the difference that count as its noise."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A machine's state now against that of a baseline, as a fixed workload shows it.

    Attributes:
        log_ratio: of the workload's time now to then; above 0 the machine is slower.
        error: standard error that this adds to a log-ratio of the case, whose sides it may have hit unequally; 0 where
            the workload's own noise explains the difference.
        share: of the workload's difference that the ratio may move by.
        is_of_host: whether the workload is one of the host that leads a GPU.
    """

    log_ratio: float = 0.0
    error: float = 0.0
    share: float = RATIO_SHARE
    is_of_host: bool = False


NO_SHIFT = Shift()


def machine_shift(
    now: Sequence[float], before: Sequence[float], *, share: float = RATIO_SHARE, is_of_host: bool = False
) -> Shift:
    """Return how far the machine has moved since the baseline.

    What a machine gives away to others, such as the second thread of a core, does not slow all code alike, so that a
    ratio of two times moves with it. In which direction is not known: a share of the difference, as far as it exceeds
    its own noise, is added to what the ratio is uncertain by.

    Args:
        now: logarithms of the workload's seconds in the candidate's processes, one each.
        before: the same of the baseline's processes.
        share: of the workload's difference that a ratio may move by; 1 of one whose other side does not move.
        is_of_host: whether the workload is one of the host that leads a GPU.

    Returns:
        The shift, whose error has a square of ``share``² times that of the difference less that of 2.5 standard errors;
        no shift where either side is empty.
    """
    if not now or not before:
        return NO_SHIFT
    difference = fmean(now) - fmean(before)
    noise = _WORKLOAD_PRIOR.updated(sum_of_squares(now) + sum_of_squares(before), len(now) + len(before) - 2)
    expected = _NOISE_ERRORS * standard_error(noise, processes=len(now), baseline_processes=len(before))
    return Shift(difference, share * math.sqrt(max(0.0, difference**2 - expected**2)), share, is_of_host)
