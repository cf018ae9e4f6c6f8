from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pytest_nnopt.baseline.elsewhere import Elsewhere
from pytest_nnopt.baseline.schema import Evidence, KernelRecord, ProcessRecord, RatioRecord
from pytest_nnopt.model import (
    Check,
    CheckName,
    CompileFacts,
    CompileStatus,
    Interval,
    Outcome,
)
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.verdict import Observed, judge, wanted_processes
from pytest_nnopt.verdict.times import check_latency, check_speedup
from tests.builders import (
    BOTH_SIDES,
    led_by,
    make_compile_record,
    make_config,
    make_evidence,
    make_process,
    make_question,
    make_timing,
    on_machine,
)

MISSING = "no baseline for the case; record one with pytest --nnopt-update"
LOUD_PRIOR = VariancePrior(0.2**2, 30.0)


def only(*names: CheckName) -> frozenset[CheckName]:
    return frozenset(names)


def with_kernels(process: ProcessRecord, seconds: float) -> ProcessRecord:
    return process.model_copy(update={"kernels": {"gemm": KernelRecord(count=1, seconds=seconds)}})


class TestSpeedup:
    @pytest.mark.parametrize(
        ("ratio", "outcome", "relation"),
        [
            (0.5, Outcome.PASSED, "is above the minimum of 1.15x"),
            (1 / 1.15, Outcome.INCONCLUSIVE, "is not clearly on either side of the minimum of 1.15x"),
            (1.0, Outcome.FAILED, "is below the minimum of 1.15x"),
        ],
    )
    def test_the_measured_speedup_is_held_against_the_minimum(
        self, ratio: float, outcome: Outcome, relation: str
    ) -> None:
        check = check_speedup(make_question(make_config(min_speedup=1.15)), make_timing(ratio))
        assert check.outcome is outcome
        assert check.reason.startswith(f"speedup {1 / ratio:.2f}x [")
        assert check.reason.endswith(relation)
        assert check.value == pytest.approx(1 / ratio, rel=1e-3)
        assert check.limit == 1.15

    def test_the_interval_holds_the_speedup_and_the_details_say_how_sure_it_is(self) -> None:
        check = check_speedup(make_question(make_config(min_speedup=1.15)), make_timing(0.5))
        assert check.interval is not None
        assert check.value is not None
        assert check.interval.low < check.value < check.interval.high
        assert check.certainty is not None
        assert check.certainty.processes == 8
        assert check.details == (
            "8 processes; one process varies by 0.46 % (0.10 % from its own blocks)",
            "the smallest change this evidence would find in 95 % of runs is 0.88 %",
        )

    def test_one_process_is_called_one(self) -> None:
        check = check_speedup(make_question(make_config(min_speedup=1.15)), make_timing(0.5, count=1))
        assert check.details[0].startswith("1 process; ")

    def test_unmeasured_is_inconclusive(self) -> None:
        check = check_speedup(make_question(make_config(min_speedup=1.15)), ())
        assert check == Check(CheckName.SPEEDUP, Outcome.INCONCLUSIVE, "speedup was not measured", limit=1.15)


