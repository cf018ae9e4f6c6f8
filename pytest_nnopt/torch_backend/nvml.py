"""Whether a GPU is fit for timing: clocks, throttling and other processes, as NVML reports them.

Needs the package ``nvidia-ml-py``. Without it, or where the driver does not answer, blocks are kept and the report says
that the GPU's state is unknown.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from pytest_nnopt.measurement.family import is_of_this_run
from pytest_nnopt.measurement.machine import ConcernKind, MachineConcern
from pytest_nnopt.torch_backend.nvml_facts import handle_of

CLOCK_TOLERANCE = 0.1
"""A block during which the clock changed by more than this fraction is dropped."""

SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Clocks-event reasons that come from outside the measured work. The power cap is not among them: a demanding model
reaches it by itself, so it belongs to the model's speed on this GPU."""

POWER_CAP = 0x04

IDLE_PERCENT = 1
"""Other processes that keep the multiprocessors busy for no more of the time are idle: drivers tell 1 of those that do
nothing, too."""


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU at one moment. None means that the driver does not tell.

    Attributes:
        clock_mhz: clock of the multiprocessors.
        event_reasons: bits of ``nvmlClocksEventReason*``: what holds the clocks down.
        thermal_nanoseconds: time spent slowed down because of heat since the driver was loaded.
        foreign_processes: processes of others than this run that hold the GPU.
        foreign_percent: how busy these kept its multiprocessors, in per cent of the time since they are watched.
    """

    clock_mhz: int | None = None
    event_reasons: int | None = None
    thermal_nanoseconds: int | None = None
    foreign_processes: int | None = None
    foreign_percent: int | None = None


class GpuWatch:
    """A machine watch for one GPU.

    Args:
        read: returns the GPU's state now.
    """

    def __init__(self, read: Callable[[], GpuState]) -> None:
        self._read = read
        self._before = read()
        self._was_at_power_cap = False

    def before(self) -> None:
        """Note the GPU's state."""
        self._before = self._read()

    def after(self) -> str | None:
        """Return what disturbed the GPU since ``before``."""
        state = self._read()
        self._was_at_power_cap |= bool((state.event_reasons or 0) & POWER_CAP)
        return find_disturbance(self._before, state)

    def concerns(self) -> list[MachineConcern]:
        """Return what speaks against timing on this GPU now, and whether it was at its power limit during blocks."""
        state = self._read()
        if self._was_at_power_cap:
            state = replace(state, event_reasons=(state.event_reasons or 0) | POWER_CAP)
        return find_gpu_concerns(state)

    def facts(self) -> dict[str, int | None]:
        """Return the GPU's state now by name."""
        return asdict(self._read())


class UnknownGpuWatch:
    """A watch for a GPU that cannot be asked; it keeps every block and says that it saw nothing.

    Args:
        reason: why the GPU cannot be asked, and the remedy.
    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def before(self) -> None:
        """Note nothing."""

    def after(self) -> str | None:
        """Return None: an unseen disturbance is no reason."""
        return None

    def concerns(self) -> list[MachineConcern]:
        """Return the one concern that nothing is known."""
        return [MachineConcern(ConcernKind.UNKNOWN, f"the GPU's clocks and throttling are unknown: {self._reason}")]

    def facts(self) -> dict[str, int | None]:
        """Return nothing: the GPU cannot be asked."""
        return {}


def open_gpu_watch(device: torch.device) -> GpuWatch | UnknownGpuWatch:
    """Return the watch of ``device``, one that knows nothing where NVML does not answer."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    if uuid is None:
        return UnknownGpuWatch("this version of torch does not tell which GPU it uses; use torch 2.5 or later")
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return UnknownGpuWatch("the package nvidia-ml-py is missing; install it")
    try:
        nvml.nvmlInit()
        return GpuWatch(NvmlDevice(nvml, uuid).read)
    except nvml.NVMLError as error:
        return UnknownGpuWatch(f"NVML answers '{error}'; check the driver with nvidia-smi")


def gpu_facts(device: torch.device) -> dict[str, int | None]:
    """Return the state of a GPU by name; empty for another device, or where NVML does not answer."""
    return open_gpu_watch(device).facts() if device.type == "cuda" else {}


