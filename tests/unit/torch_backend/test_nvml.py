from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pytest_nnopt.measurement.machine import ConcernKind
from pytest_nnopt.torch_backend.nvml import (
    GpuState,
    GpuWatch,
    Neighbours,
    NvmlDevice,
    UnknownGpuWatch,
    find_disturbance,
    find_foreign,
    find_gpu_concerns,
    open_gpu_watch,
)
from tests.fakes import FakeClock, FakeGpu, FakeNvml

GPU = torch.device("cuda", 0)
OWN = os.getpid()
QUIET = GpuState(clock_mhz=1980, event_reasons=0, thermal_nanoseconds=7, foreign=frozenset())
SHARED = replace(QUIET, foreign=frozenset({8}))


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
        (SHARED, "another process came to the GPU"),
    ],
)
def test_disturbances_of_a_block(after: GpuState, reason: str | None) -> None:
    assert find_disturbance(QUIET, after) == reason


def test_one_process_may_take_the_place_of_another() -> None:
    assert find_disturbance(SHARED, QUIET) is None
    assert find_disturbance(SHARED, replace(QUIET, foreign=frozenset({9}))) == "another process came to the GPU"


def test_throttling_before_the_block_disturbs_it_too() -> None:
    assert find_disturbance(GpuState(event_reasons=0x80), QUIET) == "GPU held back: power brake"


def test_watch_compares_the_states_around_a_block() -> None:
    watch = GpuWatch(FakeGpu(QUIET, QUIET, GpuState(clock_mhz=1000), QUIET))
    watch.before()
    assert watch.after() == "GPU clock changed"
    assert watch.concerns() == []


def test_concerns_name_the_thing_and_the_remedy() -> None:
    concerns = find_gpu_concerns(replace(QUIET, event_reasons=0x44), make_neighbours({8, 9}, None))
    assert {concern.kind: concern.text for concern in concerns} == {
        ConcernKind.GPU_THERMAL: "the GPU is held back by hardware thermal slowdown; "
        "let it cool and check its power supply",
        ConcernKind.GPU_FREQUENCY: "the GPU is at its power limit, so clocks follow the load; "
        "lock a lower clock with 'nvidia-smi -lgc'",
        ConcernKind.GPU_SHARED: "other processes on the GPU: 2; stop them or measure on a GPU of your own",
    }


def make_neighbours(pids: set[int], percent: int | None) -> Neighbours:
    neighbours = Neighbours(FakeGpu(QUIET))
    neighbours.pids, neighbours.busiest_percent = pids, percent
    return neighbours


@pytest.mark.parametrize(
    ("percent", "kind", "words"),
    [
        (0, ConcernKind.GPU_HELD, "other processes hold the GPU but do not use it: 2; "),
        (1, ConcernKind.GPU_HELD, "other processes hold the GPU but do not use it: 2; "),
        (2, ConcernKind.GPU_SHARED, "other processes on the GPU: 2, busy for up to 2 % of a second; "),
        (None, ConcernKind.GPU_SHARED, "other processes on the GPU: 2; "),
    ],
)
def test_processes_that_leave_the_gpu_alone_are_told_from_those_that_use_it(
    percent: int | None, kind: ConcernKind, words: str
) -> None:
    (concern,) = find_gpu_concerns(QUIET, make_neighbours({8, 9}, percent))
    assert concern.kind is kind
    assert concern.text.startswith(words)


