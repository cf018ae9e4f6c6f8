from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from pytest_nnopt.baseline.elsewhere import Elsewhere
from pytest_nnopt.baseline.schema import Evidence, ProcessRecord, RatioRecord, WorkRecord
from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.statistics.prior import DEFAULT_YARDSTICK_PRIOR
from pytest_nnopt.verdict import Question, wanted_processes
from pytest_nnopt.verdict.absolute import decide_absolute
from pytest_nnopt.verdict.times import check_latency
from tests.builders import BOTH_SIDES, led_by, make_config, make_process, make_question, make_timing

BEFORE = WorkRecord(operators={"aten.mm.default": 2}, elements=100)
AFTER = WorkRecord(operators={"aten.mm.default": 2, "aten.sin.default": 1}, elements=120)


def slower_alike(factor: float, count: int) -> tuple[ProcessRecord, ...]:
    """Processes whose both sides took ``factor`` times as long as usual, against the fixed workload."""
    absolute = RatioRecord(log_ratio=math.log(2 * factor), variance=1e-6, blocks=40)
    return tuple(
        process.model_copy(update={"candidate_to_yardstick": absolute}) for process in make_timing(1.0, count=count)
    )


def without_yardstick(count: int) -> tuple[ProcessRecord, ...]:
    return tuple(make_process().model_copy(update={"candidate_to_yardstick": None}) for _ in range(count))


def compare(**fields: Any) -> Question:
    usual: dict[str, Any] = {"is_comparing": True, "baseline": Evidence(timing=make_timing())}
    return make_question(**{**usual, **fields})


def test_what_slows_both_sides_alike_fails_though_their_ratio_is_as_before() -> None:
    check = check_latency(compare(), slower_alike(1.5, 4))
    assert check.outcome is Outcome.FAILED
    assert check.value == pytest.approx(0.5, rel=1e-3)
    assert check.reason.startswith("eager and the candidate are slower alike: against a fixed workload it is +50.0 % [")
    assert check.reason.endswith("], beyond 3 times the limit of 10.0 %, while their ratio is as before")
    assert any(
        line.startswith("latency +") and line.endswith("is within the limit of 10.0 %") for line in check.details
    )


def test_where_eager_is_slower_still_it_is_not_said_that_both_are_so_alike() -> None:
    slower = tuple(
        process.model_copy(update={"candidate_to_yardstick": other.candidate_to_yardstick})
        for process, other in zip(make_timing(0.6, count=4), slower_alike(1.5, 4), strict=True)
    )
    check = check_latency(compare(), slower)
    assert check.outcome is Outcome.FAILED
    assert check.reason.startswith("eager and the candidate are slower, eager the more so: against a fixed workload it")
    assert check.reason.endswith("while their ratio is -40.0 %")


def test_times_of_another_machine_say_nothing_of_what_slows_both_sides() -> None:
    elsewhere = Elsewhere(Evidence(timing=make_timing()), "cpu-other", ("cpu A, here B",))
    assert check_latency(compare(foreign_times=elsewhere), slower_alike(1.5, 4)).outcome is Outcome.PASSED


def test_a_shared_slowdown_below_its_limit_passes_and_is_said() -> None:
    check = check_latency(compare(), slower_alike(1.15, 4))
    assert check.outcome is Outcome.PASSED
    assert check.details[-1].startswith("against a fixed workload it is +15.0 % [")


def test_the_usual_noise_of_a_shared_machine_never_fails_alone() -> None:
    check = check_latency(compare(absolute_prior=DEFAULT_YARDSTICK_PRIOR), slower_alike(1.25, 4))
    assert check.outcome is Outcome.PASSED


def test_one_process_that_saw_both_slow_asks_for_another() -> None:
    question = compare()
    assert wanted_processes(question, slower_alike(1.5, 1)) == 2
    assert wanted_processes(question, slower_alike(1.0, 1)) == 1


