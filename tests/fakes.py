"""Stand-ins for time, work and machine, so that measuring is tested without waiting and without a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING

from pytest_nnopt.observers import Observer

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, Evidence
    from pytest_nnopt.results import CaseResult
    from pytest_nnopt.torch_backend.nvml import GpuState


class FakeClock:
    """A clock that stands still unless fake work moves it on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.timings: list[tuple[Callable[[], object], int]] = []
        self.warm_calls: list[int] = []

    def now(self) -> float:
        return self.seconds

    def time_calls(self, call: Callable[[], object], count: int, *, warm_calls: int = 0) -> float:
        self.timings.append((call, count))
        self.warm_calls.append(warm_calls)
        for _ in itertools.repeat(None, warm_calls):
            call()
        start = self.seconds
        for _ in itertools.repeat(None, count):
            call()
        return self.seconds - start


class FakeWork:
    """A call that costs ``seconds``, a number or a function of the time at which it starts and the calls before it."""

    def __init__(self, clock: FakeClock, seconds: float | Callable[[float, int], float]) -> None:
        self._clock = clock
        self._seconds = seconds
        self.calls = 0

    def __call__(self) -> None:
        cost = self._seconds if isinstance(self._seconds, float) else self._seconds(self._clock.seconds, self.calls)
        self.calls += 1
        self._clock.seconds += cost


class FakeMachine:
    """A machine watch that gives the reasons handed over, one a block, and None from then on."""

    def __init__(self, reasons: Iterable[str | None] = ()) -> None:
        self._reasons = iter(reasons)
        self.is_inside_block = False

    def before(self) -> None:
        assert not self.is_inside_block
        self.is_inside_block = True

    def after(self) -> str | None:
        assert self.is_inside_block
        self.is_inside_block = False
        return next(self._reasons, None)


class FakeGpu:
    """A GPU that goes through states, staying in the last, on which processes are busy for some per cent of the time.

    ``asked`` holds the moments since when that was asked.
    """

    def __init__(self, *states: GpuState, percents: Mapping[int, int] | None = None) -> None:
        self.states = list(states)
        self.percents = percents or {}
        self.asked: list[float] = []

    def read(self) -> GpuState:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def read_busy_percents(self, since_seconds: float) -> Mapping[int, int]:
        self.asked.append(since_seconds)
        return self.percents


class FakeNvmlError(Exception):
    """What the fake driver raises, in place of ``pynvml.NVMLError``."""


class FakeNvml:
    """The part of ``pynvml`` that is used, for one GPU; names in ``refused`` raise as an old driver does."""

    NVMLError = FakeNvmlError
    NVML_PERF_POLICY_THERMAL = 1
    NVML_CLOCK_SM = 1

    def __init__(
        self,
        *,
        uuid: str = "GPU-0",
        pids: Iterable[int] = (),
        used: Iterable[tuple[int, int]] = (),
        refused: Iterable[str] = (),
    ) -> None:
        self.uuid = uuid
        self.pids = tuple(pids)
        self.used = tuple(used)
        self.refused = frozenset(refused)
        self.is_initialised = False
        self.since_microseconds = 0

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", None)
        self.is_initialised = True

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != self.uuid:
            raise FakeNvmlError("Not Found")
        return uuid

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> object:
        return self._answer("nvmlDeviceGetClockInfo", 1980)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> object:
        return self._answer("nvmlDeviceGetCurrentClocksThrottleReasons", 0)

    def nvmlDeviceGetViolationStatus(self, handle: str, policy: int) -> object:
        return self._answer("nvmlDeviceGetViolationStatus", SimpleNamespace(violationTime=7))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> object:
        return self._answer("nvmlDeviceGetComputeRunningProcesses", [SimpleNamespace(pid=pid) for pid in self.pids])

    def nvmlDeviceGetProcessUtilization(self, handle: str, since_microseconds: int) -> object:
        self.since_microseconds = since_microseconds
        samples = [SimpleNamespace(pid=pid, smUtil=percent) for pid, percent in self.used]
        return self._answer("nvmlDeviceGetProcessUtilization", samples)

    def _answer(self, name: str, value: object) -> object:
        if name in self.refused:
            raise FakeNvmlError("Not Supported")
        return value


class RecordingObserver(Observer):
    """Keeps what it is told as (kind, case, facts)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, object]] = []

    def on_compile(self, case_id: str, compilation: CompileRecord) -> None:
        self.told.append(("compile", case_id, compilation))

    def on_measure(self, case_id: str, evidence: Evidence) -> None:
        self.told.append(("measure", case_id, evidence))

    def on_verdict(self, result: CaseResult) -> None:
        self.told.append(("verdict", result.id, result))
