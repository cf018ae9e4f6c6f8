from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.profiler import DeviceType

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.torch_backend import kernels
from pytest_nnopt.torch_backend.kernels import (
    DeviceEvent,
    DeviceProfile,
    profile_kernels,
    select_device_events,
    summarise_events,
)


def recorded(
    name: str, microseconds: float, device: DeviceType = DeviceType.CUDA, **attributes: object
) -> SimpleNamespace:
    time_range = SimpleNamespace(elapsed_us=lambda: microseconds)
    return SimpleNamespace(name=name, time_range=time_range, device_type=device, **attributes)


RECORDED = [
    recorded("cudaLaunchKernel", 4.0, DeviceType.CPU),
    recorded("triton_poi_fused_relu_0", 3.0, is_user_annotation=False),
    recorded("Memcpy DtoD (Device -> Device)", 1.5),
    recorded("## forward ##", 90.0, is_user_annotation=True),
]


def test_device_work_is_told_from_host_calls_and_annotations() -> None:
    events = select_device_events(RECORDED)
    assert [event.name for event in events] == ["triton_poi_fused_relu_0", "Memcpy DtoD (Device -> Device)"]
    assert [event.seconds for event in events] == pytest.approx([3e-6, 1.5e-6])


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
    """A profiler that has seen nothing or what was recorded, once for the whole run."""

    def __init__(self, events: list[SimpleNamespace] | None) -> None:
        self._events = events

    def __enter__(self) -> FakeProfiler:
        return self

    def __exit__(self, *details: object) -> None:
        pass

    def events(self) -> list[SimpleNamespace] | None:
        return self._events


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)


@pytest.mark.usefixtures("without_gpu")
def test_calls_are_profiled_behind_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: FakeProfiler(RECORDED))
    calls: list[None] = []
    profile = profile_kernels(lambda: calls.append(None), torch.device("cuda", 0), calls=5)
    assert len(calls) == kernels.WARMUP_CALLS + 5
    assert profile.launches_per_call == pytest.approx(2 / 5)


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize("events", [None, [], RECORDED[:1]])
def test_no_device_work_is_an_error(monkeypatch: pytest.MonkeyPatch, events: list[SimpleNamespace] | None) -> None:
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: FakeProfiler(events))
    with pytest.raises(MeasurementError, match="saw no work on cuda:0"):
        profile_kernels(lambda: None, torch.device("cuda", 0))


@pytest.mark.gpu
def test_kernels_of_a_real_gpu_are_counted_per_call() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    device = torch.device("cuda", 0)
    x = torch.randn(1024, 1024, device=device)
    profile = profile_kernels(lambda: torch.relu(x).neg(), device)
    assert profile.launches_per_call == 2
    assert 0 < profile.seconds_per_call < 1e-3
