from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.torch_backend import clock
from pytest_nnopt.torch_backend.clock import (
    CudaClock,
    WallClock,
    fit_plan,
    make_clock,
    time_single_calls,
    waits_for_host,
)


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return torch.device("cuda", 0)


def test_wall_clock_makes_the_calls_asked_for() -> None:
    calls: list[None] = []
    seconds = WallClock().time_calls(lambda: calls.append(None), 7)
    assert len(calls) == 7
    assert seconds > 0


def test_wall_clock_contains_the_calls_time() -> None:
    assert WallClock().time_calls(lambda: time.sleep(0.002), 2) >= 0.004


def test_wall_clock_makes_warm_calls_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(time, "perf_counter_ns", lambda: len(calls) * 10**9)
    assert WallClock().time_calls(lambda: calls.append(None), 2, warm_calls=1) == 2.0
    assert len(calls) == 3


def test_wall_clock_goes_forward() -> None:
    timer = WallClock()
    assert timer.now() <= timer.now()


def test_cpu_gets_the_wall_clock() -> None:
    assert isinstance(make_clock(torch.device("cpu")), WallClock)
    assert isinstance(make_clock(torch.device("cpu"), has_cold_cache=True), WallClock)
    assert time_single_calls(lambda: None, torch.device("cpu")) is None


def test_longer_calls_are_warmed_on_a_gpu_for_the_host_must_get_ahead() -> None:
    plan = Plan(block_seconds=0.004)
    assert fit_plan(plan, torch.device("cpu")) == replace(plan, enough_seconds=1.0)
    assert fit_plan(plan, torch.device("cuda", 0)) == Plan(block_seconds=0.004, warm_call_seconds=0.02)
    assert fit_plan(Plan(warm_call_seconds=0.0), torch.device("cuda", 0)).warm_call_seconds == 0


@pytest.mark.parametrize(
    ("device", "limit", "error"),
    [("cpu", 0.02, 0.002), ("cpu", 0.5, 0.01), ("cpu", 0.0, 0.0), ("cuda", 0.02, 0.002), ("cuda", 0.5, 0.005)],
)
def test_no_more_is_measured_than_the_limit_asks_for(device: str, limit: float, error: float) -> None:
    plan = fit_plan(Plan(), torch.device(device), limit=limit)
    assert plan.enough_error == pytest.approx(error)
    assert plan.enough_seconds == (1.0 if device == "cpu" else 0.0)