class TestLatency:
    def check(self, ratio: float, *, count: int = 8, baseline: Evidence | None = None, **fields: Any) -> Check:
        question = make_question(
            make_config(latency=0.05), is_comparing=True, baseline=baseline or make_evidence(1.0), **fields
        )
        return check_latency(question, make_timing(ratio, count=count))

    def moved(self, ratio: float, pace: float, baseline: Evidence | None = None, **fields: Any) -> Check:
        question = make_question(
            make_config(latency=0.05), is_comparing=True, baseline=baseline or make_evidence(1.0), **fields
        )
        return check_latency(question, on_machine(make_timing(ratio), pace))

    @pytest.mark.parametrize(
        ("pace", "words"),
        [(1.3, "slower than in the baseline, a fixed workload's time +30.0 %"), (0.7, "faster"), (1.02, "")],
    )
    def test_a_machine_that_moved_since_the_baseline_is_named_and_leaves_the_case_open(
        self, pace: float, words: str
    ) -> None:
        check = self.moved(1.12, pace)
        assert check.outcome is (Outcome.INCONCLUSIVE if words else Outcome.FAILED)
        said = [detail for detail in check.details if detail.startswith("the machine is")]
        assert [words in detail for detail in said] == ([True] if words else [])
        assert ("; the machine is" in check.reason) == bool(words)

    @pytest.mark.parametrize(
        ("now", "before", "is_named"),
        [(130e-6, 80e-6, True), (82e-6, 80e-6, False), (130e-6, None, False), (None, 80e-6, False)],
    )
    def test_so_is_a_host_that_is_slower_where_it_sets_the_pace_of_a_gpu(
        self, now: float | None, before: float | None, is_named: bool
    ) -> None:
        question = make_question(
            make_config(latency=0.05), is_comparing=True, baseline=Evidence(timing=led_by(make_timing(), before))
        )
        check = check_latency(question, led_by(make_timing(1.12), now))
        assert check.outcome is (Outcome.INCONCLUSIVE if is_named else Outcome.FAILED)
        said = "the host that leads the GPU is slower than in the baseline, a fixed loop's time +62.5 %"
        assert (f"; {said}" in check.reason) == is_named
        remedies = [detail for detail in check.details if detail.startswith(said)]
        assert ["as many of its cores are free" in remedy for remedy in remedies] == [True] * is_named

    @pytest.mark.parametrize("count", [2, 4, 8])
    def test_where_one_side_alone_waits_the_ratio_moves_with_all_of_the_host_s_pace(self, count: int) -> None:
        slower = make_timing(1.3, count=count)
        as_before = {"candidate_to_yardstick": make_process().candidate_to_yardstick}
        quicker_eager = tuple(process.model_copy(update=as_before) for process in slower)
        for now, before, timing, waiting, is_doubted in (
            (80e-6, 104e-6, quicker_eager, ("reference",), True),
            (104e-6, 80e-6, slower, ("candidate",), True),
            (104e-6, 80e-6, slower, BOTH_SIDES, False),
        ):
            baseline = Evidence(timing=led_by(make_timing(), before, waiting))
            question = make_question(make_config(latency=0.05), is_comparing=True, baseline=baseline)
            check = check_latency(question, led_by(timing, now, waiting))
            assert (check.outcome is Outcome.FAILED) != is_doubted
            assert any("one side alone feels that" in detail for detail in check.details) == is_doubted

    @pytest.mark.parametrize(
        "fields",
        [
            {"base": "main at 0123456"},
            {"foreign_times": Elsewhere(make_evidence(1.0), "cpu-other", ("cpu A, here B",))},
            {"takes_no_excuse": True},
        ],
    )
    def test_only_a_baseline_of_this_machine_tells_how_it_moved(self, fields: dict[str, Any]) -> None:
        check = self.moved(1.12, 1.3, **fields)
        assert check.outcome is Outcome.FAILED
        assert not [detail for detail in check.details if detail.startswith("the machine is")]

    def test_processes_without_a_fixed_workload_are_compared_as_they_are(self) -> None:
        bare = Evidence(
            timing=tuple(
                process.model_copy(update={"seconds": {"reference": 1e-3, "candidate": 1e-3}})
                for process in make_timing()
            )
        )
        assert self.moved(1.12, 1.3, baseline=bare).outcome is Outcome.FAILED

    def test_a_shared_slowdown_says_that_the_machine_moved(self) -> None:
        absolute = RatioRecord(log_ratio=math.log(3), variance=1e-6, blocks=40)
        now = on_machine(
            (p.model_copy(update={"candidate_to_yardstick": absolute}) for p in make_timing(1.0, count=4)), 0.7
        )
        question = make_question(make_config(latency=0.05), is_comparing=True, baseline=make_evidence(1.0))
        check = check_latency(question, now)
        assert check.outcome is Outcome.FAILED
        assert check.reason.endswith("beyond 3 times the limit of 5.00 %, while its ratio to eager is not clear")
        assert [detail for detail in check.details if detail.startswith("the machine is faster")]

    @pytest.mark.parametrize(
        ("ratio", "outcome", "relation"),
        [
            (1.0, Outcome.PASSED, "is within the limit of 5.00 %"),
            (0.9, Outcome.IMPROVED, "is within the limit of 5.00 %"),
            (1.049, Outcome.FAILED, "is a slowdown, and not shown to be within the limit of 5.00 %"),
            (1.2, Outcome.FAILED, "is beyond the limit of 5.00 %"),
        ],
    )
    def test_the_candidate_is_held_against_its_baseline(self, ratio: float, outcome: Outcome, relation: str) -> None:
        check = self.check(ratio)
        assert check.outcome is outcome
        assert check.reason.startswith("latency ")
        assert check.reason.endswith(relation)
        assert check.value == pytest.approx(ratio - 1, abs=1e-3)
        assert (check.baseline, check.limit) == (0.0, 0.05)

    def test_the_interval_holds_the_change(self) -> None:
        check = self.check(1.2)
        assert check.interval is not None
        assert check.interval.low < 0.2 < check.interval.high

    def test_the_level_is_relative_to_eager_in_the_same_process(self) -> None:
        assert self.check(0.5, baseline=make_evidence(0.5)).outcome is Outcome.PASSED
        assert self.check(0.5, baseline=make_evidence(0.4)).outcome is Outcome.FAILED

    def test_what_strays_could_explain_is_called_so(self) -> None:
        one = self.check(1.5, count=1)
        assert one.reason.endswith("is beyond the limit of 5.00 %, but one stray process could explain it")
        recorded = Evidence(timing=(*make_timing(count=9), make_process(math.log(1.07))))
        two = self.check(1.065, count=2, baseline=recorded, prior=VariancePrior(0.02**2, 6.0))
        assert two.reason.endswith("is beyond the limit of 5.00 %, but strays could explain it")
        assert "1 of the processes in the baseline went astray, so that more must agree on a slowdown" in two.details

    def test_one_process_alone_does_not_fail(self) -> None:
        assert self.check(1.2, count=1, prior=LOUD_PRIOR).outcome is Outcome.INCONCLUSIVE

    def test_unmeasured_is_inconclusive(self) -> None:
        assert self.check(1.0, count=0).outcome is Outcome.INCONCLUSIVE

    def test_a_missing_baseline_fails_with_its_remedy(self) -> None:
        check = check_latency(make_question(is_comparing=True, missing_reason=MISSING), make_timing())
        assert (check.outcome, check.reason) == (Outcome.NO_BASELINE, MISSING)

    def test_a_missing_baseline_that_is_recorded_now_is_skipped(self) -> None:
        check = check_latency(make_question(is_comparing=True, is_recording_missing=True), make_timing())
        assert (check.outcome, check.reason) == (
            Outcome.SKIPPED,
            "there was no baseline to compare with; this run records it",
        )
        question = make_question(is_comparing=True, is_recording_missing=True, unused="there are baselines for 'a'")
        check = check_latency(question, make_timing())
        assert (
            check.reason == "there was no baseline to compare with (there are baselines for 'a'); this run records it"
        )

    def test_a_baseline_without_times_is_none(self) -> None:
        check = self.check(1.0, baseline=Evidence(compile=make_compile_record()))
        assert (check.outcome, check.reason) == (
            Outcome.NO_BASELINE,
            "the baseline holds no times; record them with pytest --nnopt-update",
        )

    @pytest.mark.parametrize(("device", "limit"), [("cpu", 0.10), ("cuda", 0.05), ("mps", 0.10), ("xpu", 0.10)])
    def test_the_device_gives_the_limit_where_none_is_declared(self, device: str, limit: float) -> None:
        assert make_question(device=device).latency_limit == limit
        assert make_question(make_config(latency=0.5), device=device).latency_limit == 0.5


