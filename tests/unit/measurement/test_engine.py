from __future__ import annotations

import gc
import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement import engine
from pytest_nnopt.measurement.engine import CaseTimer, Plan, measure_case, measure_cases, paused_collector
from pytest_nnopt.model import ProcessSample, Variant
from tests.fakes import FakeClock, FakeMachine, FakeWork

Cost = float | Callable[[float, int], float]
Work = dict[Variant, list[FakeWork]]

REFERENCE, CANDIDATE, YARDSTICK = Variant.REFERENCE, Variant.CANDIDATE, Variant.YARDSTICK


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def make_work(clock: FakeClock, **seconds: Cost) -> Work:
    return {Variant(name): [FakeWork(clock, cost)] for name, cost in seconds.items()}


def measure(clock: FakeClock, calls: Work, plan: Plan | None = None, random: Random | None = None) -> ProcessSample:
    plan = plan or Plan(max_blocks=12)
    return measure_case(calls, clock, plan, random=random or Random(7))


def test_exact_costs_are_measured_exactly(clock: FakeClock) -> None:
    sample = measure(clock, make_work(clock, reference=2e-4, candidate=1e-4, yardstick=4e-4))
    assert len(sample.blocks) == 12
    assert sample.seconds(REFERENCE) == pytest.approx([2e-4] * 12)
    assert sample.seconds(CANDIDATE) == pytest.approx([1e-4] * 12)
    assert sample.seconds(YARDSTICK) == pytest.approx([4e-4] * 12)
    assert sample.is_steady
    assert sample.dropped_blocks == 0


@pytest.mark.parametrize(("scatter", "blocks"), [(0.0, 14), (0.05, 18), (0.5, 40)])
def test_what_the_blocks_know_well_enough_is_measured_no_further(clock: FakeClock, scatter: float, blocks: int) -> None:
    chance = Random(3)
    calls = make_work(clock, reference=2e-4, candidate=lambda now, index: 1e-4 * math.exp(chance.gauss(0, scatter)))
    assert len(measure(clock, calls, Plan(enough_error=0.0025)).blocks) == blocks
    assert len(measure(clock, calls, Plan()).blocks) == 40


@pytest.mark.parametrize(("seconds", "blocks"), [(0.0, 14), (0.1, 18), (0.15, 26), (10.0, 40)])
def test_what_is_known_within_a_moment_is_not_enough(clock: FakeClock, seconds: float, blocks: int) -> None:
    calls = make_work(clock, reference=2e-4, candidate=1e-4)  # a block takes 6 ms
    plan = Plan(enough_error=0.0025, enough_seconds=seconds, warm_call_seconds=0.0)
    assert len(measure(clock, calls, plan).blocks) == blocks


def test_block_gives_each_variant_the_planned_time(clock: FakeClock) -> None:
    sample = measure(clock, make_work(clock, reference=2e-4, candidate=1e-6), Plan(block_seconds=0.002, max_blocks=12))
    assert sample.calls_per_block == {REFERENCE: 10, CANDIDATE: 2000}


def test_work_longer_than_a_block_is_called_once_a_timing(clock: FakeClock) -> None:
    sample = measure(clock, make_work(clock, reference=0.5, candidate=0.4))
    assert sample.calls_per_block == {REFERENCE: 2, CANDIDATE: 2}


