"""The compiler's timing of kernels: alone on its GPU, for as long as one has the patience."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._inductor.runtime import benchmarking

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.torch_backend import tuning
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_side
from pytest_nnopt.torch_backend.facts import device_key
from pytest_nnopt.torch_backend.isolation import isolated_compilation
from pytest_nnopt.torch_backend.pair import PairRequest, build_side
from pytest_nnopt.torch_backend.side import ExecutionMode
from pytest_nnopt.torch_backend.tuning import PATIENCE_SECONDS, can_time_kernels_alone, kernels_timed_alone

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@dataclass
class Lock:
    """The lock of a device, which takes its time and may not be had at all."""

    log: list[str] = field(default_factory=list)
    seconds: float = 0.0
    is_free: bool = True
    waits: list[float] = field(default_factory=list)
    now: float = 0.0

    @contextlib.contextmanager
    def take(self, key: str, *, wait_seconds: float) -> Iterator[None]:
        self.waits.append(wait_seconds)
        self.now += min(self.seconds, wait_seconds)
        if not self.is_free or self.seconds > wait_seconds:
            raise MeasurementError("another process has it")
        self.log.append(f"{key} held")
        yield
        self.log.append("free")


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Lock:
    lock = Lock()
    monkeypatch.setattr(tuning, "exclusive", lock.take)
    monkeypatch.setattr(tuning, "device_key", lambda _: "GPU-1")
    monkeypatch.setattr(time, "monotonic", lambda: lock.now)
    return lock


class Benchmarker:
    """Times kernels as the compilers of earlier releases do."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def benchmark_gpu(self, kernel: Callable[[], object]) -> float:
        kernel()
        self._log.append("timed")
        return 1.0


@pytest.fixture(params=["asks for a context", "has methods alone"])
def time_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, lock: Lock) -> Callable[[], float]:
    """Return what times a kernel in a newer and in an older release of torch."""
    benchmarker = Benchmarker(lock.log)
    if request.param == "has methods alone":
        monkeypatch.delattr(benchmarking, "set_gpu_benchmark_lock_context", raising=False)
        monkeypatch.setattr(benchmarking, "benchmarker", benchmarker)
        return lambda: benchmarker.benchmark_gpu(lambda: None)
    held: list[Callable[[], AbstractContextManager[None]] | None] = [None]

    def set_context(context: Callable[[], AbstractContextManager[None]] | None) -> object:
        before, held[0] = held[0], context
        return before

    def in_context() -> float:
        with held[0]() if held[0] else contextlib.nullcontext():
            return benchmarker.benchmark_gpu(lambda: None)

    monkeypatch.setattr(benchmarking, "set_gpu_benchmark_lock_context", set_context, raising=False)
    return in_context


def test_a_kernel_is_timed_while_the_device_is_held(lock: Lock, time_kernel: Callable[[], float]) -> None:
    assert can_time_kernels_alone()
    with kernels_timed_alone(GPU):
        assert time_kernel() == 1.0
    assert lock.log == ["GPU-1 held", "timed", "free"]


def test_afterwards_and_on_a_cpu_kernels_are_timed_as_ever(lock: Lock, time_kernel: Callable[[], float]) -> None:
    with kernels_timed_alone(CPU):
        time_kernel()
    with kernels_timed_alone(GPU):
        pass
    time_kernel()
    assert lock.log == ["timed", "timed"]


def test_one_within_another_is_undone_before_it(lock: Lock, time_kernel: Callable[[], float]) -> None:
    with kernels_timed_alone(GPU):
        with kernels_timed_alone(GPU):
            time_kernel()
        time_kernel()
    time_kernel()
    assert lock.log == [*["GPU-1 held", "timed", "free"] * 2, "timed"]


def test_a_device_that_others_keep_is_waited_for_so_long_in_all(lock: Lock, time_kernel: Callable[[], float]) -> None:
    lock.seconds = 0.75 * PATIENCE_SECONDS
    with kernels_timed_alone(GPU):
        for _ in range(3):
            time_kernel()
    assert lock.log == ["GPU-1 held", "timed", "free", "timed", "timed"]
    assert lock.waits == [PATIENCE_SECONDS, 0.25 * PATIENCE_SECONDS, 0.0]


def test_where_no_device_is_to_be_had_kernels_are_timed_beside_others(
    lock: Lock, time_kernel: Callable[[], float]
) -> None:
    lock.is_free = False
    with kernels_timed_alone(GPU):
        time_kernel()
    assert lock.log == ["timed"]


def test_what_a_timing_raises_is_the_compiler_s(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Benchmarker):
        def benchmark_gpu(self, kernel: Callable[[], object]) -> float:
            raise MeasurementError("out of registers")

    monkeypatch.delattr(benchmarking, "set_gpu_benchmark_lock_context", raising=False)
    monkeypatch.setattr(benchmarking, "benchmarker", failing := Failing(lock.log))
    with kernels_timed_alone(GPU), pytest.raises(MeasurementError, match="registers"):
        failing.benchmark_gpu(lambda: None)


def test_a_torch_that_cannot_be_told_compiles_as_ever(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(benchmarking, "set_gpu_benchmark_lock_context", raising=False)
    monkeypatch.setattr(benchmarking, "benchmarker", SimpleNamespace())
    assert not can_time_kernels_alone()
    with kernels_timed_alone(GPU):
        pass
    assert lock.log == []


@pytest.mark.gpu
def test_on_a_gpu_the_compiler_holds_the_device_while_it_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    keys: list[str] = []

    @contextlib.contextmanager
    def take(key: str, **_: object) -> Iterator[None]:
        keys.append(key)
        yield

    monkeypatch.setattr(tuning, "exclusive", take)
    mode = ExecutionMode.capture(is_training_step=False)
    request = PairRequest(nn.LayerNorm(3000), (torch.randn(500, 3000),), {}, mode=mode)
    with isolated_compilation(), kernels_timed_alone(GPU):
        compile_side(build_side(request, device="cuda:0"), [CompileStep()])
    assert keys
    assert set(keys) == {device_key(GPU)}
