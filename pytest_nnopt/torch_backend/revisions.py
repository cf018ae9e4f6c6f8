"""Copies of two revisions' pairs side by side in one process, and their times in the same blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import torch

from pytest_nnopt.measurement.clock import WatchChain
from pytest_nnopt.measurement.engine import Plan, measure_case
from pytest_nnopt.measurement.machine import HostProbe, HostWatch, find_concerns
from pytest_nnopt.model import Variant
from pytest_nnopt.torch_backend.clock import fit_plan, make_clock, waits_for_host
from pytest_nnopt.torch_backend.kernels import DeviceProfile, profile_kernels
from pytest_nnopt.torch_backend.layout import place_copies
from pytest_nnopt.torch_backend.nvml import open_gpu_watch
from pytest_nnopt.torch_backend.timing import Timed, launching_core, timed_call
from pytest_nnopt.torch_backend.tree import named_tensors

if TYPE_CHECKING:
    from pytest_nnopt.measurement.clock import Clock, MachineWatch
    from pytest_nnopt.measurement.engine import Call
    from pytest_nnopt.torch_backend.side import Side

REVISIONS_PLAN = Plan(max_blocks=200, max_seconds=4.5)
"""A process that runs two revisions takes some eight seconds to get ready. Two compiled copies in it differ by 0.9 % in
40 blocks, and by 0.5 % in 200: little is added from process to process, so that further blocks pay. Beyond 4.5 s
another process pays more: three of them fit into half a minute."""

_MOST_COPIES = 3
_COPYING_SECONDS = 10.0
"""Time that copies of both revisions may take beyond the first of each, which decides how many there are."""

_SHOWN_DIFFERENCES = 5


@dataclass(frozen=True)
class Maker:
    """How one revision's copies are made and run.

    Attributes:
        reference: makes a new eager side.
        candidate: makes a new optimised side, compiled and run once.
        active: the context in which the revision's code is imported and run.
    """

    reference: Callable[[], Side]
    candidate: Callable[[], Side]
    active: Callable[[], AbstractContextManager[None]]


@dataclass
class Placed:
    """The copies of one revision, and the memory between them, which must live as long as they do."""

    references: list[Side] = field(default_factory=list)
    candidates: list[Side] = field(default_factory=list)
    spacers: list[object] = field(default_factory=list)


def place_revisions(head: Maker, base: Maker, device: torch.device, random: Random) -> tuple[Placed, Placed]:
    """Build copies of both revisions at random places, in turn, so that neither is always compiled first.

    Which of two equal sides is compiled first moves their ratio by about 1 %: chance decides it, anew in each process,
    and the order turns from copy to copy.
    """
    placed = (Placed(), Placed())
    order = [(head, placed[0]), (base, placed[1])]
    random.shuffle(order)
    start = time.perf_counter()
    _place_next(order, device, random)
    seconds = time.perf_counter() - start
    for _ in range(min(_MOST_COPIES, 1 + int(_COPYING_SECONDS / max(seconds, 1e-3))) - 1):
        order.reverse()
        _place_next(order, device, random)
    return placed


def _place_next(order: Sequence[tuple[Maker, Placed]], device: torch.device, random: Random) -> None:
    for maker, placed in order:
        with maker.active():
            reference = place_copies(maker.reference, 1, device=device, random=random)
            candidate = place_copies(maker.candidate, 1, device=device, random=random)
        placed.references += reference.copies
        placed.candidates += candidate.copies
        placed.spacers += [*reference.spacers, *candidate.spacers]


class RevisionClock:
    """Times calls with the modules of their own revision in place.

    Before every timing both revisions' modules have been put in place once, so that what this does to the
    processor's caches is the same for both.

    Args:
        clock: takes the times.
        base_calls: the base's callables; all others are the head's.
        head: the context in which head's code runs.
        base: the context in which base's code runs.
    """

    def __init__(self, clock: Clock, base_calls: Sequence[Call], head: Maker, base: Maker) -> None:
        self._clock = clock
        self._base_calls = {id(call) for call in base_calls}
        self._head, self._base = head, base

    def now(self) -> float:
        """Return the clock's seconds."""
        return self._clock.now()

    def time_calls(self, call: Call, count: int, *, warm_calls: int = 0) -> float:
        """Return the seconds of ``count`` calls together."""
        own, other = (self._base, self._head) if id(call) in self._base_calls else (self._head, self._base)
        with own.active(), other.active():
            pass
        with own.active():
            return self._clock.time_calls(call, count, warm_calls=warm_calls)


