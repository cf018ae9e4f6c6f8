"""Both sides timed in one process, and the core that launches what a GPU computes."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import nn

from pytest_nnopt.affinity import usable_cores
from pytest_nnopt.measurement.cores import threads_named
from pytest_nnopt.measurement.engine import Plan, measure_case
from pytest_nnopt.model import ProcessSample, Variant
from pytest_nnopt.torch_backend import revisions, timing
from pytest_nnopt.torch_backend.pair import PairRequest, build_side
from pytest_nnopt.torch_backend.revisions import Maker, Placed, time_revisions
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.timing import launching_core, time_sides

if TYPE_CHECKING:
    from pytest_nnopt.measurement.team import Together

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
QUICK = Plan(min_blocks=2, max_blocks=2, warmup_max_seconds=0.05)
needs_two_cores = pytest.mark.skipif(
    len(usable_cores()) < 2 or not hasattr(os, "sched_setaffinity"), reason="needs two cores to choose from"
)


def side(width: int, device: torch.device) -> Side:
    mode = ExecutionMode.capture(is_training_step=False)
    return build_side(
        PairRequest(nn.Linear(width, width), (torch.ones(width, width),), {}, mode=mode), device=str(device)
    )


@needs_two_cores
def test_the_core_that_launches_is_chosen_where_a_side_waits_for_it() -> None:
    with launching_core({Variant.REFERENCE}) as core:
        assert core is not None


@pytest.mark.parametrize("waiting", [frozenset(), None])
def test_where_nothing_waits_and_among_ranks_nothing_is_chosen(waiting: frozenset[Variant] | None) -> None:
    with launching_core(waiting) as core:
        assert core is None


@dataclass
class Paces:
    """Answers for calls in turn whether the GPU waits for the host."""

    answers: list[bool]
    chosen: list[frozenset[Variant] | None] = field(default_factory=list)
    objections: int = 1

    def waits(self, _call: object, _device: object) -> bool:
        return self.answers.pop(0)

    def choose(self, waiting: frozenset[Variant] | None) -> AbstractContextManager[Any]:
        """Hand out a watch that objects to the first blocks."""
        self.chosen.append(waiting)
        objections = iter(["slowed"] * self.objections)
        watch = SimpleNamespace(before=lambda: None, after=lambda: next(objections, None), loop_seconds=8e-5)
        return contextlib.nullcontext(watch if waiting else None)


@pytest.fixture
def paces(monkeypatch: pytest.MonkeyPatch) -> Paces:
    found = Paces([])
    for module in (timing, revisions):
        monkeypatch.setattr(module, "waits_for_host", found.waits)
        monkeypatch.setattr(module, "launching_core", found.choose)
    return found


@pytest.mark.parametrize(
    ("answers", "waiting"),
    [
        ([True, True], {Variant.REFERENCE, Variant.CANDIDATE}),
        ([True, False], {Variant.REFERENCE}),
        ([False, True], {Variant.CANDIDATE}),
        ([False, False], set()),
    ],
)
def test_the_sides_that_wait_are_told_and_measured_in_more_blocks_on_a_chosen_core(
    paces: Paces, answers: list[bool], waiting: set[Variant]
) -> None:
    paces.answers = list(answers)
    timed = time_sides([side(4, CPU)], [side(4, CPU)], CPU, QUICK, limit=0.1)
    assert paces.chosen == [timed.waiting] == [waiting]
    assert len(timed.sample.blocks) == (5 if waiting else 2)
    assert timed.sample.dropped_blocks == (1 if waiting else 0)
    assert timed.sample.disturbances == ({"slowed": 1} if waiting else {})
    assert timed.host_loop_seconds == (8e-5 if waiting else None)


def test_where_a_side_waits_more_blocks_may_be_dropped_as_well(paces: Paces) -> None:
    paces.answers, paces.objections = [True, True], 2
    plan = replace(QUICK, max_dropped_blocks=1)
    sample = time_sides([side(4, CPU)], [side(4, CPU)], CPU, plan, limit=0.1).sample
    assert (sample.dropped_blocks, len(sample.blocks)) == (2, 5)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans by which cases are measured."""
    plans: list[Plan] = []

    def measure(calls: Any, clock: Any, plan: Plan, **others: Any) -> ProcessSample:
        plans.append(plan)
        return measure_case(calls, clock, plan, **others)

    monkeypatch.setattr(timing, "measure_case", measure)
    return plans


@pytest.mark.parametrize(("answers", "enough"), [([True, True], 0.01), ([False, False], 0.005)])
def test_blocks_of_a_side_that_waits_need_not_know_the_ratio_much_better_than_its_processes_do(
    paces: Paces, plans: list[Plan], answers: list[bool], enough: float
) -> None:
    paces.answers = answers
    time_sides([side(4, CPU)], [side(4, CPU)], CPU, QUICK, limit=0.05)
    assert [plan.enough_error for plan in plans] == pytest.approx([enough])


def test_a_process_that_takes_turns_measures_all_blocks(plans: list[Plan]) -> None:
    """Another would go on alone, at other moments."""
    for turn in (None, lambda: None):
        time_sides([side(4, CPU)], [side(4, CPU)], CPU, QUICK, limit=0.05, turn=turn)
    assert [plan.enough_error for plan in plans] == pytest.approx([0.005, 0.0])


def test_ranks_are_not_asked_who_waits(paces: Paces) -> None:
    alone = SimpleNamespace(size=1, gather=lambda value: [value], largest=lambda value: value, meet=lambda: None)
    timed = time_sides([side(4, CPU)], [side(4, CPU)], CPU, QUICK, limit=0.1, team=cast("Together", alone))
    assert paces.chosen == [None]
    assert timed.waiting == frozenset()


def test_all_sides_of_two_revisions_are_asked_within_their_own(paces: Paces) -> None:
    paces.answers = [False, False, False, True]
    entered: list[str] = []

    def maker(name: str) -> Maker:
        def active() -> AbstractContextManager[None]:
            entered.append(name)
            return contextlib.nullcontext()

        return Maker(lambda: side(4, CPU), lambda: side(4, CPU), active)

    placed = tuple(Placed([side(4, CPU)], [side(4, CPU)]) for _ in range(2))
    timed = time_revisions((placed[0], placed[1]), maker("head"), maker("base"), CPU, QUICK).head
    assert paces.chosen == [timed.waiting] == [{Variant.BASE_CANDIDATE}]
    assert entered[:4] == ["head", "base", "head", "base"]
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
    assert timed.waiting == ({Variant.REFERENCE, Variant.CANDIDATE} if waits else set())
    without = time_sides([side(width, GPU)], [side(width, GPU)], GPU, QUICK, limit=0.1, has_kernels=False)
    assert without.device is None


@pytest.mark.gpu
def test_torch_s_threads_for_the_backward_pass_are_known_by_their_name() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    torch.autograd.backward(torch.ones(2, device=GPU, requires_grad=True).sum())
    assert threads_named(timing._BACKWARD_THREADS)