class TestNeighbours:
    """How busy others kept the GPU, as far as the driver tells."""

    @pytest.mark.parametrize(
        ("percents", "busiest"),
        [
            ({OWN: 90, 8: 1, 9: 7}, 7),
            ({OWN: 90, 8: 1, 9: 1}, 1),
            ({OWN: 90}, 0),
            ({OWN: 90, 7: 50}, 0),
            ({OWN: 1, 8: 0, 9: 0}, None),
            ({8: 0, 9: 0}, None),
            ({OWN: 90, 8: 2**32 - 1}, None),
            ({}, None),
        ],
        ids=[
            "the busiest counts",
            "none for the others",
            "no sample is no work",
            "what is not listed holds no GPU",
            "not even this process is seen at work",
            "nor told of",
            "no share",
            "nothing is told",
        ],
    )
    def test_the_busiest_is_told_where_the_driver_sees_what_this_process_does(
        self, percents: dict[int, int], busiest: int | None
    ) -> None:
        neighbours = Neighbours(FakeGpu(percents=percents))
        neighbours.pids = {8, 9}
        neighbours.ask()
        assert neighbours.busiest_percent == busiest

    def test_they_are_asked_about_each_second_and_the_busiest_one_stays(self) -> None:
        clock, gpu = FakeClock(), FakeGpu(percents={OWN: 90, 8: 30})
        neighbours = Neighbours(gpu, clock.now)
        for seconds in (0.5, 1.25, 1.5, 2.5):
            clock.seconds = seconds
            neighbours.see(SHARED)
            if seconds > 1:
                gpu.percents = {OWN: 90, 8: 0}
        clock.seconds = 2.75
        neighbours.see(QUIET)  # it has left
        neighbours.ask()
        assert gpu.asked == [0.0, 1.25, 1.75]
        assert neighbours.pids == {8}
        assert neighbours.busiest_percent == 30

    def test_a_driver_that_once_refuses_to_tell_says_of_nobody_that_he_left(self) -> None:
        neighbours = Neighbours(FakeGpu(percents={OWN: 90}))
        for state in (SHARED, replace(SHARED, foreign=None), SHARED):
            neighbours.see(state)
        neighbours.ask()
        assert [concern.kind for concern in find_gpu_concerns(SHARED, neighbours)] == [ConcernKind.GPU_HELD]

    def test_of_a_short_measurement_all_is_asked_about(self) -> None:
        clock, gpu = FakeClock(), FakeGpu()
        clock.seconds = 100.0
        neighbours = Neighbours(gpu, clock.now)
        neighbours.pids = {8}
        clock.seconds = 100.5
        neighbours.ask()
        assert gpu.asked == [100.0]

    def test_nobody_is_asked_about_where_there_is_none(self) -> None:
        gpu = FakeGpu(QUIET)
        watch = GpuWatch(gpu)
        watch.before()
        assert watch.after() is None
        assert watch.concerns() == []
        assert not gpu.asked

    @pytest.mark.parametrize(
        ("last", "kind"), [(SHARED, ConcernKind.GPU_HELD), (QUIET, ConcernKind.GPU_SHARED)], ids=["stays", "leaves"]
    )
    def test_of_one_that_came_and_left_nobody_says_that_it_was_idle(self, last: GpuState, kind: ConcernKind) -> None:
        watch = GpuWatch(FakeGpu(QUIET, QUIET, SHARED, last, percents={OWN: 90}))
        watch.before()
        assert watch.after() == "another process came to the GPU"
        (concern,) = watch.concerns()
        assert concern.kind is kind
        assert concern.text.startswith("other processes")
        assert "busy for" not in concern.text


def test_a_state_without_answers_is_unknown() -> None:
    nobody = make_neighbours(set(), None)
    (concern,) = find_gpu_concerns(GpuState(), nobody)
    assert concern.kind is ConcernKind.UNKNOWN
    (concern,) = find_gpu_concerns(GpuState(event_reasons=0), nobody)
    assert concern.text.startswith("whether others use the GPU is unknown: ")
    assert find_gpu_concerns(GpuState(event_reasons=0, foreign=frozenset()), nobody) == []
    assert find_gpu_concerns(GpuState(clock_mhz=1980, foreign=frozenset()), nobody) == []


def test_a_power_limit_during_a_block_is_a_concern_also_once_the_gpu_is_idle() -> None:
    watch = GpuWatch(FakeGpu(QUIET, QUIET, replace(QUIET, event_reasons=0x04), QUIET))
    watch.before()
    assert watch.after() is None
    assert [concern.kind for concern in watch.concerns()] == [ConcernKind.GPU_FREQUENCY]


@pytest.mark.parametrize(
    ("pids", "foreign"),
    [([], set()), ([5], set()), ([5, 6, 7], {6, 7}), ([4, 5], set()), ([6], set()), ([6, 7], None), ([6, 7, 8], None)],
)
def test_processes_of_others_are_foreign_as_far_as_any_can_be_told(pids: list[int], foreign: set[int] | None) -> None:
    found = find_foreign(pids, is_own={5, 4}.__contains__, has_left=lambda pid: False)
    assert found == (None if foreign is None else frozenset(foreign))


def test_a_process_that_is_ending_is_nobody_s_neighbour() -> None:
    assert find_foreign([5, 6, 7], is_own={5}.__contains__, has_left={6}.__contains__) == frozenset({7})


def test_device_reads_what_the_driver_tells() -> None:
    nvml = FakeNvml(pids=[OWN, 1])
    assert NvmlDevice(nvml, "GPU-0").read() == GpuState(
        clock_mhz=1980, event_reasons=0, thermal_nanoseconds=7, foreign=frozenset({1})
    )


def test_device_reads_the_busiest_sample_of_each_process() -> None:
    nvml = FakeNvml(used=[(5, 3), (5, 7), (5, 4), (6, 0)])
    assert NvmlDevice(nvml, "GPU-0").read_busy_percents(12.5) == {5: 7, 6: 0}
    assert nvml.since_microseconds == 12_500_000


def test_device_leaves_open_what_the_driver_refuses() -> None:
    names = "nvmlDeviceGetViolationStatus", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetProcessUtilization"
    device = NvmlDevice(FakeNvml(refused=names), "GPU-0")
    assert device.read() == GpuState(clock_mhz=1980, event_reasons=0)
    assert device.read_busy_percents(0.0) == {}


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
            concerns = {concern.kind: concern.text for concern in watch.concerns()}
        finally:
            neighbour.kill()
    shared = concerns.get(ConcernKind.GPU_SHARED)
    if ConcernKind.UNKNOWN in concerns or (shared is not None and "busy for" not in shared):
        pytest.skip("the driver does not tell which processes use this GPU, or how busy they are")
    assert kind in concerns
