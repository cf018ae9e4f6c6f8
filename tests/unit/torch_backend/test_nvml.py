from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from pytest_nnopt.measurement.machine import ConcernKind
from pytest_nnopt.torch_backend.nvml import (
    GpuState,
    GpuWatch,
    NvmlDevice,
    UnknownGpuWatch,
    find_disturbance,
    find_foreign,
    find_gpu_concerns,
    open_gpu_watch,
)
from tests.fakes import FakeNvml

GPU = torch.device("cuda", 0)
QUIET = GpuState(clock_mhz=1980, event_reasons=0, thermal_nanoseconds=7, foreign_processes=0)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (QUIET, None),
        (GpuState(), None),
        (GpuState(clock_mhz=1850), None),
        (GpuState(clock_mhz=1500), "GPU clock changed"),
        (GpuState(event_reasons=0x04), None),
        (GpuState(event_reasons=0x48), "GPU held back: hardware slowdown"),
        (GpuState(event_reasons=0x20), "GPU held back: software thermal slowdown"),
        (GpuState(thermal_nanoseconds=900), "GPU held back: heat"),
        (GpuState(foreign_processes=1), "another process came to the GPU"),
    ],
)
def test_disturbances_of_a_block(after: GpuState, reason: str | None) -> None:
    assert find_disturbance(QUIET, after) == reason


def test_throttling_before_the_block_disturbs_it_too() -> None:
    assert find_disturbance(GpuState(event_reasons=0x80), QUIET) == "GPU held back: power brake"


def test_watch_compares_the_states_around_a_block() -> None:
    states = iter([QUIET, GpuState(clock_mhz=1000), QUIET, QUIET])
    watch = GpuWatch(lambda: next(states))
    watch.before()
    assert watch.after() == "GPU clock changed"
    assert watch.concerns() == []


def test_concerns_name_the_thing_and_the_remedy() -> None:
    concerns = find_gpu_concerns(GpuState(event_reasons=0x44, foreign_processes=2))
    assert {concern.kind: concern.text for concern in concerns} == {
        ConcernKind.GPU_THERMAL: "the GPU is held back by hardware thermal slowdown; "
        "let it cool and check its power supply",
        ConcernKind.GPU_FREQUENCY: "the GPU is at its power limit, so clocks follow the load; "
        "lock a lower clock with 'nvidia-smi -lgc'",
        ConcernKind.GPU_SHARED: "other processes on the GPU: 2; stop them or measure on a GPU of your own",
    }


@pytest.mark.parametrize(
    ("percent", "kind", "words"),
    [
        (0, ConcernKind.GPU_HELD, "other processes hold the GPU, idle: 2; "),
        (1, ConcernKind.GPU_HELD, "other processes hold the GPU, idle: 2; "),
        (2, ConcernKind.GPU_SHARED, "other processes on the GPU: 2, busy for 2 % of the time; "),
        (None, ConcernKind.GPU_SHARED, "other processes on the GPU: 2; "),
    ],
)
def test_processes_that_leave_the_gpu_alone_are_told_from_those_that_use_it(
    percent: int | None, kind: ConcernKind, words: str
) -> None:
    (concern,) = find_gpu_concerns(GpuState(clock_mhz=1980, foreign_processes=2, foreign_percent=percent))
    assert concern.kind is kind
    assert concern.text.startswith(words)


def test_a_state_without_answers_is_unknown() -> None:
    (concern,) = find_gpu_concerns(GpuState())
    assert concern.kind is ConcernKind.UNKNOWN
    (concern,) = find_gpu_concerns(GpuState(event_reasons=0))
    assert concern.text.startswith("whether others use the GPU is unknown: ")
    assert find_gpu_concerns(GpuState(event_reasons=0, foreign_processes=0)) == []
    assert find_gpu_concerns(GpuState(clock_mhz=1980, foreign_processes=0)) == []


def test_a_power_limit_during_a_block_is_a_concern_also_once_the_gpu_is_idle() -> None:
    states = iter([QUIET, QUIET, GpuState(clock_mhz=1980, event_reasons=0x04), QUIET])
    watch = GpuWatch(lambda: next(states))
    watch.before()
    assert watch.after() is None
    assert [concern.kind for concern in watch.concerns()] == [ConcernKind.GPU_FREQUENCY]


@pytest.mark.parametrize(
    ("pids", "foreign"),
    [([], []), ([5], []), ([5, 6, 7], [6, 7]), ([4, 5], []), ([6], []), ([6, 7], None), ([6, 7, 8], None)],
)
def test_processes_of_others_are_foreign_as_far_as_any_can_be_told(pids: list[int], foreign: list[int] | None) -> None:
    assert find_foreign(pids, is_own={5, 4}.__contains__) == foreign


