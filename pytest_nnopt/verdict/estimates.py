"""From what is recorded of a process to the figure that decisions use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.model import Variant
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.shift import NO_SHIFT, RATIO_SHARE, Shift, machine_shift

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord, RatioRecord


_SIDES = (Variant.REFERENCE.value, Variant.CANDIDATE.value)


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
    share = RATIO_SHARE if len(_waiting(now, before)) == len(_SIDES) else 1.0
    return max(machine, _host_shift(now, before, share), key=lambda shift: shift.error)


def slower_host_since(now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]) -> Shift:
    """Return by how much a candidate that waits for its host may be slower for the host's sake alone."""
    shift = _host_shift(now, before, share=1.0)
    return shift if shift.log_ratio > 0 and Variant.CANDIDATE.value in _waiting(now, before) else NO_SHIFT


def _host_shift(now: Sequence[ProcessRecord], before: Sequence[ProcessRecord], share: float) -> Shift:
    return machine_shift(_loop_times(now), _loop_times(before), share=share, is_of_host=True)


def _waiting(*samples: Sequence[ProcessRecord]) -> set[str]:
    """Return the sides of which the GPU waited for its host in one process or another."""
    return {side for processes in samples for process in processes for side in process.waiting if side in _SIDES}


def _workload_times(processes: Sequence[ProcessRecord]) -> list[float]:
    return _logarithms(process.seconds.get(Variant.YARDSTICK.value) for process in processes)


def _loop_times(processes: Sequence[ProcessRecord]) -> list[float]:
    return _logarithms(process.host_loop_seconds for process in processes)


def _logarithms(times: Iterable[float | None]) -> list[float]:
    return [math.log(seconds) for seconds in times if seconds is not None]
