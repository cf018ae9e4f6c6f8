"""Clocks that time calls on a device: the host's counter on a CPU, events of the stream on a GPU."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from pytest_nnopt.errors import MeasurementError

if TYPE_CHECKING:
    from pytest_nnopt.measurement.clock import Clock
    from pytest_nnopt.measurement.engine import Plan

GPU_WARM_CALL_SECONDS = 0.02
"""``Plan.warm_call_seconds`` on a GPU, where what the host takes to get ahead of an idle device comes on top of what is
in the caches: a hundredth of a call of this length."""

ENOUGH_OF_LIMIT = 0.1
"""Standard error of a process's log-ratio that is enough, over the limit."""

CPU_MOST_ERROR, GPU_MOST_ERROR = 0.01, 0.005
"""The largest that is enough under any limit: about what processes differ by. Other questions than that of the limit
are asked of the same blocks."""

CPU_ENOUGH_SECONDS = 1.0
"""``Plan.enough_seconds`` on a CPU, whose state changes from moment to moment."""

SINGLE_CALLS, FEWEST_SINGLE_CALLS, _SINGLE_SECONDS = 21, 3, 1.0
"""Calls whose median is the wall time of one: fewer of long ones, as fit into so many seconds."""

_CALLS_IN_A_ROW, _ROW_SECONDS = 5, 0.02
"""Calls that show who waits for whom, or as many as fit into the time; of long ones a single one. With many more a host
that is far ahead would wait, too: about a thousand launches are queued for a GPU at a time."""

_HOST_SHARE = 0.7
"""Of a row of calls: a host that still launches after so much of the time is not far ahead of its GPU."""

_TIMED = "cpu", "cuda", "meta"

_FALLBACK_CACHE_BYTES = 64 * 2**20


class WallClock:
    """The host's performance counter, for work that is done when the call returns."""

    def now(self) -> float:
        """Return the performance counter in seconds."""
        return time.perf_counter()

    def time_calls(self, call: Callable[[], object], count: int, *, warm_calls: int = 0) -> float:
        """Return the seconds of ``count`` calls together, with a loop cost below 0.1 µs a call."""
        repeats = itertools.repeat(None, count)
        for _ in range(warm_calls):
            call()
        start = time.perf_counter_ns()
        for _ in repeats:
            call()
        return (time.perf_counter_ns() - start) * 1e-9


@dataclass(frozen=True, slots=True)
class CudaTiming:
    """One timing seen from both ends.

    Attributes:
        event_seconds: between two events of the stream: from when the GPU reached the first call to when it finished
            the last, gaps between kernels included.
        host_seconds: from the first call's start on the host, timed or not, until the GPU was done.
        queue_seconds: the part of it after which the host had nothing left to launch.
    """

    event_seconds: float
    host_seconds: float
    queue_seconds: float


class CudaClock:
    """Events around the loop on the current stream of one GPU.

    Args:
        device: the GPU; None is the current one.
        flushes_cache: overwrites a buffer larger than the L2 cache before every call, outside the time, so that each
            call finds a cold cache as it does in a program that does other work in between.
    """

    def __init__(self, device: torch.device | None = None, *, flushes_cache: bool = False) -> None:
        self._device = device or torch.device("cuda", torch.cuda.current_device())
        self._flush_buffer = _make_flush_buffer(self._device) if flushes_cache else None

    def now(self) -> float:
        """Return the host's performance counter in seconds."""
        return time.perf_counter()

    def time_calls(self, call: Callable[[], object], count: int, *, warm_calls: int = 0) -> float:
        """Return ``time_both``'s event seconds, or with a cold cache the sum over the single calls."""
        if self._flush_buffer is not None:
            return self._time_cold_calls(call, count, self._flush_buffer, warm_calls)
        return self.time_both(call, count, warm_calls=warm_calls).event_seconds

    def time_both(self, call: Callable[[], object], count: int, *, warm_calls: int = 0) -> CudaTiming:
        """Run ``call`` on an idle GPU and return the time of ``count`` calls by events and by the host's counter.

        Without an untimed call before them the GPU waits for what the host launches, from kernel to kernel, until the
        host is ahead: hundreds of microseconds, of which chance makes more or less.
        """
        with torch.cuda.device(self._device):
            first, last = _make_event(), _make_event()
            repeats = itertools.repeat(None, count)
            torch.cuda.synchronize(self._device)
            start = time.perf_counter_ns()
            for _ in range(warm_calls):
                call()
            first.record()
            for _ in repeats:
                call()
            last.record()
            queued = time.perf_counter_ns()
            torch.cuda.synchronize(self._device)
            done = time.perf_counter_ns()
        return CudaTiming(
            event_seconds=_seconds_between(first, last),
            host_seconds=(done - start) * 1e-9,
            queue_seconds=(queued - start) * 1e-9,
        )

    def _time_cold_calls(self, call: Callable[[], object], count: int, buffer: torch.Tensor, warm_calls: int) -> float:
        with torch.cuda.device(self._device):
            events = [(_make_event(), _make_event()) for _ in range(count)]
            torch.cuda.synchronize(self._device)
            for _ in range(warm_calls):
                call()
            for first, last in events:
                buffer.zero_()
                first.record()
                call()
                last.record()
            torch.cuda.synchronize(self._device)
        return sum(_seconds_between(first, last) for first, last in events)


