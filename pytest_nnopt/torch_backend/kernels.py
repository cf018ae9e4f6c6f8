"""Device time of a call, kernel by kernel, from the profiler's CUDA activity.

The sum of the kernels' own durations does not contain the host's pace. On an H200 it repeats between processes to a few
parts in a thousand or less where the same kernels are launched alike, while the latency of a model that waits for the
host moves by several percent. How each kernel is launched is kept beside its time: the compiler chooses among grids and
block sizes by timing them, and where two are about as fast, chance decides, anew in each process.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.torch_backend.quiet import profiler_kept_quiet

if TYPE_CHECKING:
    from pytest_nnopt.measurement.team import Together

LEAST_CALLS, MOST_CALLS = 20, 100
"""Profiled calls: the fewer suffice for a sum of kernel durations stable to 0.3 %."""

PROFILED_SECONDS = 0.1
"""Time for more calls than the fewest."""

MOST_PROFILED_SECONDS = 5.0
"""Time after which fewer calls are profiled than that, one of each copy at least: long calls hold many kernels."""

WARMUP_CALLS = 3
"""Calls before profiling, so that nothing is allocated, compiled or recorded for the first time under the profiler."""

_DEVICE_WORK = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
"""Categories of a trace that are work of the device; a range that ``record_function`` draws has another one."""

_SHOWN_LAUNCHES = 2


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """One piece of work on the device: a kernel, a copy or a fill.

    Attributes:
        name: of the kernel, or what was copied or filled.
        seconds: how long it took.
        launch: how it was launched, in words; None of a copy or a fill.
    """

    name: str
    seconds: float
    launch: str | None = None


@dataclass(frozen=True, slots=True)
class KernelTime:
    """What one kernel costs a call on average.

    Attributes:
        count_per_call: how often it is launched; below 1 where not every call does.
        seconds_per_call: all its launches together.
        launch: how it is launched, in words; None of a copy or a fill.
    """

    count_per_call: float
    seconds_per_call: float
    launch: str | None = None


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


def profile_kernels(
    copies: Sequence[Callable[[], object]], device: torch.device, *, team: Together | None = None
) -> DeviceProfile:
    """Run copies of one callable under the profiler, one after another, and return the device work of a call.

    Args:
        copies: what to call; each copy gets its share of the calls.
        device: where they work.
        team: the ranks that do the same at the same time, and so must make as many calls.

    Raises:
        MeasurementError: the profiler saw no device work: the callable runs elsewhere, or another profiler is attached;
            or it wrote a trace that cannot be read.
    """
    calls = _calls_of_each(max(_warm_seconds(copy, device) for copy in copies), len(copies))
    if team is not None:
        calls = round(team.largest(calls))
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with profiler_kept_quiet(), torch.profiler.profile(activities=activities) as profiler:
        for copy in copies:
            for _ in range(calls):
                copy()
        torch.cuda.synchronize(device)
    events = select_device_events(_trace_of(profiler))
    if not events:
        raise MeasurementError(
            f"the profiler saw no work on {device}; check that the model runs there and that no other profiler, "
            "such as Nsight, is attached"
        )
    return summarise_events(events, calls * len(copies))


def _warm_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Warm up and return what a call takes."""
    for _ in range(WARMUP_CALLS):
        call()
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return max(time.perf_counter() - start, 1e-6)


def _calls_of_each(seconds: float, copies: int) -> int:
    """Return how many calls of each copy are worth profiling, where a call takes so long."""
    wanted = min(MOST_CALLS, round(PROFILED_SECONDS / seconds)) // copies
    affordable = int(MOST_PROFILED_SECONDS / (seconds * copies))
    return max(1, min(affordable, max(LEAST_CALLS, wanted)))


def _trace_of(profiler: Any) -> Sequence[Mapping[str, Any]]:
    """Return the events of a finished profile, as the trace of Chrome's format has them."""
    with tempfile.TemporaryDirectory(prefix="nnopt-") as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        try:
            events: Sequence[Mapping[str, Any]] = json.loads(path.read_bytes())["traceEvents"]
        except (ValueError, KeyError) as error:
            raise MeasurementError(
                f"the profiler wrote a trace that is no JSON ({error}); some versions of torch do under a locale with "
                "decimal commas: set LC_NUMERIC=C"
            ) from None
    return events


def select_device_events(trace: Iterable[Mapping[str, Any]]) -> list[DeviceEvent]:
    """Return what ran on the device out of a trace's events."""
    return [
        DeviceEvent(event["name"], event["dur"] * 1e-6, _describe_launch(event.get("args", {})))
        for event in trace
        if event.get("cat") in _DEVICE_WORK
    ]


def _describe_launch(arguments: Mapping[str, Any]) -> str | None:
    if "grid" not in arguments or "block" not in arguments:
        return None
    registers, shared = (arguments.get(name, 0) for name in ("registers per thread", "shared memory"))
    return (
        f"grid {_extent(arguments['grid'])}, block {_extent(arguments['block'])}, "
        f"{registers} registers, {shared} B shared"
    )


def _extent(sizes: Sequence[int]) -> str:
    """Write sizes without the ones at the end."""
    kept = max((index + 1 for index, size in enumerate(sizes) if size != 1), default=1)
    return "x".join(map(str, sizes[:kept]))


def summarise_events(events: Iterable[DeviceEvent], calls: int) -> DeviceProfile:
    """Average the events of ``calls`` calls by kernel name, the most expensive first."""
    found: dict[str, list[DeviceEvent]] = defaultdict(list)
    for event in events:
        found[event.name].append(event)
    kernels = {
        name: KernelTime(len(some) / calls, sum(event.seconds for event in some) / calls, _launches(some, calls))
        for name, some in found.items()
    }
    return DeviceProfile(dict(sorted(kernels.items(), key=lambda item: -item[1].seconds_per_call)))


def _launches(events: Iterable[DeviceEvent], calls: int) -> str | None:
    """Say how a kernel's launches were made: equal text means equal launches, however many there are."""
    counts = Counter(event.launch for event in events if event.launch is not None)
    if not counts:
        return None
    said = [f"{count / calls:g}x {launch}" for launch, count in sorted(counts.items())]
    if len(said) == 1:
        return next(iter(counts))
    if len(said) <= _SHOWN_LAUNCHES:
        return "; ".join(said)
    digest = hashlib.sha256("; ".join(said).encode()).hexdigest()[:8]
    return f"{len(said)} ways, {digest}"
