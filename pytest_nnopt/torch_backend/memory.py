"""How many bytes one call of a side needs, and how many it keeps: exact and repeatable on a CPU and on a GPU."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile

from pytest_nnopt.torch_backend.pair import device_of
from pytest_nnopt.torch_backend.quiet import profiler_kept_quiet
from pytest_nnopt.torch_backend.tree import named_tensors

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side

WARMUP_CALLS = 3
"""Calls before measuring: what is allocated once, such as workspaces and CUDA graphs, belongs to no single call."""

_READINGS_AMONG_RANKS = 10
"""Readings of one thing where collective operations run: every rank takes as many, for each waits for the others."""


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """The memory of one side, in bytes of the device it computes on.

    Attributes:
        peak_bytes: the most that one call holds at once, beyond what was held before it. For a training step this
            includes gradients and saved activations.
        steady_bytes: what stays allocated from one call to the next: parameters, buffers, inputs, what a call leaves
            behind, and the memory of CUDA graphs, whose replays allocate nothing and so show no peak.
        saved_bytes: what the forward pass of a training step keeps for the backward pass; None without a loss.
        gradient_bytes: gradients of the parameters after a training step; None without a loss.
    """

    peak_bytes: int
    steady_bytes: int
    saved_bytes: int | None = None
    gradient_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Usage:
    """What running something did to the allocator: the highest rise above the start, and the rise that is left."""

    peak: int
    left: int


def as_memory_allows(work: Callable[[], object]) -> None:
    """Do something as far as a GPU's memory allows, and reserve none afterwards beyond what is in use."""
    with contextlib.suppress(torch.cuda.OutOfMemoryError):
        work()
    torch.cuda.empty_cache()  # once the error is gone, whose traceback holds what was allocated


def measure_memory(side: Side, *, owns_cuda_graphs: bool = False) -> MemoryFacts:
    """Run the side a few times and measure one call.

    On a CPU the allocation events of the profiler are added up; memory that a library takes from elsewhere than
    torch's allocator is not seen. On a GPU the statistics of the caching allocator are read.

    Args:
        side: what to measure; its state and inputs change as by any other call.
        owns_cuda_graphs: whether the CUDA graphs recorded so far in this process are this side's, as they are the
            candidate's in an isolated pair. Their memory cannot be told apart by itself.
    """
    device = device_of(side)
    track = _track_least if _has_collectives() else _track
    with _without_garbage_collection(), side.mode.active():
        for _ in range(WARMUP_CALLS):
            side.step()
        _drop_gradients(side)
        step = track(lambda: _run_and_drop(side.step), device, lambda: _drop_gradients(side))
        gradients = _bytes_of(_gradients(side))
        saved = None if side.loss is None else _saved_bytes(side, track, device)
        _drop_gradients(side)
        held = _bytes_of(_held_tensors(side))
    return MemoryFacts(
        peak_bytes=step.peak,
        steady_bytes=held + step.left + (_graph_pool_bytes(device) if owns_cuda_graphs else 0),
        saved_bytes=saved,
        gradient_bytes=None if side.loss is None else gradients,
    )


def _saved_bytes(side: Side, track: Callable[..., _Usage], device: torch.device) -> int:
    """Measure what a forward pass leaves allocated besides its output."""
    outputs: list[Any] = []

    def call() -> None:
        outputs.append(side.call())
        torch.clear_autocast_cache()

    usage = track(call, device, outputs.clear)
    return usage.left - _bytes_of(tensor for _, tensor in named_tensors(outputs, "output"))


def _run_and_drop(run: Callable[[], object]) -> None:
    run()


def _has_collectives() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _track(run: Callable[[], None], device: torch.device, _forget: Callable[[], None]) -> _Usage:
    return (_track_cuda if device.type == "cuda" else _track_cpu)(run, device)


def _track_least(run: Callable[[], None], device: torch.device, forget: Callable[[], None]) -> _Usage:
    """Read a number of times and keep the least.

    A thread of a collective operation may be the last to hold a tensor. What it frees belongs to no call that is
    tracked, so that such a reading is too high, and never too low. What a run leaves on purpose is forgotten before
    the next one.
    """
    readings = [_track(run, device, forget)]
    while len(readings) < _READINGS_AMONG_RANKS:
        forget()
        readings.append(_track(run, device, forget))
    return _Usage(peak=min(reading.peak for reading in readings), left=min(reading.left for reading in readings))


def _track_cpu(run: Callable[[], None], _device: torch.device) -> _Usage:
    with profiler_kept_quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    results = profiler.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return _Usage(peak=max(accumulate(sizes, initial=0)), left=sum(sizes))


def _track_cuda(run: Callable[[], None], device: torch.device) -> _Usage:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return _Usage(
        peak=torch.cuda.max_memory_allocated(device) - before,
        left=torch.cuda.memory_allocated(device) - before,
    )


def _graph_pool_bytes(device: torch.device) -> int:
    """Return the memory that CUDA graphs recorded so far keep for their replays."""
    if device.type != "cuda":
        return 0
    segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
    private = [s for s in segments if s["device"] == device.index and tuple(s["segment_pool_id"]) != (0, 0)]
    return sum(segment["total_size"] for segment in private)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep the collector from freeing older garbage while a call is measured."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _drop_gradients(side: Side) -> None:
    for tensor in _held_tensors(side):
        tensor.grad = None


def _gradients(side: Side) -> list[torch.Tensor]:
    return [tensor.grad for tensor in _held_tensors(side) if tensor.grad is not None]


def _held_tensors(side: Side) -> list[torch.Tensor]:
    """Return the tensors that live as long as the side: parameters, buffers and inputs."""
    inputs = [tensor for _, tensor in named_tensors((side.args, dict(side.kwargs)), "inputs")]
    state = [] if side.module is None else [*side.module.parameters(), *side.module.buffers()]
    return [*state, *inputs]


def _bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Add up the memory of tensors, each storage once however many views it has."""
    storages = {storage._cdata: storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    return sum(storages.values())
