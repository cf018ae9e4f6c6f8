"""Whether a GPU is fit for timing: clocks, throttling and other processes, as NVML reports them.

Needs the package ``nvidia-ml-py``. Without it, or where the driver does not answer, blocks are kept and the report says
that the GPU's state is unknown.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from pytest_nnopt.measurement.family import has_ended, is_of_this_run
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
"""A process that keeps the multiprocessors busy for no more of a second is idle: drivers tell 1 of one that only waits,
too."""

_SECONDS_TO_TELL = 1.0
"""Drivers sample how busy a process is up to once in so long."""


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU at one moment. None means that the driver does not tell.

    Attributes:
        clock_mhz: clock of the multiprocessors.
        event_reasons: bits of ``nvmlClocksEventReason*``: what holds the clocks down.
        thermal_nanoseconds: time spent slowed down because of heat since the driver was loaded.
        foreign: ids of the processes of others than this run that hold the GPU.
    """

    clock_mhz: int | None = None
    event_reasons: int | None = None
    thermal_nanoseconds: int | None = None
    foreign: frozenset[int] | None = None


class Gpu(Protocol):
    """What is asked of a GPU's driver."""

    def read(self) -> GpuState:
        """Return the state now."""

    def read_busy_percents(self, since_seconds: float) -> Mapping[int, int]:
        """Return how busy each process kept the GPU since a moment of ``time.time``; empty where nobody tells."""


@dataclass(slots=True)
class Neighbours:
    """The processes of others that held the GPU since it is watched, also those that have left.

    Attributes:
        pids: their ids.
        busiest_percent: the most of a second for which one of them kept it busy; None where the driver does not tell.
        has_one_left: whether one is no longer there; what it did last, the driver may have forgotten.
    """

    gpu: Gpu
    now: Callable[[], float] = time.time
    pids: set[int] = field(default_factory=set)
    busiest_percent: int | None = None
    has_one_left: bool = False
    _began: float = field(init=False)
    _asked: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._asked = self.now()

    def see(self, state: GpuState) -> None:
        """Note who holds the GPU, and now and then how busy they are."""
        if state.foreign is None:
            return
        self.pids |= state.foreign
        self.has_one_left |= not self.pids <= state.foreign
        if self.pids and self.now() - self._asked >= _SECONDS_TO_TELL:
            self.ask()

    def ask(self) -> None:
        """Note how busy they were since they were last asked about, or for a second where that is shorter."""
        now = self.now()
        since, self._asked = max(self._began, min(self._asked, now - _SECONDS_TO_TELL)), now
        percents = self.gpu.read_busy_percents(since)
        is_telling = percents.get(os.getpid(), 0) > IDLE_PERCENT and max(percents.values()) <= 100
        if not is_telling:  # this process computes, so a driver that does not see that sees nothing
            return
        self.busiest_percent = max(self.busiest_percent or 0, *(percents.get(pid, 0) for pid in self.pids))


class GpuWatch:
    """A machine watch for one GPU.

    Args:
        gpu: tells the GPU's state.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._neighbours = Neighbours(gpu)
        self._before = self._look()
        self._was_at_power_cap = False

    def before(self) -> None:
        """Note the GPU's state."""
        self._before = self._look()

    def after(self) -> str | None:
        """Return what disturbed the GPU since ``before``."""
        state = self._look()
        self._was_at_power_cap |= bool((state.event_reasons or 0) & POWER_CAP)
        return find_disturbance(self._before, state)

    def concerns(self) -> list[MachineConcern]:
        """Return what speaks against timing on this GPU now, and what did while it was watched."""
        state = self._look()
        if self._was_at_power_cap:
            state = replace(state, event_reasons=(state.event_reasons or 0) | POWER_CAP)
        if self._neighbours.pids:
            self._neighbours.ask()
        return find_gpu_concerns(state, self._neighbours)

    def facts(self) -> dict[str, int | None]:
        """Return the GPU's state now by name."""
        state = self._look()
        return {
            "clock_mhz": state.clock_mhz,
            "event_reasons": state.event_reasons,
            "thermal_nanoseconds": state.thermal_nanoseconds,
            "foreign_processes": None if state.foreign is None else len(state.foreign),
        }

    def _look(self) -> GpuState:
        state = self._gpu.read()
        self._neighbours.see(state)
        return state


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
        return GpuWatch(NvmlDevice(nvml, uuid))
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

    def read(self) -> GpuState:
        """Return the state now; what the driver refuses to tell is None."""
        nvml = self._nvml
        violation = self._ask(lambda: nvml.nvmlDeviceGetViolationStatus(self._handle, nvml.NVML_PERF_POLICY_THERMAL))
        processes = self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(self._handle))
        return GpuState(
            clock_mhz=self._ask(lambda: nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM)),
            event_reasons=self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)),
            thermal_nanoseconds=None if violation is None else int(violation.violationTime),
            foreign=None if processes is None else find_foreign([process.pid for process in processes]),
        )

    def read_busy_percents(self, since_seconds: float) -> dict[int, int]:
        """Return how busy each process kept the GPU, its busiest sample; empty where the driver refuses to tell."""
        since = int(since_seconds * 1e6)
        percents: dict[int, int] = {}
        for sample in self._ask(lambda: self._nvml.nvmlDeviceGetProcessUtilization(self._handle, since)) or ():
            percents[sample.pid] = max(percents.get(sample.pid, 0), sample.smUtil)
        return percents

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._nvml.NVMLError:
            return None