def make_clock(device: torch.device, *, has_cold_cache: bool = False) -> Clock:
    """Return the clock that sees all the work of a call on ``device``; a cold cache is a GPU's alone.

    Raises:
        MeasurementError: none does: a call returns before the work is done there.
    """
    if device.type not in _TIMED:
        raise MeasurementError(
            f"times on {device.type!r} are not measured, where a call returns before the device is done; move the case "
            "to a CPU or an NVIDIA GPU by --nnopt-device, or ask for other checks by --nnopt-only=numerics,compile"
        )
    return CudaClock(device, flushes_cache=has_cold_cache) if device.type == "cuda" else WallClock()


def fit_plan(plan: Plan, device: torch.device, *, limit: float = 0.0) -> Plan:
    """Return a plan that fits the clock of ``device``.

    Args:
        plan: what is enough is set here, and on a GPU ``warm_call_seconds``, unless that is 0.
        device: where the calls compute.
        limit: the slowdown to be told from none, as a fraction: no more blocks are measured than that takes, since
            processes differ by more than their blocks know. 0 has all of them measured.
    """
    enough = ENOUGH_OF_LIMIT * limit
    if device.type != "cuda":
        return replace(plan, enough_error=min(enough, CPU_MOST_ERROR), enough_seconds=CPU_ENOUGH_SECONDS)
    return replace(
        plan,
        warm_call_seconds=GPU_WARM_CALL_SECONDS if plan.warm_call_seconds else 0.0,
        enough_error=min(enough, GPU_MOST_ERROR),
    )


def time_single_calls(call: Callable[[], object], device: torch.device, calls: int = SINGLE_CALLS) -> float | None:
    """Return the median wall time of one call on an idle GPU, from its start until the GPU is done; None on a CPU.

    Calls in a row overlap: the host prepares the next while the GPU works on the last. A single one waits for both.
    """
    if device.type != "cuda":
        return None
    clock = CudaClock(device)
    times = [clock.time_both(call, 1).host_seconds]
    wanted = min(calls, max(FEWEST_SINGLE_CALLS, int(_SINGLE_SECONDS / times[0])))
    return statistics.median([*times, *(clock.time_both(call, 1).host_seconds for _ in range(wanted - 1))])


def waits_for_host(call: Callable[[], object], device: torch.device) -> bool:
    """Return whether a GPU, called in a row, mostly waits for what the host launches; False on a CPU."""
    if device.type != "cuda":
        return False
    clock = CudaClock(device)
    call()  # the first may load kernels
    timing = clock.time_both(call, 1)
    calls = min(_CALLS_IN_A_ROW, int(_ROW_SECONDS / timing.host_seconds))
    if calls > 1:
        timing = clock.time_both(call, calls, warm_calls=1)
    return timing.queue_seconds > _HOST_SHARE * timing.host_seconds


def _make_event() -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    return event


def _seconds_between(first: torch.cuda.Event, last: torch.cuda.Event) -> float:
    return float(first.elapsed_time(last)) * 1e-3


def _make_flush_buffer(device: torch.device) -> torch.Tensor:
    """Return a buffer of twice the L2 cache's size."""
    cache_bytes = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or _FALLBACK_CACHE_BYTES
    return torch.empty(2 * cache_bytes, dtype=torch.int8, device=device)