def test_work_without_cost_ends_at_the_call_cap(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_CALLS", 100)
    sample = measure(clock, make_work(clock, reference=0.0), Plan(max_blocks=10, warmup_max_seconds=1e-9))
    assert sample.calls_per_block == {REFERENCE: 200}


def make_crowded_work(clock: FakeClock, seconds: float, cold_seconds: float) -> Work:
    """Return two variants whose call takes longer after one of the other, which had the caches to itself."""
    last = [""]

    def costs(name: str) -> Callable[[float, int], float]:
        def cost(_now: float, _index: int) -> float:
            is_cold, last[0] = last[0] != name, name
            return seconds + cold_seconds * is_cold

        return cost

    return make_work(clock, reference=costs("reference"), candidate=costs("candidate"))


@pytest.mark.parametrize(("seconds", "calls"), [(1.01e-3, 2), (0.9e-3, 4)])
def test_what_others_leave_in_the_caches_counts_at_no_number_of_calls(
    clock: FakeClock, seconds: float, calls: int
) -> None:
    sample = measure(clock, make_crowded_work(clock, seconds, 0.2e-3))
    assert sample.calls_per_block[CANDIDATE] == calls
    assert sample.seconds(CANDIDATE) == pytest.approx([seconds] * 12)


def test_a_long_call_is_not_made_for_nothing(clock: FakeClock) -> None:
    sample = measure(clock, make_crowded_work(clock, 30e-3, 0.2e-3))
    assert statistics.fmean(sample.seconds(CANDIDATE)) == pytest.approx(30.1e-3, rel=2e-3)
    measure(clock, works := make_work(clock, reference=30e-3), Plan(max_blocks=10, warmup_max_seconds=1e-9))
    assert works[REFERENCE][0].calls < 30


def test_no_border_makes_processes_of_two_kinds(clock: FakeClock) -> None:
    def excess_of(seconds: float, seed: int) -> float:
        plan = Plan(max_blocks=400, max_seconds=1e9, warm_call_seconds=0.01, seed=seed)
        sample = measure_case(make_crowded_work(clock, seconds, 2e-3), clock, plan)
        return statistics.fmean(sample.seconds(CANDIDATE)) - seconds

    most = excess_of(20.1e-3, 0)
    assert most > 1e-3
    for share, seconds in ((0, 9.9e-3), (0.01, 10.1e-3), (0.5, 15e-3), (0.9, 19e-3)):
        assert [excess_of(seconds, seed) for seed in range(8)] == pytest.approx([share * most] * 8, abs=0.1 * most)


def test_of_two_timings_in_a_block_one_is_warm_where_half_of_all_are(clock: FakeClock) -> None:
    work = make_work(clock, reference=15e-3, candidate=15e-3)
    timer = CaseTimer(work, clock, Plan(warm_call_seconds=0.01))
    timer.warm_up()
    for _ in range(10):
        clock.warm_calls.clear()
        timer.run_block()
        assert clock.warm_calls in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_block_order_is_mirrored_and_shuffled(clock: FakeClock) -> None:
    calls = make_work(clock, reference=1e-3, candidate=1e-3, yardstick=1e-3)
    timer = CaseTimer(calls, clock, Plan(), random=Random(3))
    timer.warm_up()
    orders = set()
    for _ in range(30):
        clock.timings.clear()
        timer.run_block()
        order = [next(v for v, copies in calls.items() if call in copies) for call, _ in clock.timings]
        assert order == order[::-1]
        assert set(order) == set(calls)
        orders.add(tuple(order[:3]))
    assert len(orders) == math.factorial(3)


@given(slope=st.floats(-0.5, 2.0), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_linear_drift_leaves_ratios_alone(slope: float, seed: int) -> None:
    clock = FakeClock()

    def drifting(cost: float) -> Cost:
        return lambda now, calls: cost * (1 + slope * now)

    calls = make_work(clock, reference=drifting(1.5e-3), candidate=drifting(1.5e-3))
    sample = measure(clock, calls, Plan(max_blocks=10), random=Random(seed))
    for block in sample.blocks:
        assert block.seconds_per_call[REFERENCE] == pytest.approx(block.seconds_per_call[CANDIDATE], rel=2e-4)


def test_noise_averages_out_over_blocks(clock: FakeClock) -> None:
    noise = Random(11)

    def noisy(cost: float) -> Cost:
        return lambda now, calls: cost * noise.lognormvariate(0, 0.05)

    calls = make_work(clock, reference=noisy(1.2e-3), candidate=noisy(1e-3))
    sample = measure(clock, calls, Plan(max_blocks=400, max_seconds=60.0))
    ratios = [math.log(r / c) for r, c in zip(sample.seconds(REFERENCE), sample.seconds(CANDIDATE), strict=True)]
    assert statistics.mean(ratios) == pytest.approx(math.log(1.2), abs=0.01)


def test_a_block_draws_one_copy_and_all_copies_get_their_turn(clock: FakeClock) -> None:
    copies = [FakeWork(clock, 1e-3) for _ in range(4)]
    timer = CaseTimer({CANDIDATE: copies}, clock, Plan(), random=Random(5))
    timer.warm_up()
    drawn = set()
    for _ in range(40):
        clock.timings.clear()
        timer.run_block()
        (copy,) = {call for call, _ in clock.timings}
        drawn.add(copy)
    assert drawn == set(copies)


def test_every_copy_is_called_before_anything_is_timed(clock: FakeClock) -> None:
    copies = [FakeWork(clock, 1e-3) for _ in range(6)]
    CaseTimer({CANDIDATE: copies}, clock, Plan(warmup_max_seconds=1.0)).warm_up()
    assert min(copy.calls for copy in copies) >= engine.FIRST_CALLS


def test_slow_copies_are_called_first_once_only(clock: FakeClock) -> None:
    copies = [FakeWork(clock, 3.0) for _ in range(3)]
    CaseTimer({CANDIDATE: copies}, clock, Plan(warmup_max_seconds=1.0)).warm_up()
    # one more round begins within the time; calibration adds two calls of the first copy
    assert [copy.calls for copy in copies] == [4, 2, 2]


def test_first_calls_may_compile_without_using_up_the_time(clock: FakeClock) -> None:
    def compiling(now: float, calls: int) -> float:
        return 100.0 if calls == 0 else 1e-3

    sample = measure(clock, make_work(clock, reference=compiling))
    assert len(sample.blocks) == 12
    assert sample.is_steady
    assert sample.warmup_seconds < 1


def test_warm_up_lasts_until_times_no_longer_fall(clock: FakeClock) -> None:
    def warming(now: float, calls: int) -> float:
        return 1e-3 * (1 + math.exp(-calls / 10))

    sample = measure(clock, make_work(clock, reference=warming))
    assert sample.is_steady
    assert sample.seconds(REFERENCE) == pytest.approx([1e-3] * 12, rel=0.1)
    assert sample.warmup_seconds > 2 * engine.WARMUP_WINDOW * 1e-3


def test_times_that_rise_are_drift_and_not_warm_up(clock: FakeClock) -> None:
    sample = measure(clock, make_work(clock, reference=lambda now, calls: 1e-3 * (1 + now)))
    assert sample.is_steady


def test_warm_up_that_never_settles_ends_at_its_cap_and_says_so(clock: FakeClock) -> None:
    plan = Plan(max_blocks=10, warmup_max_seconds=0.5)
    sample = measure(clock, make_work(clock, reference=lambda now, calls: 0.02 * 0.98**calls), plan)
    assert not sample.is_steady
    assert sample.warmup_seconds == pytest.approx(0.5, abs=0.02)


def test_work_too_slow_for_the_warm_up_is_not_called_steady(clock: FakeClock) -> None:
    sample = measure(clock, make_work(clock, reference=0.6), Plan(max_blocks=10, warmup_max_seconds=0.5))
    assert not sample.is_steady
    assert sample.calls_per_block == {REFERENCE: 2}


def test_time_runs_out_behind_the_least_number_of_blocks(clock: FakeClock) -> None:
    plan = Plan(min_blocks=4, max_blocks=40, max_seconds=0.1)
    assert len(measure(clock, make_work(clock, reference=0.5), plan).blocks) == 4


def test_time_runs_out_between_least_and_most_blocks(clock: FakeClock) -> None:
    plan = Plan(min_blocks=2, max_blocks=40, max_seconds=0.1)
    sample = measure(clock, make_work(clock, reference=1e-3, candidate=1e-3), plan)
    assert 2 < len(sample.blocks) < 40


def test_disturbed_blocks_are_dropped_and_counted(clock: FakeClock) -> None:
    machine = FakeMachine(["throttled", None, "throttled", "swapping"])
    timer = CaseTimer(make_work(clock, reference=1e-3), clock, Plan(max_blocks=12), machine=machine)
    (sample,) = measure_cases([timer])
    assert len(sample.blocks) == 12
    assert sample.dropped_blocks == 3
    assert timer.disturbances == sample.disturbances == {"throttled": 2, "swapping": 1}
    assert not timer.is_disturbed


def test_nothing_is_dropped_once_the_time_is_over(clock: FakeClock) -> None:
    plan = Plan(min_blocks=10, max_dropped_blocks=20, max_seconds=3.0, warmup_max_seconds=0.5)
    timer = CaseTimer(make_work(clock, reference=0.1), clock, plan, machine=FakeMachine(itertools.repeat("throttled")))
    (sample,) = measure_cases([timer])
    assert len(sample.blocks) == 10
    assert 0 < sample.dropped_blocks < 20
    assert timer.is_disturbed
    assert sample.disturbances == {"throttled": 10 + sample.dropped_blocks}


def test_a_disturbance_without_end_is_kept_behind_the_cap_and_said(clock: FakeClock) -> None:
    plan = Plan(max_blocks=12, max_dropped_blocks=5)
    machine = FakeMachine(itertools.repeat("throttled"))
    timer = CaseTimer(make_work(clock, reference=1e-3), clock, plan, machine=machine)
    (sample,) = measure_cases([timer])
    assert len(sample.blocks) == 12
    assert sample.dropped_blocks == plan.max_dropped_blocks
    assert timer.is_disturbed


def test_the_same_seed_measures_in_the_same_order(clock: FakeClock) -> None:
    def orders(plan: Plan) -> list[bool]:
        calls = make_work(clock, reference=1e-3, candidate=2e-3)
        clock.timings.clear()
        measure_case(calls, clock, plan)
        return [calls[REFERENCE][0] is call for call, _ in clock.timings]

    assert orders(Plan(seed=1, max_blocks=10)) == orders(Plan(seed=1, max_blocks=10))
    assert orders(Plan(seed=1, max_blocks=10)) != orders(Plan(seed=2, max_blocks=10))


def test_cases_take_turns_block_by_block(clock: FakeClock) -> None:
    works = [make_work(clock, reference=1e-3) for _ in range(3)]
    timers = [
        CaseTimer(work, clock, Plan(min_blocks=2, max_blocks=blocks))
        for work, blocks in zip(works, (2, 3, 4), strict=True)
    ]
    for timer in timers:
        timer.warm_up()
    clock.timings.clear()
    samples = measure_cases(timers)
    assert [len(sample.blocks) for sample in samples] == [2, 3, 4]
    blocks = clock.timings[::2]
    turns = [next(i for i, work in enumerate(works) if call in work[REFERENCE]) for call, _ in blocks]
    assert turns == [0, 1, 2, 0, 1, 2, 1, 2, 2]


def test_a_finished_case_measures_no_more(clock: FakeClock) -> None:
    timer = CaseTimer(make_work(clock, reference=1e-3), clock, Plan(min_blocks=1, max_blocks=1))
    assert timer.run_block() is False
    timings = len(clock.timings)
    assert timer.run_block() is False
    assert len(clock.timings) == timings


def test_sample_before_a_block_is_an_error(clock: FakeClock) -> None:
    timer = CaseTimer(make_work(clock, reference=1e-3), clock, Plan())
    with pytest.raises(MeasurementError, match="no block was measured"):
        timer.sample()


@pytest.mark.parametrize("calls", [{}, {REFERENCE: []}])
def test_nothing_to_time_is_an_error(clock: FakeClock, calls: Work) -> None:
    with pytest.raises(MeasurementError, match="nothing to time"):
        measure_case(calls, clock, Plan())


@pytest.mark.parametrize("options", [{"min_blocks": 5, "max_blocks": 4}, {"min_blocks": 0}, {"block_seconds": 0.0}])
def test_impossible_plan_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(MeasurementError, match="must be"):
        Plan(**options)


@pytest.fixture
def nothing_frozen() -> Iterator[None]:
    """Undo for a test what keeps the suite's own heap out of the collector's sight."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("nothing_frozen")
def test_collector_is_off_and_frozen_while_measuring_and_back_after(clock: FakeClock) -> None:
    states: list[tuple[bool, bool]] = []

    def work() -> None:
        clock.seconds += 1e-3
        states.append((gc.isenabled(), gc.get_freeze_count() > 0))

    measure_case({REFERENCE: [work]}, clock, Plan(max_blocks=10))
    assert set(states) == {(False, True)}
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("nothing_frozen")
def test_collector_comes_back_when_the_work_fails(clock: FakeClock) -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        measure_case({REFERENCE: [fail]}, clock, Plan())
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_collector_state_of_the_caller_is_kept() -> None:
    gc.disable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    try:
        with paused_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
        assert gc.get_freeze_count() == pytest.approx(frozen, rel=0.01)
    finally:
        gc.unfreeze()
        gc.enable()
