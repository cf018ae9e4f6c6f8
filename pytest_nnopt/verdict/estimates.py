"""From what is recorded of a process to the figure that decisions use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.model import Variant
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.shift import Shift, machine_shift

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord, RatioRecord


def estimate_of(process: ProcessRecord) -> ProcessEstimate:
    """Return what a process knows about the candidate's time over the reference's."""
    return estimate_of_ratio(process.candidate_to_reference)


def estimate_of_ratio(ratio: RatioRecord) -> ProcessEstimate:
    """Return what a process knows about a ratio of times."""
    return ProcessEstimate(ratio.log_ratio, ratio.variance, ratio.blocks)


def shift_since(now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]) -> Shift:
    """Return how far the machine has moved: the device by the fixed workload, the host that leads it by a fixed loop.

    Of the two, what leaves more open. Processes that did not time one of them do not count for it.
    """
    kinds = (_workload_seconds, _loop_seconds)
    shifts = [machine_shift(_logarithms(map(kind, now)), _logarithms(map(kind, before))) for kind in kinds]
    return max(shifts, key=lambda shift: shift.error)


def _workload_seconds(process: ProcessRecord) -> float | None:
    return process.seconds.get(Variant.YARDSTICK.value)


def _loop_seconds(process: ProcessRecord) -> float | None:
    return process.host_loop_seconds


def _logarithms(times: Iterable[float | None]) -> list[float]:
    return [math.log(seconds) for seconds in times if seconds is not None]