@dataclass(frozen=True, slots=True)
class TimedRevisions:
    """What one process measured of two revisions.

    Attributes:
        head: blocks of all four variants, and the head's kernels.
        base_device: the base's kernels; None on a CPU.
    """

    head: Timed
    base_device: DeviceProfile | None = None


def time_revisions(
    placed: tuple[Placed, Placed],
    head: Maker,
    base: Maker,
    device: torch.device,
    plan: Plan,
    *,
    has_cold_cache: bool = False,
) -> TimedRevisions:
    """Measure the four variants in interleaved blocks, in the head pair's execution mode."""
    calls: Mapping[Variant, list[Call]] = {
        Variant.REFERENCE: [timed_call(side) for side in placed[0].references],
        Variant.CANDIDATE: [timed_call(side) for side in placed[0].candidates],
        Variant.BASE_REFERENCE: [timed_call(side) for side in placed[1].references],
        Variant.BASE_CANDIDATE: [timed_call(side) for side in placed[1].candidates],
    }
    base_calls = [*calls[Variant.BASE_REFERENCE], *calls[Variant.BASE_CANDIDATE]]
    clock = RevisionClock(make_clock(device, has_cold_cache=has_cold_cache), base_calls, head, base)
    gpu = open_gpu_watch(device) if device.type == "cuda" else None
    watches: list[MachineWatch] = [HostWatch(), *([] if gpu is None else [gpu])]
    probe = HostProbe()
    before = probe.read()
    with placed[0].references[0].mode.active():
        waiting = frozenset(
            variant for variant, maker in _makers(head, base) if _waits(calls[variant][0], maker, device)
        )
        with launching_core(waiting) as core:
            watch = WatchChain(*watches, *([] if core is None else [core]))
            sample = measure_case(calls, clock, fit_plan(plan, device), machine=watch)
        after = probe.read()
        profiles = [_profile(calls[variant], maker, device) for variant, maker in _candidates(head, base)]
    concerns = (*find_concerns(before, after, torch.get_num_threads()), *([] if gpu is None else gpu.concerns()))
    loop_seconds = None if core is None else core.loop_seconds
    timed = Timed(sample, concerns, profiles[0], waiting=waiting, host_loop_seconds=loop_seconds)
    return TimedRevisions(timed, profiles[1])


def describe_differences(head: Side, base: Side) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say what differs in shapes and types: of the inputs, and of the parameters and buffers."""
    inputs = _differences(
        _signature((head.args, dict(head.kwargs)), "inputs"), _signature((base.args, dict(base.kwargs)), "inputs")
    )
    return inputs, _differences(_state(head), _state(base))


def _makers(head: Maker, base: Maker) -> tuple[tuple[Variant, Maker], ...]:
    return ((Variant.REFERENCE, head), (Variant.BASE_REFERENCE, base), *_candidates(head, base))


def _waits(call: Call, maker: Maker, device: torch.device) -> bool:
    with maker.active():
        return waits_for_host(call, device)


def _candidates(head: Maker, base: Maker) -> tuple[tuple[Variant, Maker], ...]:
    return (Variant.CANDIDATE, head), (Variant.BASE_CANDIDATE, base)


def _profile(copies: Sequence[Call], maker: Maker, device: torch.device) -> DeviceProfile | None:
    if device.type != "cuda":
        return None
    with maker.active():
        return profile_kernels(copies, device)


def _signature(values: object, name: str) -> dict[str, str]:
    return {path: _shape(tensor) for path, tensor in named_tensors(values, name)}


def _state(side: Side) -> dict[str, str]:
    if side.module is None:
        return {}
    named = [*side.module.named_parameters(), *side.module.named_buffers()]
    return {name: _shape(tensor) for name, tensor in named}


def _shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _differences(head: Mapping[str, str], base: Mapping[str, str]) -> tuple[str, ...]:
    names = sorted(name for name in {**head, **base} if head.get(name) != base.get(name))
    said = [f"{name}: {base.get(name, 'absent')} → {head.get(name, 'absent')}" for name in names]
    more = [f"and {len(said) - _SHOWN_DIFFERENCES} more"] if len(said) > _SHOWN_DIFFERENCES else []
    return tuple(said[:_SHOWN_DIFFERENCES] + more)