def test_the_ratio_to_eager_speaks_first() -> None:
    slow = tuple(make_process(math.log(1.5)) for _ in range(4))
    check = check_latency(compare(), slow)
    assert check.outcome is Outcome.FAILED
    assert check.reason.startswith("latency +50.0 % against the baseline")
    assert check.details[-1].startswith("against a fixed workload it is +50.0 % [")


def on_hosts(slower: float, host: float, count: int = 4, waiting: tuple[str, ...] = BOTH_SIDES, **fields: Any) -> Check:
    """Compare processes that are so much slower, on a host whose loop takes so many times as long."""
    baseline = Evidence(timing=led_by(make_timing(count=10), 80e-6, waiting), work=BEFORE)
    question = compare(baseline=baseline, config=make_config(latency=0.05), device="cuda", **fields)
    return check_latency(question, led_by(slower_alike(slower, count), host * 80e-6, waiting))


@pytest.mark.parametrize("waiting", [BOTH_SIDES, ("candidate",)])
@pytest.mark.parametrize("pace", [1.2, 1.45, 1.6])
@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("fields", [{}, {"best": "the best level"}])
def test_a_slower_host_is_no_slowdown_of_what_waits_for_it(
    waiting: tuple[str, ...], pace: float, count: int, fields: dict[str, Any]
) -> None:
    """The fixed workload keeps the GPU busy, and takes as long as ever."""
    assert on_hosts(pace, pace, count, waiting, **fields).outcome is not Outcome.FAILED


@pytest.mark.parametrize(
    ("host", "waiting", "fields"),
    [
        (1.0, BOTH_SIDES, {}),
        (0.7, BOTH_SIDES, {}),
        (1.6, ("reference",), {}),
        (1.6, BOTH_SIDES, {"takes_no_excuse": True}),
    ],
    ids=["as it was", "faster", "not waited for", "recorded"],
)
def test_another_host_is_no_excuse(host: float, waiting: tuple[str, ...], fields: dict[str, Any]) -> None:
    assert on_hosts(1.6, host, 4, waiting, **fields).outcome is Outcome.FAILED


@pytest.mark.parametrize("count", [2, 8])
def test_of_another_model_all_of_a_slower_host_s_pace_is_left_open_and_said(count: int) -> None:
    check = on_hosts(1.3, 1.3, count, work=AFTER)
    assert check.outcome is Outcome.INCONCLUSIVE
    said = "the host that leads the GPU is slower than in the baseline, a fixed loop's time +30.0 %"
    assert check.reason.endswith(f"; {said}")
    assert any(detail.startswith(f"{said}: one side alone feels that") for detail in check.details)
    assert on_hosts(1.3, 1.0, count, work=AFTER).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "question",
    [
        compare(baseline=None),
        compare(baseline=Evidence(timing=without_yardstick(3))),
        compare(asked=frozenset({CheckName.SPEEDUP})),
    ],
    ids=["no baseline", "no fixed workload recorded", "latency not asked"],
)
def test_without_a_comparison_there_is_no_answer(question: Question) -> None:
    assert decide_absolute(question, make_timing()) is None


def test_processes_without_the_fixed_workload_are_left_out() -> None:
    question = compare()
    assert decide_absolute(question, without_yardstick(2)) is None
    mixed = decide_absolute(question, (*without_yardstick(2), *make_timing(count=3)))
    assert mixed is not None
    assert mixed.certainty.processes == 3


def test_few_of_a_cases_false_alarms_are_spent_here() -> None:
    question = compare()
    decision = decide_absolute(replace(question), make_timing(count=2))
    assert decision is not None
    assert decision.certainty.alarm_level == pytest.approx(0.2 * question.plan.look_at(2).alarm_level)


def compare_models(work: WorkRecord | None, before: WorkRecord | None = BEFORE, **fields: Any) -> Question:
    return compare(work=work, baseline=Evidence(timing=fields.pop("timing", make_timing()), work=before), **fields)