def test_device_reads_what_the_driver_tells() -> None:
    nvml = FakeNvml(pids=[os.getpid(), 1])
    assert NvmlDevice(nvml, "GPU-0").read() == GpuState(
        clock_mhz=1980, event_reasons=0, thermal_nanoseconds=7, foreign_processes=1
    )


@pytest.mark.parametrize(
    ("samples", "percent"),
    [
        ([("own", 90), (1, 3), (1, 7), (2, 20)], 7),
        ([("own", 90)], 0),
        ([(1, 0)], None),
        ([], None),
    ],
    ids=["the busiest sample", "no sample is no work", "not even this process is told of", "nothing is told"],
)
def test_how_busy_others_kept_the_gpu_is_read_where_the_driver_tells(
    samples: list[tuple[int | str, int]], percent: int | None
) -> None:
    used = [(os.getpid() if pid == "own" else int(pid), share) for pid, share in samples]
    state = NvmlDevice(FakeNvml(pids=[os.getpid(), 1], used=used), "GPU-0").read()
    assert (state.foreign_processes, state.foreign_percent) == (1, percent)


def test_device_leaves_open_what_the_driver_refuses() -> None:
    nvml = FakeNvml(refused=["nvmlDeviceGetViolationStatus", "nvmlDeviceGetComputeRunningProcesses"])
    assert NvmlDevice(nvml, "GPU-0").read() == GpuState(clock_mhz=1980, event_reasons=0)
    nvml = FakeNvml(pids=[os.getpid(), 1], refused=["nvmlDeviceGetProcessUtilization"])
    assert NvmlDevice(nvml, "GPU-0").read().foreign_percent is None


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """One GPU known to torch by its UUID, behind a driver that answers."""
    nvml = FakeNvml()
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0"))
    monkeypatch.setattr(importlib, "import_module", lambda name: nvml)
    return nvml


def unknown_text(watch: GpuWatch | UnknownGpuWatch) -> str:
    assert isinstance(watch, UnknownGpuWatch)
    watch.before()
    assert watch.after() is None
    (concern,) = watch.concerns()
    assert concern.kind is ConcernKind.UNKNOWN
    return concern.text


def test_watch_opens_the_gpu_that_torch_uses(nvml: FakeNvml) -> None:
    watch = open_gpu_watch(GPU)
    assert isinstance(watch, GpuWatch)
    assert nvml.is_initialised
    assert watch.concerns() == []


def test_unknown_without_a_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
    assert "use torch 2.5 or later" in unknown_text(open_gpu_watch(GPU))


@pytest.mark.usefixtures("nvml")
def test_unknown_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    assert "nvidia-ml-py is missing; install it" in unknown_text(open_gpu_watch(GPU))


def test_unknown_when_the_driver_does_not_answer(nvml: FakeNvml) -> None:
    nvml.refused = frozenset({"nvmlInit"})
    assert "NVML answers 'Not Supported'" in unknown_text(open_gpu_watch(GPU))


def test_unknown_when_the_driver_does_not_know_the_gpu(nvml: FakeNvml) -> None:
    nvml.uuid = "GPU-1"
    assert "NVML answers 'Not Found'" in unknown_text(open_gpu_watch(GPU))


@pytest.mark.gpu
def test_a_real_gpu_is_watched_or_said_to_be_unknown() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    watch = open_gpu_watch(GPU)
    watch.before()
    assert watch.after() is None or isinstance(watch, GpuWatch)
    assert all(concern.text for concern in watch.concerns())


NEIGHBOUR = """
import sys, time, torch
x = torch.ones(4096, 4096, device="cuda")
print(float(x.sum()), flush=True)
while True:
    if sys.argv[1] == "busy":
        (x @ x).sum().item()
    else:
        time.sleep(0.1)
"""


@pytest.mark.gpu
@pytest.mark.parametrize(("does", "kind"), [("idle", ConcernKind.GPU_HELD), ("busy", ConcernKind.GPU_SHARED)])
def test_a_neighbour_is_a_concern_by_what_it_does(does: str, kind: ConcernKind) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    command = [sys.executable, "-c", NEIGHBOUR, does]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as neighbour:
        try:
            assert neighbour.stdout is not None
            assert neighbour.stdout.readline()
            x = torch.ones(4096, 4096, device=GPU)
            watch = open_gpu_watch(GPU)
            until = time.monotonic() + 2
            while time.monotonic() < until:
                (x @ x).sum().item()
            concerns = {concern.kind for concern in watch.concerns()}
        finally:
            neighbour.kill()
    if ConcernKind.UNKNOWN in concerns:
        pytest.skip("the driver does not tell which processes use this GPU")
    assert concerns & {ConcernKind.GPU_HELD, ConcernKind.GPU_SHARED} == {kind}
