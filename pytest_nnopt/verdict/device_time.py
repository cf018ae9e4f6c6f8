"""The check of a GPU's own time: the kernels' durations, and how many are launched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.statistics.decision import decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_DEVICE_TIME_PRIOR
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.units import format_percent, format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord
    from pytest_nnopt.statistics.decision import Decision

DEVICE_TIME_PLAN = SequentialPlan(false_alarms=0.001, looks=(1, 2, 4))
"""Kernel time varies by a few parts in a thousand between processes, so few processes decide."""

_SAME_LAUNCHES = 0.005
_SAME_KERNEL_TIME = 0.03
"""Relative change of one kernel's time that its own noise hides; the sum of all varies by a tenth of it."""

_SHOWN_KERNELS = 5


def check_device_time(
    now: Sequence[ProcessRecord], before: Sequence[ProcessRecord], limit: float, level: str = "the baseline"
) -> Check:
    """Hold the candidate's kernels against the baseline's: their own time, and how many are launched.

    Args:
        now: processes of this run, at least one with kernels.
        before: processes of the baseline, at least one with kernels.
        limit: tolerated growth of the kernels' time.
        level: what ``before`` belongs to, in words.
    """
    decision = decide_device_time(now, before, limit)
    launches, launches_before = _launches(now), _launches(before)
    details = tuple(_kernel_changes(_kernels(now), _kernels(before)))
    if launches > launches_before + _SAME_LAUNCHES:
        reason = f"{launches:g} kernels are launched per call, {level} has {launches_before:g}"
        return Check(CheckName.DEVICE_TIME, Outcome.FAILED, reason, decision.change, 0.0, limit, None, details)
    interval = decision.interval
    relation = {Outcome.FAILED: "beyond", Outcome.INCONCLUSIVE: "not clearly on either side of"}
    reason = (
        f"device time {format_percent(decision.change, signed=True)} against {level} "
        f"[{format_percent(interval.low, signed=True)}, {format_percent(interval.high, signed=True)}] "
        f"is {relation.get(decision.outcome, 'within')} the limit of {format_percent(limit)}"
    )
    shown = details if decision.outcome in relation else ()
    return Check(CheckName.DEVICE_TIME, decision.outcome, reason, decision.change, 0.0, limit, interval, shown)


def decide_device_time(now: Sequence[ProcessRecord], before: Sequence[ProcessRecord], limit: float) -> Decision:
    """Decide whether the kernels' own time grew; arguments as of ``check_device_time``."""
    seconds = [[p.device_seconds for p in processes if p.device_seconds] for processes in (now, before)]
    return decide_device_seconds(seconds[0], seconds[1], limit)


def decide_device_seconds(now: Sequence[float], before: Sequence[float], limit: float) -> Decision:
    """Decide whether kernels' seconds per call, one figure a process, grew by more than ``limit``."""
    return decide_regression(
        _estimates(now), _estimates(before), limit=limit, prior=DEFAULT_DEVICE_TIME_PRIOR, plan=DEVICE_TIME_PLAN
    )


def _estimates(seconds: Sequence[float]) -> list[ProcessEstimate]:
    """Return each process's figure as a logarithm; the spread within a process is far below that between them."""
    return [ProcessEstimate(math.log(value), 0.0, 1) for value in seconds]


def _launches(processes: Sequence[ProcessRecord]) -> float:
    return min(process.launches for process in processes if process.launches is not None)


def _kernels(processes: Sequence[ProcessRecord]) -> Mapping[str, KernelRecord]:
    return next(process.kernels for process in reversed(processes) if process.kernels)


def _kernel_changes(now: Mapping[str, KernelRecord], before: Mapping[str, KernelRecord]) -> list[str]:
    """Name the kernels that were added, removed or changed most, the costliest change first."""
    changes = {
        name: (now[name].seconds if name in now else 0.0) - (before[name].seconds if name in before else 0.0)
        for name in {**now, **before}
    }
    ordered = sorted(changes, key=lambda name: -abs(changes[name]))[:_SHOWN_KERNELS]
    return [_describe_kernel(name, now.get(name), before.get(name)) for name in ordered if changes[name]]


def describe_kernel_changes(now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]) -> list[str]:
    """Name the kernels that were added, removed, or changed in time by more than they vary, costliest first."""
    here, there = _kernels(now), _kernels(before)
    moved = {
        name
        for name in {**here, **there}
        if name not in here
        or name not in there
        or abs(here[name].seconds - there[name].seconds) > _SAME_KERNEL_TIME * there[name].seconds
    }
    return _kernel_changes(
        {name: kernel for name, kernel in here.items() if name in moved},
        {name: kernel for name, kernel in there.items() if name in moved},
    )


def _describe_kernel(name: str, now: KernelRecord | None, before: KernelRecord | None) -> str:
    if before is None:
        assert now is not None
        return f"kernel added: {name} ({format_seconds(now.seconds)} per call)"
    if now is None:
        return f"kernel removed: {name} ({format_seconds(before.seconds)} per call)"
    return f"kernel {name}: {format_seconds(before.seconds)} → {format_seconds(now.seconds)} per call"