class TestWantedProcesses:
    def test_a_recording_wants_its_processes(self) -> None:
        question = make_question(recorded_processes=3, is_updating=True)
        assert [wanted_processes(question, make_timing(count=count)) for count in (0, 2, 3, 5)] == [3, 3, 3, 5]

    def test_an_open_question_wants_its_next_look_until_the_plan_is_spent(self) -> None:
        question = make_question(make_config(min_speedup=1.15), prior=LOUD_PRIOR)
        wanted = [wanted_processes(question, make_timing(1 / 1.15, count=count)) for count in (1, 2, 3, 4, 8)]
        assert wanted == [2, 4, 4, 8, 8]

    def test_a_decided_question_wants_no_more(self) -> None:
        question = make_question(
            make_config(min_speedup=1.15, latency=0.10), is_comparing=True, baseline=make_evidence(0.5)
        )
        assert wanted_processes(question, make_timing(0.5, count=4)) == 4

    def test_one_open_question_of_two_is_enough(self) -> None:
        question = make_question(
            make_config(min_speedup=1.15, latency=0.05), is_comparing=True, baseline=make_evidence(0.5 / 1.049)
        )
        assert wanted_processes(question, make_timing(0.5, count=4)) == 8

    def test_what_is_not_asked_is_not_open(self) -> None:
        question = make_question(
            make_config(min_speedup=1.15),
            is_comparing=True,
            baseline=make_evidence(0.9),
            asked=only(CheckName.COMPILE),
        )
        assert wanted_processes(question, make_timing(0.87, count=1)) == 1

    def test_a_baseline_without_times_leaves_nothing_to_decide(self) -> None:
        question = make_question(is_comparing=True, baseline=Evidence())
        assert wanted_processes(question, make_timing(count=1)) == 1


