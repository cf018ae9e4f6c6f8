"""Both sides timed in one process, and the core that launches what a GPU computes."""

from __future__ import annotations

import contextlib
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import nn

from pytest_nnopt.measurement.cores import threads_named, usable_cores
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.torch_backend import timing
from pytest_nnopt.torch_backend.pair import PairRequest, build_side
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.timing import launching_core, time_sides

if TYPE_CHECKING:
    from pytest_nnopt.measurement.team import Together

GPU = torch.device("cuda", 0)
QUICK = Plan(min_blocks=2, max_blocks=2, warmup_max_seconds=0.05)
needs_two_cores = pytest.mark.skipif(
    len(usable_cores()) < 2 or not hasattr(os, "sched_setaffinity"), reason="needs two cores to choose from"
)


def side(width: int, device: torch.device) -> Side:
    mode = ExecutionMode.capture(is_training_step=False)
    return build_side(
        PairRequest(nn.Linear(width, width), (torch.ones(width, width),), {}, mode=mode), device=str(device)
    )


def leading() -> None:
    """Stands for a call that leaves the pace to the GPU."""


def waiting() -> None:
    """Stands for a call of which the GPU waits for the host."""


@pytest.fixture(autouse=True)
def paces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("gpu") is None:
        monkeypatch.setattr(timing, "waits_for_host", lambda call, device: device.type == "cuda" and call is waiting)


@needs_two_cores
def test_the_core_that_launches_is_chosen_where_one_side_waits_for_it() -> None:
    with launching_core([leading, waiting], GPU) as core:
        assert core is not None


def test_where_both_sides_leave_the_pace_to_the_gpu_nothing_is_chosen() -> None:
    with launching_core([leading, leading], GPU) as core:
        assert core is None


def test_a_cpu_s_calls_run_on_all_cores() -> None:
    with launching_core([waiting], torch.device("cpu")) as core:
        assert core is None


def test_ranks_do_not_choose_lest_they_choose_the_same() -> None:
    with launching_core([waiting], GPU, cast("Together", SimpleNamespace(size=2))) as core:
        assert core is None


def test_blocks_are_dropped_and_counted_where_the_chosen_core_is_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    watch = SimpleNamespace(before=lambda: None, after=iter(["slowed", None, None]).__next__, loop_seconds=8e-5)
    monkeypatch.setattr(timing, "launching_core", lambda *_: contextlib.nullcontext(watch))
    timed = time_sides([side(4, cpu)], [side(4, cpu)], cpu, QUICK, limit=0.1)
    assert timed.sample.dropped_blocks == 1
    assert timed.host_loop_seconds == 8e-5


def test_on_a_cpu_there_are_no_kernels_and_no_host_that_leads() -> None:
    cpu = torch.device("cpu")
    timed = time_sides([side(4, cpu)], [side(4, cpu)], cpu, QUICK, limit=0.1)
    assert (timed.device, timed.wall_seconds, timed.host_loop_seconds) == (None, None, None)
    assert len(timed.sample.blocks) == 2


@pytest.mark.gpu
@needs_two_cores
@pytest.mark.parametrize(("width", "waits"), [(16, True), (8192, False)])
def test_on_a_gpu_the_host_s_pace_is_recorded_where_it_matters(width: int, waits: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    timed = time_sides([side(width, GPU)], [side(width, GPU)], GPU, QUICK, limit=0.1)
    assert timed.device is not None
    assert (timed.host_loop_seconds is not None) == waits
    without = time_sides([side(width, GPU)], [side(width, GPU)], GPU, QUICK, limit=0.1, has_kernels=False)
    assert without.device is None


@pytest.mark.gpu
def test_torch_s_threads_for_the_backward_pass_are_known_by_their_name() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    torch.autograd.backward(torch.ones(2, device=GPU, requires_grad=True).sum())
    assert threads_named(timing._BACKWARD_THREADS)
