"""From what is recorded of a process to the figure that decisions use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.model import Variant
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.shift import RATIO_SHARE, Shift, machine_shift

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
    """Return how far the machine has moved: by the fixed workload, or the host that leads a GPU by its fixed loop.

    Of the two, what leaves more open. Processes that did not time one of them do not count for it.
    """
    machine = machine_shift(_workload_times(now), _workload_times(before))
    return max(machine, host_shift_since(now, before), key=lambda shift: shift.error)


def host_shift_since(
    now: Sequence[ProcessRecord], before: Sequence[ProcessRecord], *, share: float = RATIO_SHARE
) -> Shift:
    """Return how far the host that leads a GPU has moved, by its fixed loop; ``share`` as of ``machine_shift``."""
    return machine_shift(_loop_times(now), _loop_times(before), share=share, is_of_host=True)


def _workload_times(processes: Sequence[ProcessRecord]) -> list[float]:
    return _logarithms(process.seconds.get(Variant.YARDSTICK.value) for process in processes)


def _loop_times(processes: Sequence[ProcessRecord]) -> list[float]:
    return _logarithms(process.host_loop_seconds for process in processes)


def _logarithms(times: Iterable[float | None]) -> list[float]:
    return [math.log(seconds) for seconds in times if seconds is not None]
