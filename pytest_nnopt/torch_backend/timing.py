"""Time both sides of a pair in one process, and say what on the machine speaks against the times."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from pytest_nnopt.measurement.clock import InTurns, WatchChain
from pytest_nnopt.measurement.cores import CoreWatch, watched_core
from pytest_nnopt.measurement.engine import measure_case
from pytest_nnopt.measurement.machine import (
    ConcernKind,
    HostProbe,
    HostReading,
    HostWatch,
    MachineConcern,
    find_concerns,
)
from pytest_nnopt.measurement.team import TeamClock, TeamWatch
from pytest_nnopt.model import ProcessSample, Variant
from pytest_nnopt.torch_backend.clock import fit_plan, make_clock, time_single_calls, waits_for_host
from pytest_nnopt.torch_backend.kernels import DeviceProfile, profile_kernels
from pytest_nnopt.torch_backend.nvml import open_gpu_watch
from pytest_nnopt.torch_backend.yardstick import make_yardstick

if TYPE_CHECKING:
    from pytest_nnopt.measurement.clock import MachineWatch
    from pytest_nnopt.measurement.engine import Plan
    from pytest_nnopt.measurement.team import Together
    from pytest_nnopt.torch_backend.side import Side


_BACKWARD_THREADS = "pt_autograd"
"""How the names of torch's threads begin that launch the backward pass."""

_SIDES = (Variant.REFERENCE, Variant.CANDIDATE)

_MORE_BLOCKS = 2.5
"""Times as many blocks, measured and dropped ones, where a GPU waits for its host: they are short, and differ by
several percent."""

_MORE_ERROR = 2.0
"""Times the error of the blocks that is enough there: the processes of such a model differ by more than by that."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What one process measured of a pair, and what speaks against it.

    Attributes:
        sample: interleaved times of both sides and the yardstick.
        concerns: what on the machine spoke against timing.
        device: the candidate's kernels; None on a CPU.
        wall_seconds: one call of the candidate by the host's clock, until the GPU is done; None on a CPU.
        waiting: the sides of which a GPU waits for its host; none on a CPU, and unknown and empty of ranks.
        host_loop_seconds: a fixed loop of the host, on the core that it launched from; None on a CPU, where both sides
            leave the pace to the GPU, and where there was no core to choose.
    """

    sample: ProcessSample
    concerns: tuple[MachineConcern, ...]
    device: DeviceProfile | None = None
    wall_seconds: float | None = None
    waiting: frozenset[Variant] = frozenset()
    host_loop_seconds: float | None = None


def time_sides(
    references: Sequence[Side],
    candidates: Sequence[Side],
    device: torch.device,
    plan: Plan,
    *,
    limit: float,
    has_cold_cache: bool = False,
    has_kernels: bool = True,
    turn: Callable[[], None] | None = None,
    team: Together | None = None,
) -> Timed:
    """Measure both sides and the yardstick in interleaved blocks, in the pair's own execution mode.

    Args:
        references: copies of the eager side, of which each block draws one.
        candidates: copies of the optimised side.
        device: where they compute.
        plan: how much to measure.
        limit: the slowdown to be told from none, as a fraction; 0 has all blocks of the plan measured, and so has a
            process that takes turns, or another would measure on alone.
        has_cold_cache: whether each call finds a GPU's L2 cache overwritten.
        has_kernels: whether a GPU's kernels are timed as well. The profiler may stay attached to a process, and later
            launches there then pass through it (pytorch/kineto#1264).
        turn: waits, before the warm-up and before each block, until it is this process's turn. What other processes
            compute is then no concern, since the one whose turn it is in between is among them.
        team: the ranks that do the same at the same time; None where there is one process.
    """
    calls = {
        Variant.REFERENCE: [timed_call(side) for side in references],
        Variant.CANDIDATE: [timed_call(side) for side in candidates],
        Variant.YARDSTICK: [make_yardstick(device)],
    }
    gpu = open_gpu_watch(device) if device.type == "cuda" else None
    watches: list[MachineWatch] = [HostWatch(), *([] if gpu is None else [gpu])]
    if turn is not None:
        watches.insert(0, InTurns(turn))
        turn()
    clock = make_clock(device, has_cold_cache=has_cold_cache)
    if team is not None:
        clock = TeamClock(clock, team)
    probe = HostProbe()
    before = _read_host(probe, team)
    plan = fit_plan(plan, device, limit=limit if turn is None else 0.0)
    with references[0].mode.active():
        waiting = frozenset(side for side in _SIDES if waits_for_host(calls[side][0], device)) if team is None else None
        if waiting:
            plan = _for_waiting(plan)
        with launching_core(waiting) as core:
            watch: MachineWatch = WatchChain(*watches, *([] if core is None else [core]))
            if team is not None:
                watch = TeamWatch(watch, team)
            sample = measure_case(calls, clock, plan, machine=watch)
            after = _read_host(probe, team)
            wall_seconds = time_single_calls(calls[Variant.CANDIDATE][0], device)
        profile = None
        if has_kernels and device.type == "cuda":
            profile = profile_kernels(calls[Variant.CANDIDATE], device, team=team)
    concerns = find_concerns(before, after, torch.get_num_threads() * (1 if team is None else team.size))
    if turn is not None:
        concerns = [concern for concern in concerns if concern.kind is not ConcernKind.LOAD]
    return Timed(
        sample,
        (*concerns, *([] if gpu is None else gpu.concerns())),
        profile,
        wall_seconds,
        waiting or frozenset(),
        None if core is None else core.loop_seconds,
    )


def _for_waiting(plan: Plan) -> Plan:
    return replace(
        plan,
        max_blocks=int(_MORE_BLOCKS * plan.max_blocks),
        max_dropped_blocks=int(_MORE_BLOCKS * plan.max_dropped_blocks),
        enough_error=_MORE_ERROR * plan.enough_error,
    )


def launching_core(waiting: Collection[Variant] | None) -> AbstractContextManager[CoreWatch | None]:
    """Choose the core that launches what a GPU computes, and watch it.

    Args:
        waiting: the variants of which the GPU waits for its host; with none there is nothing to gain. None for ranks:
            each would choose by itself, and two might choose the same core.
    """
    return watched_core(_BACKWARD_THREADS) if waiting else contextlib.nullcontext()


def _read_host(probe: HostProbe, team: Together | None) -> HostReading:
    """Return the host's state; the processor time of all ranks is the case's own."""
    reading = probe.read()
    return reading if team is None else replace(reading, own_seconds=sum(team.gather(reading.own_seconds)))


def timed_call(side: Side) -> Callable[[], object]:
    """Return what a timing calls: the bare function where that is all, so that none of our own code is timed."""
    if side.is_bare:
        return partial(side.function, *side.args, **side.kwargs)
    return side.step