def find_foreign(
    pids: Sequence[int],
    *,
    is_own: Callable[[int], bool] = is_of_this_run,
    has_left: Callable[[int], bool] = has_ended,
) -> frozenset[int] | None:
    """Return which of the GPU's processes are not this run's, whose others wait while this one measures.

    In a container the driver may number processes differently: then a single one is taken for this one, and of several
    nobody can tell, since this run has several. None means that.

    Args:
        pids: process ids as the driver lists them.
        is_own: tells whether a process belongs to this run.
        has_left: tells whether a process is ending; the driver lists it until all that it held is freed.
    """
    others = [pid for pid in pids if not is_own(pid)]
    if pids and len(others) == len(pids):
        return frozenset() if len(pids) == 1 else None
    return frozenset(pid for pid in others if not has_left(pid))


def find_disturbance(before: GpuState, after: GpuState) -> str | None:
    """Return why the work between two states does not count, None where nothing speaks against it."""
    reasons = (before.event_reasons or 0) | (after.event_reasons or 0)
    slowdowns = [text for bit, text in SLOWDOWNS.items() if reasons & bit]
    if slowdowns:
        return f"GPU held back: {slowdowns[0]}"
    if _has_risen(before.thermal_nanoseconds, after.thermal_nanoseconds):
        return "GPU held back: heat"
    if before.foreign is not None and after.foreign is not None and after.foreign - before.foreign:
        return "another process came to the GPU"
    if before.clock_mhz and after.clock_mhz and abs(after.clock_mhz / before.clock_mhz - 1) > CLOCK_TOLERANCE:
        return "GPU clock changed"
    return None


def _has_risen(before: int | None, after: int | None) -> bool:
    """Return whether a counter moved; an unknown counter did not."""
    return before is not None and after is not None and after > before


def find_gpu_concerns(state: GpuState, neighbours: Neighbours) -> list[MachineConcern]:
    """Return what speaks against timing on a GPU in this state, on which there were such neighbours."""
    concerns = []
    reasons = state.event_reasons or 0
    if state.clock_mhz is None and state.event_reasons is None:
        text = "the GPU's clocks and throttling are unknown: the driver does not tell them of it, or of this part of it"
        concerns.append(MachineConcern(ConcernKind.UNKNOWN, text))
    elif state.foreign is None:
        text = "whether others use the GPU is unknown: the driver does not tell, or numbers processes in its own way"
        concerns.append(MachineConcern(ConcernKind.UNKNOWN, text))
    slowdowns = [text for bit, text in SLOWDOWNS.items() if reasons & bit]
    if slowdowns:
        text = f"the GPU is held back by {' and '.join(slowdowns)}; let it cool and check its power supply"
        concerns.append(MachineConcern(ConcernKind.GPU_THERMAL, text))
    if reasons & POWER_CAP:
        text = "the GPU is at its power limit, so clocks follow the load; lock a lower clock with 'nvidia-smi -lgc'"
        concerns.append(MachineConcern(ConcernKind.GPU_FREQUENCY, text))
    if neighbours.pids:
        concerns.append(_judge_neighbours(neighbours))
    return concerns


def _judge_neighbours(neighbours: Neighbours) -> MachineConcern:
    """Return the concern about processes of others; where nobody tells that they were idle, they were not."""
    count, percent = len(neighbours.pids), neighbours.busiest_percent
    if percent is not None and percent <= IDLE_PERCENT and not neighbours.has_one_left:
        text = f"other processes hold the GPU but do not use it: {count}; times are judged unless they begin to"
        return MachineConcern(ConcernKind.GPU_HELD, text)
    busy = f", busy for up to {percent} % of a second" if (percent or 0) > IDLE_PERCENT else ""
    text = f"other processes on the GPU: {count}{busy}; stop them or measure on a GPU of your own"
    return MachineConcern(ConcernKind.GPU_SHARED, text)
