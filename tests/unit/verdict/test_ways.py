"""What chance may have drawn of ways to launch a kernel, and how decisions heed it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.baseline.schema import BaseRecord, Evidence, KernelRecord, ProcessRecord, RatioRecord
from pytest_nnopt.model import Check, Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.verdict.absolute import decide_absolute
from pytest_nnopt.verdict.device_time import check_device_time, decide_device_time
from pytest_nnopt.verdict.fitness import find_noise
from pytest_nnopt.verdict.times import check_latency
from pytest_nnopt.verdict.wanted import wanted_processes
from pytest_nnopt.verdict.ways import Ways
from tests.builders import make_config, make_process, make_question

Way = tuple[str | None, float]
Judge = Callable[[list[ProcessRecord], list[ProcessRecord]], Check]

QUICK, SLOW, UNKNOWN = ("grid 256, block 512", 290e-6), ("grid 64, block 512", 420e-6), ("grid 1, block 64", 400e-6)
REST = 2.33e-3
"""Seconds of the other kernels of a call: the slow way makes it 5 % longer."""


def process(
    way: Way, *, slower: float = 0.0, waiting: tuple[str, ...] = (), wall: float | None = None
) -> ProcessRecord:
    """Make a process of a GPU that is busy with kernels all the time, one of which is launched in some way."""
    launch, seconds = way
    kernels = {
        "sums": KernelRecord(count=1, seconds=seconds * (1 + slower), launch=launch),
        "gemm": KernelRecord(count=2, seconds=REST * (1 + slower), launch="grid 32, block 128"),
        "copies": KernelRecord(count=1, seconds=1e-6, launch=None),
    }
    busy = sum(kernel.seconds for kernel in kernels.values())
    made = make_process(math.log(busy / 4e-3))
    seconds_by_side = {**made.seconds, "candidate": wall or busy}
    return made.model_copy(update={"kernels": kernels, "seconds": seconds_by_side, "waiting": waiting})


RECORDED = [process(QUICK)] * 10
RECORDED_WITH_BOTH = [process(QUICK)] * 8 + [process(SLOW)] * 2


def device_time(now: list[ProcessRecord], before: list[ProcessRecord], limit: float = 0.02) -> Check:
    return check_device_time(now, before, limit)


def latency(now: list[ProcessRecord], before: list[ProcessRecord], *, limit: float = 0.02) -> Check:
    question = make_question(make_config(latency=limit), is_comparing=True, baseline=Evidence(timing=tuple(before)))
    return check_latency(question, now)


@pytest.mark.parametrize("check", [device_time, latency])
@pytest.mark.parametrize("before", [RECORDED, RECORDED_WITH_BOTH])
class TestUnchangedCode:
    """One process in five or so launches a kernel in a slow way."""

    def test_a_slow_way_in_every_process_is_left_open(self, check: Judge, before: list[ProcessRecord]) -> None:
        for count in (1, 2):
            assert check([process(SLOW)] * count, before).outcome is Outcome.INCONCLUSIVE

    def test_it_passes_as_soon_as_processes_launch_as_usual(self, check: Judge, before: list[ProcessRecord]) -> None:
        now = [process(SLOW), process(QUICK), process(QUICK), process(QUICK)]
        two = check(now[:2], before)
        assert two.outcome is (Outcome.PASSED if before is RECORDED_WITH_BOTH else Outcome.INCONCLUSIVE)
        found = check(now, before)
        assert found.outcome is Outcome.PASSED
        assert found.value == pytest.approx(0, abs=1e-6)

    def test_ways_that_a_baseline_holds_do_not_make_it_noisy(self, check: Judge, before: list[ProcessRecord]) -> None:
        assert check([process(QUICK)], before).outcome is Outcome.PASSED


@pytest.mark.parametrize("check", [device_time, latency])
class TestChangedCode:
    def test_a_slow_way_in_so_many_processes_that_chance_hardly_draws_it_fails(self, check: Judge) -> None:
        assert check([process(SLOW)] * 4, RECORDED).outcome is Outcome.FAILED
        assert check([process(SLOW)] * 4, RECORDED_WITH_BOTH).outcome is Outcome.INCONCLUSIVE
        assert check([process(SLOW)] * 8, RECORDED_WITH_BOTH).outcome is Outcome.FAILED

    def test_a_way_that_takes_more_than_twice_as_long_is_no_choice(self, check: Judge) -> None:
        assert check([process((UNKNOWN[0], 2.1 * QUICK[1]))] * 2, RECORDED).outcome is Outcome.FAILED

    def test_a_slowdown_of_all_kernels_is_found_whatever_their_ways(self, check: Judge) -> None:
        now = [process(way, slower=0.06) for way in (QUICK, SLOW, UNKNOWN, QUICK)]
        for before in (RECORDED, RECORDED_WITH_BOTH):
            found = check(now, before)
            assert found.outcome is Outcome.FAILED
            assert found.value is not None
            assert found.value >= 0.059


def test_a_pass_that_leaves_ways_out_says_what_was_measured() -> None:
    for check, measured in ((latency, "+2.09 %"), (device_time, "+2.40 %")):
        found = check([process(SLOW), process(QUICK)], RECORDED_WITH_BOTH, limit=0.01)
        assert f"as measured {measured}; the figure above compares kernels launched alike" in found.details


def test_what_a_decision_without_ways_finds_is_said_beside_what_was_measured() -> None:
    found = device_time(
        [process(SLOW, slower=0.06), process(QUICK, slower=0.06)] * 2, [process(QUICK), process(SLOW)] * 5
    )
    assert found.outcome is Outcome.FAILED
    assert found.value == pytest.approx(0.06, abs=1e-3)


def test_a_reason_names_chance_and_its_details_the_kernel() -> None:
    for found in (device_time([process(SLOW)] * 2, RECORDED), latency([process(SLOW)] * 2, RECORDED)):
        assert found.outcome is Outcome.INCONCLUSIVE
        assert found.reason.endswith(
            "%, but the ways in which kernels are launched, which the compiler chooses by timing, could explain it"
        )
        assert (
            "kernel sums is launched in a slower way in 2 of 2 processes, and in 0 of 10 of the baseline: 420 µs per "
            "call, where the baseline takes 290 µs on average"
        ) in found.details


def test_further_processes_are_asked_for_while_chance_could_explain_it() -> None:
    question = make_question(
        make_config(latency=0.03), is_comparing=True, device="cuda", baseline=Evidence(timing=tuple(RECORDED))
    )
    assert wanted_processes(question, [process(SLOW)] * 2) == 4
    assert wanted_processes(question, [process(SLOW)] * 4) == 4


def test_in_a_large_suite_more_processes_must_agree() -> None:
    plan = plan_for_suite(DEFAULT_PLAN, 100)
    assert decide_device_time([process(SLOW)] * 4, RECORDED, 0.02, plan).outcome is Outcome.INCONCLUSIVE
    assert decide_device_time([process(SLOW)] * 8, RECORDED, 0.02, plan).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"waiting": ("candidate",)}, id="the GPU waits for its host"),
        pytest.param({"wall": 2e-3}, id="kernels overlap"),
    ],
)
def test_latency_counts_as_measured_where_kernels_do_not_add_up_to_it(others: dict[str, Any]) -> None:
    now, before = [process(SLOW, **others)] * 2, [process(QUICK, **others)] * 10
    assert latency(now, before).outcome is Outcome.FAILED


class TestWaysThatSayLittle:
    """Ways that few processes knew, or that nobody knows, hide no slowdown."""

    @staticmethod
    def sums(launch: str | None, microseconds: float, *, rest: float = 50.0) -> ProcessRecord:
        kernels = {
            "sums": KernelRecord(count=1, seconds=microseconds * 1e-6, launch=launch),
            "gemm": KernelRecord(count=1, seconds=rest * 1e-6, launch="grid 32"),
        }
        return make_process().model_copy(update={"kernels": kernels})

    def judged(self, now: list[ProcessRecord], before: list[ProcessRecord], limit: float = 0.02) -> Outcome:
        return check_device_time(now, before, limit).outcome

    @pytest.mark.parametrize("count", [2, 8])
    def test_twice_as_slow_as_the_quick_process_of_the_baseline(self, count: int) -> None:
        before = [self.sums("A", 100), *[self.sums("B", 145)] * 9]
        assert self.judged([self.sums("A", 200)] * count, before) is Outcome.FAILED
        assert self.judged([self.sums("C", 280)] * 4 + [self.sums("A", 250)] * 4, before) is Outcome.FAILED

    def test_far_slower_than_quick_ways_that_are_no_choice(self) -> None:
        before = [*[self.sums("A", 40)] * 2, *[self.sums("B", 100)] * 8]
        assert self.judged([self.sums("A", 170)] * 2, before) is Outcome.FAILED

    def test_a_disturbed_process_of_the_baseline_excuses_nothing(self) -> None:
        before = [self.sums("A", 180), *[self.sums("B", 100)] * 9]
        assert self.judged([self.sums("A", 125), self.sums("B", 125)] * 2, before) is Outcome.FAILED

    @pytest.mark.parametrize(
        "before",
        [
            pytest.param([(None, 100.0)] * 9 + [("Q", 100.0)], id="mostly unknown"),
            pytest.param([(None, 100.0)] * 10, id="all unknown"),
        ],
    )
    def test_ways_that_were_not_recorded(self, before: list[tuple[str | None, float]]) -> None:
        now = [self.sums("S", 160)] * 7 + [self.sums("R", 155)]
        assert self.judged(now, [self.sums(*way) for way in before]) is Outcome.FAILED

    def test_a_kernel_that_one_process_of_the_baseline_had(self) -> None:
        def named(name: str, launch: str, microseconds: float) -> ProcessRecord:
            kernel = KernelRecord(count=1, seconds=microseconds * 1e-6, launch=launch)
            return make_process().model_copy(update={"kernels": {name: kernel}})

        before = [named("one", "a", 100)] * 9 + [named("other", "a", 100)]
        assert self.judged([named("other", "b", 190)] * 8, before) is Outcome.FAILED

    def test_levels_of_the_baseline_do_not_move_with_this_run(self) -> None:
        before = [self.sums("A", 100, rest=100)] * 3 + [self.sums("B", 170, rest=100)]
        assert self.judged([self.sums("A", 112, rest=100)] * 4, before, 0.05) is Outcome.FAILED

    def test_quick_ways_do_not_hide_that_all_kernels_are_slower(self) -> None:
        for before, seconds in (
            ([*[self.sums("S", 145, rest=1)] * 8, *[self.sums("Q", 100, rest=1)] * 2], 130),
            ([*[self.sums("S", 145, rest=1)] * 4, self.sums("Q", 100, rest=1)], 110),
        ):
            check = check_device_time([self.sums("Q", seconds, rest=1)] * 2, [*before], 0.02)
            assert check.outcome is Outcome.INCONCLUSIVE
            assert check.reason.endswith("but may be as fast by chance as some of the baseline's")

    def test_quick_ways_in_so_many_processes_that_chance_hardly_draws_them_count(self) -> None:
        before = [*[self.sums("S", 145)] * 9, self.sums("Q", 100)]
        assert self.judged([self.sums("Q", 110)] * 8, before) in (Outcome.PASSED, Outcome.IMPROVED)

    def test_an_unknown_quick_way_is_no_merit(self) -> None:
        def both(first: tuple[str, float], second: tuple[str, float]) -> ProcessRecord:
            kernels = {
                name: KernelRecord(count=1, seconds=microseconds * 1e-6, launch=launch)
                for name, (launch, microseconds) in (("a", first), ("b", second))
            }
            return make_process().model_copy(update={"kernels": kernels})

        before = [both(("Q", 120), ("Q", 100))] * 8 + [both(("Q", 120), ("S", 145))] * 2
        now = [both(("Q2", 99), ("S", 159.5)), both(("Q2", 99), ("Q", 110))]
        assert self.judged(now, before) is Outcome.FAILED

    def test_eight_that_agree_are_enough_for_three_recorded_ones_in_a_suite_of_any_size(self) -> None:
        plan = plan_for_suite(DEFAULT_PLAN, 200)
        now, before = [self.sums("66 registers", 185, rest=100)] * 8, [self.sums("64 registers", 100, rest=100)] * 3
        assert decide_device_time(now, before, 0.02, plan).outcome is Outcome.FAILED
        assert decide_device_time(now[:4], before, 0.02, plan).outcome is Outcome.INCONCLUSIVE

    def test_where_chance_also_decides_which_kernels_there_are_ways_alone_fail_nothing(self) -> None:
        def of(**seconds: tuple[str, float]) -> ProcessRecord:
            kernels = {n: KernelRecord(count=1, seconds=s * 1e-6, launch=w) for n, (w, s) in seconds.items()}
            return make_process().model_copy(update={"kernels": kernels})

        before = [of(a=("q", 100), b=("q", 100))] * 3 + [
            of(a=("s", 140), b=("q", 100)),
            of(a=("q", 100), b=("q", 100), c=("q", 25)),
        ]
        now = [of(a=("q", 100), b=("q", 100), c=("q", 25))] * 2
        assert self.judged(now, before) is Outcome.INCONCLUSIVE

    def test_a_baseline_of_few_processes_is_said_to_know_few_ways(self) -> None:
        check = check_device_time([self.sums("S", 160)] * 8, [self.sums("Q", 100)] * 2, 0.02)
        assert check.outcome is Outcome.INCONCLUSIVE
        assert "so small a baseline may not know all that the compiler chooses: record ten processes" in check.details

    def test_a_quick_way_that_one_process_knew_is_no_improvement(self) -> None:
        before = [self.sums("Q", 60, rest=20), *[self.sums("S", 115, rest=20)] * 4]
        assert self.judged([self.sums("S", 115, rest=20)] * 4, before) is Outcome.PASSED


@given(
    ways=st.lists(st.sampled_from(["A", "B", "C", "D"]), min_size=1, max_size=8),
    recorded=st.lists(st.sampled_from(["A", "B", "D"]), min_size=1, max_size=10),
    slower=st.lists(st.floats(0, 1.5), min_size=2, max_size=2),
)
def test_one_slower_kernel_never_turns_failed_into_passed(
    ways: list[str], recorded: list[str], slower: list[float]
) -> None:
    less, more = sorted(slower)
    times = {"A": 100.0, "B": 145.0, "C": 130.0, "D": 60.0}
    before = [TestWaysThatSayLittle.sums(way, times[way]) for way in recorded]

    def outcome(by: float) -> Outcome:
        now = [TestWaysThatSayLittle.sums(way, times[way] * (1 + by)) for way in ways]
        return decide_device_time(now, before, 0.02).outcome

    if outcome(less) is Outcome.FAILED:
        assert outcome(more) not in (Outcome.PASSED, Outcome.IMPROVED)


class TestTwoRevisions:
    """Each process compiles both revisions anew, and draws ways for each."""

    @staticmethod
    def judged(*pairs: tuple[ProcessRecord, ProcessRecord], limit: float = 0.02) -> Check:
        def beside(head: ProcessRecord, base: ProcessRecord) -> ProcessRecord:
            log_ratio = math.log(head.seconds["candidate"] / base.seconds["candidate"])
            ratio = RatioRecord(log_ratio=log_ratio, variance=1e-6, blocks=40)
            even = RatioRecord(log_ratio=0.0, variance=1e-6, blocks=40)
            return head.model_copy(update={"base": BaseRecord(candidate=ratio, reference=even, process=base)})

        question = make_question(make_config(latency=limit), base="main (0123456)", is_comparing=True, device="cuda")
        return check_latency(question, [beside(*pair) for pair in pairs])

    def test_slow_ways_of_the_head_alone_are_left_open(self) -> None:
        check = self.judged(*[(process(SLOW), process(QUICK))] * 4)
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.details[0].startswith("kernel sums is launched in a slower way in 4 of 4 processes, and in 0 of 4")

    def test_they_fail_in_eight(self) -> None:
        assert self.judged(*[(process(SLOW), process(QUICK))] * 8).outcome is Outcome.FAILED

    def test_ways_that_both_draw_make_no_difference(self) -> None:
        check = self.judged(*[(process(SLOW), process(QUICK)), (process(QUICK), process(SLOW))] * 2, limit=0.03)
        assert check.outcome is Outcome.PASSED
        assert check.value == pytest.approx(0, abs=1e-6)
        assert check.details[0].startswith("eager ")
        pairs = [(process(SLOW), process(QUICK))] * 2 + [(process(QUICK), process(QUICK))] * 6
        check = self.judged(*pairs, limit=0.03)
        assert check.outcome is Outcome.PASSED
        assert check.details[0] == "as measured +1.22 %; the figure above compares kernels launched alike"

    def test_a_slowdown_of_all_kernels_is_found(self) -> None:
        pairs = [(process(SLOW, slower=0.06), process(QUICK)), (process(QUICK, slower=0.06), process(SLOW))] * 2
        check = self.judged(*pairs)
        assert check.outcome is Outcome.FAILED
        assert check.value == pytest.approx(0.06, abs=1e-3)


def test_times_that_choices_alone_make_noisy_are_fit_for_a_baseline() -> None:
    timing = [process(QUICK), process(SLOW)] * 5
    question = make_question(make_config(latency=0.01), recorded_processes=10)
    assert find_noise(question, timing) is None
    unpaced = [process(way, waiting=("candidate",)) for way in (QUICK, SLOW)] * 5
    assert find_noise(question, unpaced) is not None


def test_the_fixed_workload_overrules_no_choice() -> None:
    def beside(one: ProcessRecord) -> ProcessRecord:
        log_ratio = math.log(one.seconds["candidate"] / 1e-3)
        return one.model_copy(
            update={"candidate_to_yardstick": RatioRecord(log_ratio=log_ratio, variance=1e-8, blocks=40)}
        )

    slow = (SLOW[0], QUICK[1] * 1.9)
    quick, slower = (beside(process(way)) for way in (QUICK, slow))
    question = make_question(
        make_config(latency=0.02),
        is_comparing=True,
        baseline=Evidence(timing=(quick,) * 10),
        absolute_prior=VariancePrior(0.001**2, 30.0),
    )
    check = check_latency(question, [slower] * 2)
    assert decide_absolute(question, [slower] * 2).outcome is Outcome.FAILED  # type: ignore[union-attr]
    assert check.outcome is Outcome.INCONCLUSIVE
    assert "could explain it" in check.reason


def test_an_update_is_told_what_chance_might_explain() -> None:
    now = [process(SLOW)] * 2
    assert check_device_time(now, RECORDED, 0.02, is_strict=True).outcome is Outcome.FAILED
    question = make_question(
        make_config(latency=0.02), is_comparing=True, takes_no_excuse=True, baseline=Evidence(timing=tuple(RECORDED))
    )
    assert check_latency(question, now).outcome is Outcome.FAILED


def test_the_costliest_kernels_are_named_first_and_not_too_many() -> None:
    def draw(launch: str, factor: float) -> ProcessRecord:
        times = {"a": 1e-4, "b": 3e-4, "c": 2e-4, "d": 4e-4}
        kernels = {n: KernelRecord(count=1, seconds=factor * s, launch=launch) for n, s in times.items()}
        return make_process().model_copy(update={"kernels": kernels})

    lines = Ways([draw("grid 1", 1.5)], [draw("grid 2", 1.0)] * 10, DEFAULT_PLAN).describe()
    assert [line.split()[1] for line in lines] == ["d", "b", "c"]


def test_a_kernel_that_the_baseline_does_not_have_is_no_choice() -> None:
    added = KernelRecord(count=1, seconds=3e-4, launch="grid 7")
    now = [process(QUICK)] * 2
    now = [one.model_copy(update={"kernels": {**one.kernels, "added": added}}) for one in now]
    ways = Ways(now, RECORDED, DEFAULT_PLAN)
    assert ways.by_chance == frozenset()
    assert decide_device_time(now, RECORDED, 0.02).outcome is Outcome.FAILED


def test_a_kernel_that_this_run_does_not_have_is_no_choice_either() -> None:
    added = KernelRecord(count=1, seconds=3e-4, launch="grid 7")
    other = added.model_copy(update={"launch": "grid 8"})
    before = [
        one.model_copy(update={"kernels": {**one.kernels, "added": found}})
        for one, found in zip(RECORDED, [added, other] * 5, strict=True)
    ]
    assert Ways([process(QUICK)] * 2, before, DEFAULT_PLAN).by_chance == frozenset()


@given(
    ways=st.lists(st.sampled_from([QUICK, SLOW, UNKNOWN]), min_size=1, max_size=8),
    recorded=st.lists(st.sampled_from([QUICK, SLOW]), min_size=2, max_size=10),
    slower=st.lists(st.floats(0, 0.5), min_size=2, max_size=2),
)
def test_slower_never_turns_failed_into_passed(ways: list[Way], recorded: list[Way], slower: list[float]) -> None:
    less, more = sorted(slower)
    before = [process(way) for way in recorded]
    plan = SequentialPlan()

    def outcome(by: float) -> Outcome:
        return decide_device_time([process(way, slower=by) for way in ways], before, 0.02, plan).outcome

    if outcome(less) is Outcome.FAILED:
        assert outcome(more) not in (Outcome.PASSED, Outcome.IMPROVED)


@given(scale=st.floats(1e-3, 1e3), way=st.sampled_from([QUICK, SLOW, UNKNOWN]))
def test_units_do_not_matter(scale: float, way: Way) -> None:
    def scaled(one: ProcessRecord) -> ProcessRecord:
        kernels = {n: k.model_copy(update={"seconds": k.seconds * scale}) for n, k in one.kernels.items()}
        return one.model_copy(update={"kernels": kernels})

    now = [process(way), process(QUICK)]
    plain, other = (
        decide_device_time(*sides, 0.02)
        for sides in ((now, RECORDED_WITH_BOTH), (list(map(scaled, now)), list(map(scaled, RECORDED_WITH_BOTH))))
    )
    assert plain.outcome is other.outcome
    assert plain.change == pytest.approx(other.change, abs=1e-9)