class TestAnotherModel:
    def test_a_model_that_does_more_is_held_to_the_whole_limit_by_the_fixed_workload(self) -> None:
        check = check_latency(compare_models(AFTER), slower_alike(1.15, 4))
        assert check.outcome is Outcome.FAILED
        assert check.reason.startswith("latency +15.0 % against the baseline [")
        assert check.details[-1] == (
            "the model itself changed (aten.sin.default 0 → 1), so eager's time is no measure: accept it with "
            "pytest --nnopt-update"
        )

    def test_a_model_that_does_less_passes_though_its_ratio_to_eager_is_worse(self) -> None:
        timing = tuple(
            process.model_copy(update={"candidate_to_reference": make_process(math.log(1.5)).candidate_to_reference})
            for process in slower_alike(0.8, 4)
        )
        assert check_latency(compare_models(AFTER), timing).outcome is Outcome.IMPROVED

    def test_its_processes_are_asked_for_by_the_fixed_workload(self) -> None:
        assert wanted_processes(compare_models(AFTER), slower_alike(1.1, 1)) == 2
        assert wanted_processes(compare_models(BEFORE), slower_alike(1.1, 1)) == 1

    def test_without_a_recorded_workload_nothing_can_be_told(self) -> None:
        check = check_latency(compare_models(AFTER, timing=without_yardstick(3)), make_timing())
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.reason == (
            "the model itself changed (aten.sin.default 0 → 1), so eager's time is no measure, and no time against a "
            "fixed workload was recorded here"
        )

    def test_where_its_noise_leaves_it_open_that_is_why(self) -> None:
        check = check_latency(compare_models(AFTER), slower_alike(1.1, 1))
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.reason.endswith(
            "; the model itself changed (aten.sin.default 0 → 1), so eager's time is no measure"
        )
        assert check.details[-1] == (
            "compare with the other revision in one run, by --nnopt-against, or accept it with pytest --nnopt-update"
        )

    @pytest.mark.parametrize(
        ("work", "ranks"),
        [(BEFORE.model_copy(update={"elements": 400}), None), (AFTER, 2)],
        ids=["other shapes", "ranks"],
    )
    def test_another_revision_is_named_where_it_could_tell(self, work: WorkRecord, ranks: int | None) -> None:
        question = compare_models(work)
        config = question.config.model_copy(update={"ranks": question.config.ranks.model_copy(update={"count": ranks})})
        check = check_latency(replace(question, config=config), slower_alike(1.1, 1))
        assert check.details[-1] == "accept it with pytest --nnopt-update"

    def test_many_changes_are_cut_short(self) -> None:
        many = WorkRecord(operators={f"aten.op{index}": 1 for index in range(9)}, elements=100)
        check = check_latency(compare_models(many), make_timing())
        assert "(aten.mm.default 2 → 0, aten.op0 0 → 1, aten.op1 0 → 1, aten.op2 0 → 1, …)" in check.details[-1]

    @pytest.mark.parametrize(
        ("work", "before", "changes"),
        [
            (BEFORE, BEFORE, ()),
            (None, BEFORE, ()),
            (AFTER, None, ()),
            (BEFORE.model_copy(update={"elements": 400}), BEFORE, ("tensor elements 100 → 400",)),
        ],
        ids=["the same", "not counted now", "not recorded", "other shapes"],
    )
    def test_what_counts_as_another_model(
        self, work: WorkRecord | None, before: WorkRecord | None, changes: tuple[str, ...]
    ) -> None:
        assert compare_models(work, before).changed_work == changes

    def test_without_a_baseline_no_model_is_another(self) -> None:
        assert compare(work=AFTER, baseline=None).changed_work == ()


def test_a_process_without_the_fixed_workload_does_not_stand_in_for_one_with_it() -> None:
    slower = slower_alike(1.6, 1)
    bare = tuple(process.model_copy(update={"candidate_to_yardstick": None}) for process in slower_alike(1.6, 1))
    assert wanted_processes(compare(), slower) == 2
    assert wanted_processes(compare(), [*slower, *bare]) == 3
