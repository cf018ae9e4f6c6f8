from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.torch_backend import kernels
from pytest_nnopt.torch_backend.kernels import (
    DeviceEvent,
    DeviceProfile,
    profile_kernels,
    select_device_events,
    summarise_events,
)


def traced(name: str, microseconds: float, category: str, **arguments: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "ts": 1.0, "dur": microseconds, "args": arguments}


LAUNCH = {"grid": [64, 2, 1], "block": [128, 1, 1], "registers per thread": 32, "shared memory": 16}
TRACE = [
    {"ph": "M", "name": "process_name", "args": {"name": "python"}},
    traced("cudaLaunchKernel", 4.0, "cuda_runtime"),
    traced("triton_poi_fused_relu_0", 3.0, "kernel", **LAUNCH),
    traced("Memcpy DtoD (Device -> Device)", 1.5, "gpu_memcpy", bytes=64),
    traced("## forward ##", 90.0, "gpu_user_annotation"),
]


def test_device_work_is_told_from_host_calls_and_annotations() -> None:
    events = select_device_events(TRACE)
    assert [event.name for event in events] == ["triton_poi_fused_relu_0", "Memcpy DtoD (Device -> Device)"]
    assert [event.seconds for event in events] == pytest.approx([3e-6, 1.5e-6])


def test_a_kernel_says_how_it_was_launched() -> None:
    kernel, copy = select_device_events(TRACE)
    assert kernel.launch == "grid 64x2, block 128, 32 registers, 16 B shared"
    assert copy.launch is None


def test_a_grid_of_one_block_is_said() -> None:
    (event,) = select_device_events([traced("tiny", 1.0, "kernel", grid=[1, 1, 1], block=[1, 1, 1])])
    assert event.launch == "grid 1, block 1, 0 registers, 0 B shared"


@pytest.mark.parametrize(
    ("launches", "said"),
    [
        ([None, None], None),
        (["a", "a"], "a"),
        (["b", "a", "a", "a"], "1.5x a; 0.5x b"),
    ],
)
def test_the_launches_of_a_kernel_are_said_in_a_line(launches: list[str | None], said: str | None) -> None:
    profile = summarise_events([DeviceEvent("gemm", 1e-6, launch) for launch in launches], calls=2)
    assert profile.kernels["gemm"].launch == said


def test_many_launches_are_told_apart_by_a_digest() -> None:
    def said(*launches: str) -> str | None:
        return summarise_events([DeviceEvent("gemm", 1e-6, one) for one in launches], 1).kernels["gemm"].launch

    assert (said("a", "b", "c") or "").startswith("3 ways, ")
    assert said("a", "b", "c") == said("c", "b", "a") != said("a", "b", "d")


def test_events_are_averaged_by_kernel_over_the_calls() -> None:
    events = [
        DeviceEvent("gemm", 2e-6),
        DeviceEvent("relu", 1e-6),
        DeviceEvent("gemm", 4e-6),
        DeviceEvent("gemm", 3e-6),
    ]
    profile = summarise_events(events, calls=2)
    gemm, relu = profile.kernels["gemm"], profile.kernels["relu"]
    assert (gemm.count_per_call, relu.count_per_call) == (1.5, 0.5)
    assert (gemm.seconds_per_call, relu.seconds_per_call) == pytest.approx((4.5e-6, 0.5e-6))
    assert list(profile.kernels) == ["gemm", "relu"]
    assert profile.launches_per_call == 2
    assert profile.seconds_per_call == pytest.approx(5e-6)


def test_a_profile_without_kernels_costs_nothing() -> None:
    assert DeviceProfile({}).seconds_per_call == 0
    assert DeviceProfile({}).launches_per_call == 0


class FakeProfiler:
    """A profiler that writes what was recorded, once for the whole run."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self._events = events

    def __enter__(self) -> FakeProfiler:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def export_chrome_trace(self, path: str) -> None:
        Path(path).write_text(json.dumps({"traceEvents": self._events}), encoding="utf-8")


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)


def pass_seconds(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let each call seem to take so long."""
    clock = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: seconds * next(clock))


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize(("seconds", "calls"), [(10.0, 1), (1.0, 2), (0.1, 20), (0.002, 25), (1e-5, 50)])
def test_every_copy_is_profiled_behind_its_warm_up(monkeypatch: pytest.MonkeyPatch, seconds: float, calls: int) -> None:
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: FakeProfiler(TRACE))
    pass_seconds(monkeypatch, seconds)
    called: list[str] = []
    profile = profile_kernels([lambda: called.append("a"), lambda: called.append("b")], torch.device("cuda", 0))
    warm = kernels.WARMUP_CALLS + 1
    assert called == ["a"] * warm + ["b"] * warm + ["a"] * calls + ["b"] * calls
    assert profile.launches_per_call == pytest.approx(2 / (2 * calls))


class SlowerElsewhere:
    """A team of which another rank wants more calls."""

    size = 2

    def largest(self, value: float) -> float:
        return value + 40

    def gather(self, value: Any) -> list[Any]:
        return [value, value]

    def meet(self) -> None:
        pass


@pytest.mark.usefixtures("without_gpu")
def test_ranks_make_as_many_calls_as_the_one_that_wants_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: FakeProfiler(TRACE))
    pass_seconds(monkeypatch, 0.002)
    called: list[None] = []
    profile_kernels([lambda: called.append(None)], torch.device("cuda", 0), team=SlowerElsewhere())
    assert len(called) == kernels.WARMUP_CALLS + 1 + 50 + 40


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("text", ['{"traceEvents": [{"args": {"blocks per SM": 7,757}}]}', "{}"])
def test_a_trace_that_cannot_be_read_names_the_remedy(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    profiler = FakeProfiler([])
    monkeypatch.setattr(profiler, "export_chrome_trace", lambda path: Path(path).write_text(text, encoding="utf-8"))
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: profiler)
    with pytest.raises(MeasurementError, match="LC_NUMERIC=C"):
        profile_kernels([lambda: None], torch.device("cuda", 0))


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("events", [[], TRACE[:2]])
def test_no_device_work_is_an_error(monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]) -> None:
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: FakeProfiler(events))
    with pytest.raises(MeasurementError, match="saw no work on cuda:0"):
        profile_kernels([lambda: None], torch.device("cuda", 0))


@pytest.mark.gpu
def test_kernels_of_a_real_gpu_are_counted_per_call() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    device = torch.device("cuda", 0)
    x = torch.randn(1024, 1024, device=device)
    profile = profile_kernels([lambda: torch.relu(x).neg(), lambda: torch.relu(x).neg()], device)
    assert profile.launches_per_call == 2
    assert 0 < profile.seconds_per_call < 1e-3
    assert all((kernel.launch or "").startswith("grid ") for kernel in profile.kernels.values())
