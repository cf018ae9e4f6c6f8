"""Device time of a call, kernel by kernel, from the profiler's CUDA activity.

The sum of the kernels' own durations does not contain the host's pace. On an H200 it repeats between processes to a few
parts in ten thousand, where the latency of the same model moves by several percent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.torch_backend.isolation import warnings_not_raised

PROFILED_CALLS = 20
"""Calls that suffice for a sum of kernel durations stable to 0.3 %."""

WARMUP_CALLS = 3
"""Calls before profiling, so that nothing is allocated, compiled or recorded for the first time under the profiler."""


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """One piece of work on the device: a kernel, a copy or a fill."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class KernelTime:
    """What one kernel costs a call on average; a count below 1 means that not every call launches it."""

    count_per_call: float
    seconds_per_call: float


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """Device work of one call by kernel name; copies and fills count as kernels."""

    kernels: Mapping[str, KernelTime]

    @property
    def seconds_per_call(self) -> float:
        """Sum of all durations; larger than the elapsed time where streams overlap."""
        return sum(kernel.seconds_per_call for kernel in self.kernels.values())

    @property
    def launches_per_call(self) -> float:
        """Pieces of work the device runs for one call, also where a CUDA graph launches many at once."""
        return sum(kernel.count_per_call for kernel in self.kernels.values())


def profile_kernels(call: Callable[[], object], device: torch.device, *, calls: int = PROFILED_CALLS) -> DeviceProfile:
    """Run ``call`` under the profiler and return its device work.

    Raises:
        MeasurementError: the profiler saw no device work: ``call`` runs elsewhere, or another profiler has the device.
    """
    for _ in range(WARMUP_CALLS):
        call()
    torch.cuda.synchronize(device)
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with warnings_not_raised(), torch.profiler.profile(activities=activities) as profiler:
        for _ in range(calls):
            call()
        torch.cuda.synchronize(device)
    events = select_device_events(profiler.events() or ())
    if not events:
        raise MeasurementError(
            f"the profiler saw no work on {device}; check that the model runs there and that no other profiler, "
            "such as Nsight, is attached"
        )
    return summarise_events(events, calls)


def select_device_events(events: Iterable[Any]) -> list[DeviceEvent]:
    """Return what ran on the device out of a profiler's ``FunctionEvent`` list.

    Ranges that ``record_function`` draws on the device's timeline span other kernels and are left out.
    """
    return [
        DeviceEvent(event.name, event.time_range.elapsed_us() * 1e-6)
        for event in events
        if event.device_type == torch.profiler.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]


def summarise_events(events: Iterable[DeviceEvent], calls: int) -> DeviceProfile:
    """Average the events of ``calls`` calls by kernel name, the most expensive first."""
    durations: dict[str, list[float]] = defaultdict(list)
    for event in events:
        durations[event.name].append(event.seconds)
    kernels = {name: KernelTime(len(times) / calls, sum(times) / calls) for name, times in durations.items()}
    return DeviceProfile(dict(sorted(kernels.items(), key=lambda item: -item[1].seconds_per_call)))