class FakeCuda:
    """A GPU that runs what is queued when it is waited for: every call takes it 2 ms from when the queue starts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.milliseconds = 0.0
        self.flushes = 0
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: FakeEvent(self))
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
        monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
        monkeypatch.setattr(clock, "_make_flush_buffer", lambda device: self)

    def zero_(self) -> None:
        self.flushes += 1
        self.milliseconds += 100.0

    def call(self) -> None:
        self.milliseconds += 2.0


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.milliseconds = math.nan

    def record(self) -> None:
        self.milliseconds = self._cuda.milliseconds

    def elapsed_time(self, end: FakeEvent) -> float:
        return end.milliseconds - self.milliseconds


def test_cuda_clock_gives_the_time_between_events_and_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    timer = CudaClock()
    assert timer.time_calls(cuda.call, 5) == pytest.approx(0.010)
    timing = timer.time_both(cuda.call, 3)
    assert timing.event_seconds == pytest.approx(0.006)
    assert timing.host_seconds > 0
    assert timer.now() <= timer.now()


def test_warm_calls_are_made_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    assert CudaClock().time_calls(cuda.call, 5, warm_calls=2) == pytest.approx(0.010)
    assert cuda.milliseconds == pytest.approx(7 * 2.0)
    assert CudaClock(flushes_cache=True).time_calls(cuda.call, 5, warm_calls=2) == pytest.approx(0.010)
    assert cuda.milliseconds == pytest.approx(14 * 2.0 + 5 * 100.0)


def test_flushing_the_cache_is_not_in_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    assert CudaClock(flushes_cache=True).time_calls(cuda.call, 5) == pytest.approx(0.010)
    assert cuda.flushes == 5


@pytest.mark.parametrize(("cache_bytes", "buffer_bytes"), [(1000, 2000), (0, 128 * 2**20)])
def test_flush_buffer_is_larger_than_the_cache(
    monkeypatch: pytest.MonkeyPatch, cache_bytes: int, buffer_bytes: int
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=cache_bytes))
    assert clock._make_flush_buffer(torch.device("cpu")).nbytes == buffer_bytes


@pytest.mark.parametrize(
    ("launching", "computing", "waits"), [(40e-6, 20e-6, True), (40e-6, 400e-6, False), (1e-3, 0.1, False)]
)
def test_a_gpu_waits_for_a_host_that_takes_longer_to_launch_than_it_to_compute(
    monkeypatch: pytest.MonkeyPatch, launching: float, computing: float, waits: bool
) -> None:
    FakeCuda(monkeypatch)
    host, device, calls = 0.0, 0.0, 0

    def call() -> None:
        nonlocal host, device, calls
        calls += 1
        host += launching + (0.05 if calls == 1 else 0.0)  # the first loads kernels
        device = max(host, device) + computing

    def synchronize(_device: object) -> None:
        nonlocal host
        host = max(host, device)

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: round(host * 1e9))
    assert waits_for_host(call, torch.device("cuda", 0)) == waits
    assert not waits_for_host(call, torch.device("cpu"))


def test_a_gpu_gets_the_clock_of_its_events() -> None:
    assert isinstance(make_clock(torch.device("cuda", 0)), CudaClock)


@pytest.mark.gpu
@pytest.mark.parametrize("is_cold", [False, True])
def test_a_gpus_clock_has_a_buffer_to_overwrite_the_cache_where_that_is_asked(gpu: torch.device, is_cold: bool) -> None:
    clock = make_clock(gpu, has_cold_cache=is_cold)
    assert isinstance(clock, CudaClock)
    assert (clock._flush_buffer is not None) == is_cold


@pytest.mark.gpu
def test_cuda_clock_waits_for_the_queued_work(gpu: torch.device) -> None:
    matrix = torch.randn(4096, 4096, device=gpu)
    timer = make_clock(gpu)
    assert isinstance(timer, CudaClock)
    timer.time_calls(lambda: matrix @ matrix, 2)
    timing = timer.time_both(lambda: matrix @ matrix, 10)
    # 10 products of 137 GFLOP; no GPU does 2 PFLOP/s in single precision
    assert timing.event_seconds > 10 * 2 * 4096**3 / 2e15
    assert timing.host_seconds >= timing.event_seconds


@pytest.mark.gpu
def test_a_gpu_waits_for_small_work_and_not_for_large(gpu: torch.device) -> None:
    small, large = (torch.randn(width, width, device=gpu) for width in (16, 8192))
    assert waits_for_host(lambda: small @ small, gpu)
    assert not waits_for_host(lambda: large @ large, gpu)


@pytest.mark.gpu
def test_cuda_clock_makes_each_call_with_a_cold_cache(gpu: torch.device) -> None:
    calls: list[None] = []
    seconds = CudaClock(gpu, flushes_cache=True).time_calls(lambda: calls.append(None), 5)
    assert len(calls) == 5
    assert seconds >= 0


@pytest.mark.gpu
def test_a_single_call_takes_longer_by_the_hosts_clock_than_its_work(gpu: torch.device) -> None:
    matrix = torch.randn(2048, 2048, device=gpu)
    seconds = time_single_calls(lambda: matrix @ matrix, gpu)
    assert seconds is not None
    assert seconds > 2 * 2048**3 / 2e15


def test_a_device_that_nobody_waits_for_is_not_timed() -> None:
    with pytest.raises(MeasurementError, match=r"times on 'mps' are not measured, .*; move the case to a CPU or an"):
        make_clock(torch.device("mps"))
