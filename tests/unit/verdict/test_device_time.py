from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.verdict.device_time import check_device_time, compare_launches, decide_device_time
from pytest_nnopt.verdict.ways import Ways
from tests.builders import make_process

SLOW, FAST = ("grid 64, block 512", 1.1e-4), ("grid 128, block 256", 1e-4)


def process(launch: str | None, seconds: float, rest: float = 9e-4) -> ProcessRecord:
    """Make a process of a kernel that is launched in some way and takes so long, and of another one."""
    kernels = {
        "chosen": KernelRecord(count=1, seconds=seconds, launch=launch),
        "gemm": KernelRecord(count=2, seconds=rest, launch="grid 32, block 128"),
    }
    return make_process().model_copy(update={"kernels": kernels})


def lottery(count: int, chooser: random.Random, *, slower: float = 0.0) -> list[ProcessRecord]:
    """Make processes in which chance decides how a kernel is launched, each with noise of 0.15 %."""
    made = []
    for _ in range(count):
        launch, seconds = chooser.choice((SLOW, FAST))
        noise = [(1 + slower) * math.exp(chooser.gauss(0, 0.0015)) for _ in range(2)]
        made.append(process(launch, seconds * noise[0], 9e-4 * noise[1]))
    return made


def spread(processes: Sequence[ProcessRecord]) -> float:
    figures = [estimate.log_ratio for estimate in Ways([], processes, DEFAULT_PLAN).device_estimates()[1]]
    return max(figures) - min(figures)


def test_times_of_a_kernel_are_compared_with_those_launched_alike() -> None:
    before = [process(*SLOW), process(*FAST)] * 3
    assert spread(before) == pytest.approx(0, abs=1e-9)
    for launch in (SLOW, FAST):
        assert check_device_time([process(*launch)], before, 0.02).value == pytest.approx(0, abs=1e-9)


def test_a_kernel_that_is_slower_than_those_launched_alike_is_slower() -> None:
    before = [process(*SLOW), process(*FAST)] * 3
    launch, seconds = FAST
    check = check_device_time([process(launch, 1.1 * seconds)] * 4, before, 0.005)
    assert check.outcome is Outcome.FAILED
    assert check.value == pytest.approx(0.0105, abs=1e-4)


def test_a_launch_that_the_baseline_does_not_know_counts_as_it_is() -> None:
    check = check_device_time([process(*SLOW)] * 4, [process(*FAST)] * 10, 0.005)
    assert check.outcome is Outcome.FAILED
    assert check.value == pytest.approx(0.01, abs=1e-4)


def test_a_changed_launch_is_named_with_its_kernel() -> None:
    check = check_device_time([process(*SLOW)] * 4, [process(*FAST)] * 10, 0.001)
    assert check.details == (
        "kernel chosen: 100 µs → 110 µs per call, launched with grid 64, block 512 (was grid 128, block 256)",
    )


def test_a_kernel_is_named_against_one_launched_alike_and_the_growth_as_measured_is_said() -> None:
    before = [process(*SLOW), process(*FAST)] * 5
    launch, seconds = SLOW
    check = check_device_time([process(launch, 1.1 * seconds)] * 4, before, 0.005)
    assert check.details == (
        "as measured +1.59 %; the figure above compares kernels launched alike",
        "kernel chosen: 110 µs → 121 µs per call",
    )


def test_an_unknown_launch_counts_as_it_is() -> None:
    before = [process(None, 1.1e-4)] * 3 + [process(*FAST)] * 3
    assert spread(before) == pytest.approx(math.log(1.01 / 1.005), rel=1e-3)


def test_a_launch_far_from_the_others_is_no_matter_of_chance_where_many_processes_agree_on_it() -> None:
    before = [process("grid 1, block 1", 1.8e-4)] + [process(*FAST)] * 9
    assert check_device_time([process("grid 1, block 1", 1.8e-4)] * 8, before, 0.02).outcome is Outcome.FAILED