class NvmlDevice:
    """One GPU behind NVML.

    Args:
        nvml: the ``pynvml`` module, initialised.
        uuid: the GPU's identity as torch tells it, since NVML numbers GPUs regardless of ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, nvml: Any, uuid: object) -> None:
        self._nvml = nvml
        self._handle = handle_of(nvml, uuid)
        self._since_microseconds = time.time_ns() // 1000

    def read(self) -> GpuState:
        """Return the state now; what the driver refuses to tell is None."""
        nvml = self._nvml
        violation = self._ask(lambda: nvml.nvmlDeviceGetViolationStatus(self._handle, nvml.NVML_PERF_POLICY_THERMAL))
        processes = self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        foreign = None if processes is None else find_foreign([process.pid for process in processes])
        return GpuState(
            clock_mhz=self._ask(lambda: nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM)),
            event_reasons=self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)),
            thermal_nanoseconds=None if violation is None else int(violation.violationTime),
            foreign_processes=None if foreign is None else len(foreign),
            foreign_percent=self._read_percent(foreign) if foreign else None,
        )

    def _read_percent(self, pids: Collection[int]) -> int | None:
        """Return how busy processes kept the GPU; None where the driver does not tell of this one, which it knows."""
        nvml = self._nvml
        samples = self._ask(lambda: nvml.nvmlDeviceGetProcessUtilization(self._handle, self._since_microseconds))
        if samples is None or os.getpid() not in {sample.pid for sample in samples}:
            return None
        return sum(max((sample.smUtil for sample in samples if sample.pid == pid), default=0) for pid in pids)

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._nvml.NVMLError:
            return None


def find_foreign(pids: Sequence[int], is_own: Callable[[int], bool] = is_of_this_run) -> list[int] | None:
    """Return which of the GPU's processes are not this run's, whose others wait while this one measures.

    In a container the driver may number processes differently: then a single one is taken for this one, and of several
    nobody can tell, since this run has several. None means that.

    Args:
        pids: process ids as the driver lists them.
        is_own: tells whether a process belongs to this run.
    """
    foreign = [pid for pid in pids if not is_own(pid)]
    if pids and len(foreign) == len(pids):
        return [] if len(pids) == 1 else None
    return foreign


def find_disturbance(before: GpuState, after: GpuState) -> str | None:
    """Return why the work between two states does not count, None where nothing speaks against it."""
    reasons = (before.event_reasons or 0) | (after.event_reasons or 0)
    slowdowns = [text for bit, text in SLOWDOWNS.items() if reasons & bit]
    if slowdowns:
        return f"GPU held back: {slowdowns[0]}"
    if _has_risen(before.thermal_nanoseconds, after.thermal_nanoseconds):
        return "GPU held back: heat"
    if _has_risen(before.foreign_processes, after.foreign_processes):
        return "another process came to the GPU"
    if before.clock_mhz and after.clock_mhz and abs(after.clock_mhz / before.clock_mhz - 1) > CLOCK_TOLERANCE:
        return "GPU clock changed"
    return None


def _has_risen(before: int | None, after: int | None) -> bool:
    """Return whether a counter moved; an unknown counter did not."""
    return before is not None and after is not None and after > before


def find_gpu_concerns(state: GpuState) -> list[MachineConcern]:
    """Return what speaks against timing on a GPU in this state."""
    concerns = []
    reasons = state.event_reasons or 0
    if state.clock_mhz is None and state.event_reasons is None:
        text = "the GPU's clocks and throttling are unknown: the driver does not tell them of it, or of this part of it"
        concerns.append(MachineConcern(ConcernKind.UNKNOWN, text))
    elif state.foreign_processes is None:
        text = "whether others use the GPU is unknown: the driver does not tell, or numbers processes in its own way"
        concerns.append(MachineConcern(ConcernKind.UNKNOWN, text))
    slowdowns = [text for bit, text in SLOWDOWNS.items() if reasons & bit]
    if slowdowns:
        text = f"the GPU is held back by {' and '.join(slowdowns)}; let it cool and check its power supply"
        concerns.append(MachineConcern(ConcernKind.GPU_THERMAL, text))
    if reasons & POWER_CAP:
        text = "the GPU is at its power limit, so clocks follow the load; lock a lower clock with 'nvidia-smi -lgc'"
        concerns.append(MachineConcern(ConcernKind.GPU_FREQUENCY, text))
    if state.foreign_processes:
        concerns.append(_of_others(state.foreign_processes, state.foreign_percent))
    return concerns


def _of_others(processes: int, percent: int | None) -> MachineConcern:
    """Return the concern that others hold the GPU; where the driver does not tell that they are idle, they are not."""
    if percent is not None and percent <= IDLE_PERCENT:
        text = f"other processes hold the GPU, idle: {processes}; should they begin to work, times are not judged"
        return MachineConcern(ConcernKind.GPU_HELD, text)
    busy = "" if percent is None else f", busy for {percent} % of the time"
    text = f"other processes on the GPU: {processes}{busy}; stop them or measure on a GPU of your own"
    return MachineConcern(ConcernKind.GPU_SHARED, text)
