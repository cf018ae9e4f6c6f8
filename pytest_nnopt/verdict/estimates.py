"""From what is recorded of a process to the figure that decisions use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.model import Variant
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.shift import Shift, machine_shift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord, RatioRecord


def estimate_of(process: ProcessRecord) -> ProcessEstimate:
    """Return what a process knows about the candidate's time over the reference's."""
    return estimate_of_ratio(process.candidate_to_reference)


def estimate_of_ratio(ratio: RatioRecord) -> ProcessEstimate:
    """Return what a process knows about a ratio of times."""
    return ProcessEstimate(ratio.log_ratio, ratio.variance, ratio.blocks)


def shift_since(now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]) -> Shift:
    """Return how far the machine has moved, by the fixed workload of the processes that timed it."""
    return machine_shift(_workload_times(now), _workload_times(before))


def _workload_times(processes: Sequence[ProcessRecord]) -> list[float]:
    return [
        math.log(process.seconds[Variant.YARDSTICK.value])
        for process in processes
        if Variant.YARDSTICK.value in process.seconds
    ]
