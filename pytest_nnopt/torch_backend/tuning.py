"""The compiler's own timing of a GPU's kernels, among which it chooses: while no other process times anything there."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement.exclusive import exclusive
from pytest_nnopt.torch_backend.facts import device_key

if TYPE_CHECKING:
    import torch

PATIENCE_SECONDS = 5.0
"""How long a compilation waits for the device in all. A choice made beside others is better than none."""

_TIMING_METHODS = "benchmark_gpu", "benchmark_gpu_with_cuda_graph"

_MakeContext = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def kernels_timed_alone(device: torch.device) -> Iterator[None]:
    """Have the compiler time kernels only while this process has the GPU to itself, as far as this plugin's go.

    Of two processes that compile at once, each would else choose by times that hold the other's kernels as well. Of
    a torch that cannot be told so, and on a CPU, nothing changes.

    Args:
        device: where the kernels run.
    """
    if device.type != "cuda":
        yield
        return
    with _around_each_timing(_Turns(device_key(device)).take):
        yield


def can_time_kernels_alone() -> bool:
    """Whether this torch can be told when to time kernels."""
    with contextlib.suppress(ImportError):
        from torch._inductor.runtime import benchmarking

        own = getattr(benchmarking, "benchmarker", None)
        return hasattr(benchmarking, "set_gpu_benchmark_lock_context") or hasattr(own, _TIMING_METHODS[0])
    return False


class _Turns:
    """Turns on a device, until the patience for them is used up."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._patience = PATIENCE_SECONDS

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            start = time.monotonic()
            with contextlib.suppress(MeasurementError):
                held.enter_context(exclusive(self._key, wait_seconds=max(0.0, self._patience)))
            self._patience -= time.monotonic() - start
            yield


@contextlib.contextmanager
def _around_each_timing(make_context: _MakeContext) -> Iterator[None]:
    """Enter a context around each of the compiler's timings; newer releases of torch ask for one."""
    if not can_time_kernels_alone():
        yield
        return
    from torch._inductor.runtime import benchmarking

    with contextlib.ExitStack() as restored:
        if hasattr(benchmarking, "set_gpu_benchmark_lock_context"):
            before = benchmarking.set_gpu_benchmark_lock_context(make_context)
            restored.callback(benchmarking.set_gpu_benchmark_lock_context, before)
        else:
            for name in _TIMING_METHODS:
                _wrap_method(benchmarking.benchmarker, name, make_context, restored)
        yield


def _wrap_method(owner: Any, name: str, make_context: _MakeContext, restored: contextlib.ExitStack) -> None:
    """Enter a context around each call of an object's method until ``restored`` is closed, where it has such a one."""
    method = getattr(owner, name, None)
    if method is None or name in vars(owner):  # wrapped already
        return

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with make_context():
            return method(*args, **kwargs)

    setattr(owner, name, wrapped)
    restored.callback(delattr, owner, name)