def test_a_kernel_of_no_time_is_left_as_it_is() -> None:
    before = [process("grid 1, block 1", 0.0)] * 3
    assert spread(before) == 0


def test_processes_without_kernels_say_nothing() -> None:
    processes = [make_process(), process(*FAST)]
    now, before = Ways(processes, processes, DEFAULT_PLAN).device_estimates()
    assert (len(now), len(before)) == (1, 1)


def test_chance_among_launches_raises_no_alarm_and_hides_no_slowdown() -> None:
    chooser = random.Random(7)

    def failed(slower: float) -> int:
        found = 0
        for _ in range(300):
            before, now = lottery(10, chooser), lottery(8, chooser, slower=slower)
            found += any(decide_device_time(now[:n], before, 0.005).outcome is Outcome.FAILED for n in (1, 2, 4, 8))
        return found

    assert failed(0.0) == 0
    assert failed(0.01) >= 295


def test_kernels_share_the_false_alarms_of_a_suite() -> None:
    before, now = [process(*FAST)] * 10, [process("grid 128, block 256", 1.15e-4)] * 2
    assert decide_device_time(now, before, 0.005).outcome is Outcome.FAILED
    suite = plan_for_suite(DEFAULT_PLAN, 100_000)
    assert decide_device_time(now, before, 0.005, suite).outcome is Outcome.INCONCLUSIVE


def test_a_way_that_one_process_knows_is_no_measure_of_a_slowdown_in_it() -> None:
    before = [process("grid 1, block 1", 1.8e-4, rest=1e-4)] + [process("grid 2, block 1", 1.5e-4, rest=1e-4)] * 9
    check = check_device_time([process("grid 1, block 1", 1.7e-4, rest=1e-4)] * 8, before, 0.02)
    assert check.outcome is Outcome.FAILED


def test_a_growth_as_measured_beyond_the_limit_is_said_of_a_pass_as_well() -> None:
    before = [process(*SLOW), *[process(*FAST)] * 9]
    check = check_device_time([process(*SLOW)] * 4, before, 0.005)
    assert check.outcome is Outcome.PASSED
    assert check.details == ("as measured +0.97 %; the figure above compares kernels launched alike",)
    assert check_device_time([process(*SLOW)] * 4, before, 0.02).details == ()


def test_where_all_are_launched_alike_nothing_is_said_of_it_whatever_went_astray() -> None:
    launch, seconds = FAST
    before = [process(*FAST)] * 9 + [process(launch, 3 * seconds)]
    check = check_device_time([process(launch, 1.3 * seconds)] * 4, before, 0.005)
    assert [detail for detail in check.details if detail.startswith("as measured")] == []


def launching(*counts: float) -> list[ProcessRecord]:
    """Make processes that launch a kernel so often per call."""
    kernel = KernelRecord(count=1, seconds=1e-3, launch="grid 64, block 512")
    return [
        make_process().model_copy(update={"kernels": {"sums": kernel.model_copy(update={"count": count})}})
        for count in counts
    ]


@pytest.mark.parametrize(
    ("now", "before", "outcome"),
    [
        ([6], [5] * 10, Outcome.INCONCLUSIVE),
        ([6, 6], [5] * 10, Outcome.INCONCLUSIVE),
        ([6] * 3, [5] * 10, Outcome.FAILED),
        ([6] * 4, [5] * 3, Outcome.INCONCLUSIVE),
        ([6] * 8, [5] * 3, Outcome.FAILED),
        ([6] * 8, [5] * 2, Outcome.INCONCLUSIVE),
        ([5], [6] * 9 + [5], Outcome.PASSED),
        ([6], [6] * 9 + [5], Outcome.PASSED),
        ([6], [5] * 9 + [6], Outcome.PASSED),
        ([6, 5], [5] * 10, Outcome.PASSED),
    ],
)
def test_more_launches_fail_where_no_process_of_the_baseline_has_as_many(
    now: list[float], before: list[float], outcome: Outcome
) -> None:
    assert check_device_time(launching(*now), launching(*before), 0.02).outcome is outcome