def test_an_interval_of_a_speedup_is_one_of_ratios() -> None:
    check = check_speedup(make_question(make_config(min_speedup=1.1)), make_timing(0.5))
    assert isinstance(check.interval, Interval)
    assert 1.9 < check.interval.low < 2.0 < check.interval.high < 2.1


def test_device_time_alone_asks_for_times_and_further_processes_on_a_gpu() -> None:
    level = make_evidence().model_copy(
        update={"timing": tuple(with_kernels(process, 1e-4) for process in make_timing())}
    )
    question = make_question(asked=frozenset({CheckName.DEVICE_TIME}), is_comparing=True, baseline=level, device="cuda")
    assert question.wants_timing
    assert wanted_processes(question, [with_kernels(make_timing()[0], 1.02e-4)]) == 2
    assert not make_question(asked=frozenset({CheckName.DEVICE_TIME}), is_comparing=True).wants_timing


def test_device_time_is_judged_and_asked_for_by_the_plan_of_the_case() -> None:
    level, now = (tuple(with_kernels(process, seconds) for process in make_timing()) for seconds in (1e-4, 1.1e-4))
    baseline = make_evidence().model_copy(update={"timing": level})
    asked: dict[str, Any] = {
        "asked": frozenset({CheckName.DEVICE_TIME}),
        "is_comparing": True,
        "baseline": baseline,
        "device": "cuda",
    }
    for plan, outcome, wanted in (
        (SequentialPlan(), Outcome.FAILED, 2),
        (SequentialPlan(false_alarms=1e-9), Outcome.INCONCLUSIVE, 4),
    ):
        question = make_question(plan=plan, **asked)
        observed = Observed(CompileFacts(CompileStatus.COMPILED), timing=now[:2])
        (check,) = [c for c in judge(question, observed).checks if c.name is CheckName.DEVICE_TIME]
        assert check.outcome is outcome
        assert wanted_processes(question, now[:2]) == wanted


def test_more_launches_than_before_want_as_many_processes_as_leave_nothing_to_chance() -> None:
    level = Evidence(timing=tuple(with_kernels(process, 1e-4) for process in make_timing(count=10)))
    question = make_question(is_comparing=True, baseline=level, asked=only(CheckName.DEVICE_TIME))
    kernels = {"gemm": KernelRecord(count=1, seconds=9e-5), "pad": KernelRecord(count=1, seconds=1e-5)}
    padded = make_timing()[0].model_copy(update={"kernels": kernels})
    assert wanted_processes(question, [padded]) == 3
    assert wanted_processes(question, [padded] * 3) == 3
    beside = replace(question, base="main", baseline=Evidence(timing=level.timing[:1]))
    assert wanted_processes(beside, [padded]) == 5
    slower = padded.model_copy(update={"kernels": {**kernels, "pad": KernelRecord(count=1, seconds=9e-5)}})
    assert [wanted_processes(question, [slower] * count) for count in (1, 2)] == [3, 2]
    of_one = replace(question, baseline=Evidence(timing=level.timing[:1]))
    assert wanted_processes(of_one, [padded]) == 1
    assert wanted_processes(question, [level.timing[0]]) == 1


def test_a_process_without_kernels_does_not_stand_in_for_one_with_them() -> None:
    level = Evidence(timing=tuple(with_kernels(process, 1e-4) for process in make_timing(count=10)))
    question = make_question(is_comparing=True, baseline=level, asked=only(CheckName.DEVICE_TIME))
    slower, bare = with_kernels(make_timing()[0], 1.1e-4), make_timing()[1]
    assert wanted_processes(question, [slower, bare]) == 3
    assert wanted_processes(question, [slower, *[bare] * 7]) == question.plan.max_processes


def test_kernels_of_no_time_are_none() -> None:
    timing = tuple(with_kernels(process, 0.0) for process in make_timing())
    question = make_question(is_comparing=True, baseline=Evidence(timing=timing), asked=only(CheckName.DEVICE_TIME))
    assert wanted_processes(question, timing) == len(timing)
    facts = CompileFacts(CompileStatus.COMPILED)
    assert CheckName.DEVICE_TIME not in {check.name for check in judge(question, Observed(facts, timing=timing)).checks}