def test_more_launches_of_one_process_want_another_as_chance_could_explain_them() -> None:
    check = check_device_time(launching(6), launching(*[5] * 10), 0.02)
    assert check.reason == (
        "6 kernels are launched per call, the baseline has 5, but 1 process has seen it, and chance could explain it, "
        "as where the compiler chooses by timing"
    )
    assert check.interval is not None
    assert compare_launches(launching(6), launching(*[5] * 10)).enough == 3
    assert compare_launches(launching(*[6] * 3), launching(*[5] * 10)).enough is None
    assert compare_launches(launching(5), launching(*[5] * 10)).enough is None


def test_a_process_of_which_nobody_knows_what_it_launched_does_not_count() -> None:
    bare = make_process()
    assert not compare_launches([bare, bare, *launching(6)], launching(*[5] * 10)).is_certain
    assert not compare_launches(launching(*[6] * 3), [*[bare] * 10, *launching(5)]).is_certain


@pytest.mark.parametrize(("is_stored", "told"), [(True, 1), (False, 0)])
def test_a_small_baseline_is_to_be_recorded_anew_and_another_revision_not(is_stored: bool, told: int) -> None:
    check = check_device_time(launching(*[6] * 3), launching(*[5] * 3), 0.02, is_stored=is_stored)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert sum("record ten processes" in line for line in check.details) == told
    assert f"{7 if is_stored else 5} processes that all launch more would tell" in check.details


def test_what_launches_more_is_to_be_accepted_as_no_limit_allows_it() -> None:
    check = check_device_time(launching(*[6] * 8), launching(*[5] * 10), 1000.0)
    assert check.outcome is Outcome.FAILED
    assert check.remedy == "mend what launches them; or accept them with pytest --nnopt-update --nnopt-reason TEXT"


def test_where_chance_is_no_excuse_one_process_with_more_launches_fails() -> None:
    check = check_device_time(launching(6), launching(5), 0.02, is_strict=True)
    assert check.outcome is Outcome.FAILED
    assert check.reason == "6 kernels are launched per call, the baseline has 5"


def test_a_large_suite_wants_more_processes_to_agree_on_more_launches() -> None:
    plan = plan_for_suite(DEFAULT_PLAN, 200)
    assert compare_launches(launching(*[6] * 4), launching(*[5] * 10), plan).enough == 7
    assert compare_launches(launching(*[6] * 7), launching(*[5] * 10), plan).is_certain
    assert check_device_time(launching(6, 6), launching(*[5] * 10), 0.02, plan=plan).outcome is Outcome.INCONCLUSIVE


def test_slower_kernels_fail_even_where_more_launches_alone_would_not() -> None:
    plan = plan_for_suite(DEFAULT_PLAN, 200)
    before = [process(*FAST)] * 10
    extra = KernelRecord(count=1, seconds=1e-4, launch="grid 1, block 32")
    now = [one.model_copy(update={"kernels": {**one.kernels, "extra": extra}}) for one in before[:2]]
    check = check_device_time(now, before, 0.02, plan=plan)
    assert check.outcome is Outcome.FAILED
    assert "beyond the limit" in check.reason


def test_chance_among_kernels_seldom_fails_unchanged_code() -> None:
    chooser, alarms, cases = random.Random(3), 0, 4000
    for _ in range(cases):
        before = launching(*(6 if chooser.random() < 0.03 else 5 for _ in range(10)))
        now = launching(*(6 if chooser.random() < 0.03 else 5 for _ in range(4)))
        looks = (check_device_time(now[:count], before, 0.02).outcome for count in (1, 2, 4))
        alarms += Outcome.FAILED in looks
    assert alarms <= 0.002 * cases
