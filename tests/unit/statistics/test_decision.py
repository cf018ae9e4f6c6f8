from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import (
    DEFAULT_PLAN,
    Decision,
    Reason,
    decide_change,
    decide_minimum,
    decide_regression,
)
from pytest_nnopt.statistics.estimate import ProcessEstimate, estimate_log_ratio
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.statistics.sequential import SequentialPlan

SCATTER = (0.0, 0.01, -0.01, 0.02, -0.02, 0.005, -0.005, 0.015)

log_ratios = st.floats(-3, 3)
variances = st.floats(0, 1)
estimates = st.builds(ProcessEstimate, log_ratios, variances, st.integers(1, 100))
groups = st.lists(estimates, min_size=1, max_size=12)
limits = st.floats(0, 1)


def processes(count: int, log_ratio: float = 0.0) -> list[ProcessEstimate]:
    return [ProcessEstimate(log_ratio + SCATTER[i % 8], 1e-4, 40) for i in range(count)]


def decide(count: int, slowdown: float, *, limit: float = 0.05, plan: SequentialPlan = DEFAULT_PLAN) -> Decision:
    candidate = processes(count, math.log1p(slowdown))
    return decide_regression(candidate, processes(10), limit=limit, prior=DEFAULT_CPU_PRIOR, plan=plan)


@pytest.mark.parametrize(
    ("count", "slowdown", "outcome", "reason"),
    [
        (1, 0.0, Outcome.PASSED, Reason.WITHIN_LIMIT),
        (8, -0.2, Outcome.IMPROVED, Reason.FASTER),
        (8, -0.02, Outcome.PASSED, Reason.WITHIN_LIMIT),
        (1, 0.2, Outcome.INCONCLUSIVE, Reason.UNCONFIRMED),
        (2, 0.2, Outcome.FAILED, Reason.SLOWER_THAN_LIMIT),
        (1, 2.0, Outcome.INCONCLUSIVE, Reason.UNCONFIRMED),
        (4, 0.04, Outcome.INCONCLUSIVE, Reason.NEAR_LIMIT),
        (8, 0.045, Outcome.FAILED, Reason.NOT_WITHIN_LIMIT),
        (7, 0.045, Outcome.INCONCLUSIVE, Reason.NEAR_LIMIT),
        (8, 0.03, Outcome.INCONCLUSIVE, Reason.NEAR_LIMIT),
        (8, 0.02, Outcome.PASSED, Reason.WITHIN_LIMIT),
    ],
)
def test_outcomes_and_reasons(count: int, slowdown: float, outcome: Outcome, reason: Reason) -> None:
    decision = decide(count, slowdown, limit=0.10 if slowdown <= 0 else 0.05)
    assert (decision.outcome, decision.reason) == (outcome, reason)


def test_what_only_watches_fails_nothing_below_its_limit() -> None:
    candidate = processes(8, math.log1p(0.04))
    decision = decide_regression(candidate, processes(10), limit=0.05, prior=DEFAULT_CPU_PRIOR, is_watching=True)
    assert (decision.outcome, decision.reason) == (Outcome.INCONCLUSIVE, Reason.NEAR_LIMIT)


def test_a_limit_below_the_noise_is_called_too_noisy() -> None:
    assert decide(1, 0.0, limit=0.005).reason is Reason.TOO_NOISY


def test_an_open_question_asks_for_the_next_look_until_the_plan_is_spent() -> None:
    assert [decide(count, 0.03, limit=0.03).next_look for count in (1, 2, 4, 8)] == [2, 4, 8, None]
    assert decide(4, 0.02, limit=0.02).needs_more
    assert not decide(8, 0.01, limit=0.01).needs_more
    assert decide(8, 0.01, limit=0.01).outcome is Outcome.INCONCLUSIVE


def test_a_decided_question_asks_for_nothing() -> None:
    assert not decide(1, 0.0, limit=0.10).needs_more
    assert not decide(2, 0.3).needs_more


def test_one_process_each_side_rests_on_the_prior_and_not_on_its_blocks() -> None:
    certain = ProcessEstimate(math.log(1.08), 1e-12, 10_000)
    sure_baseline = [ProcessEstimate(0.0, 1e-12, 10_000)]
    decision = decide_regression([certain], sure_baseline, limit=0.05, prior=DEFAULT_CPU_PRIOR)
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert decision.interval.low < 0 < decision.interval.high
    assert decision.certainty.baseline_sd is None


def test_two_strays_of_eight_fail_nothing() -> None:
    candidate = [*processes(6), ProcessEstimate(0.4, 1e-4, 40), ProcessEstimate(0.4, 1e-4, 40)]
    decision = decide_regression(candidate, processes(10), limit=0.05, prior=DEFAULT_CPU_PRIOR)
    assert decision.change > 0.05
    assert decision.outcome is Outcome.INCONCLUSIVE


def test_a_strict_plan_does_not_fail_on_two_processes_what_four_must_show() -> None:
    strict = SequentialPlan(false_alarms=0.05 / 200)
    assert decide(2, 0.3, plan=strict).outcome is Outcome.INCONCLUSIVE
    assert decide(4, 0.3, plan=strict).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("slowdown", "outcome"), [(0.0, Outcome.PASSED), (0.3, Outcome.FAILED), (-0.3, Outcome.IMPROVED)]
)
def test_a_change_that_every_process_measured_itself(slowdown: float, outcome: Outcome) -> None:
    decision = decide_change(processes(8, math.log1p(slowdown)), limit=0.1, prior=DEFAULT_CPU_PRIOR)
    assert decision.outcome is outcome
    assert decision.change == pytest.approx(slowdown, abs=0.01)
    assert decision.certainty.baseline_processes is None


def test_figures_of_a_decision() -> None:
    decision = decide(4, 0.2)
    assert decision.change == pytest.approx(0.2, abs=0.02)
    assert decision.certainty.processes == 4
    assert decision.certainty.alarm_level == pytest.approx(0.01 * 0.95 / 3)
    assert decision.certainty.pass_level == pytest.approx(0.05 / 4)
    assert decision.interval.confidence == pytest.approx(
        1 - decision.certainty.alarm_level - decision.certainty.pass_level
    )
    assert decision.certainty.within_sd == pytest.approx(0.01)
    assert decision.certainty.between_sd**2 + decision.certainty.within_sd**2 == pytest.approx(
        decision.certainty.process_sd**2
    )
    assert 0 < decision.certainty.p_value < 0.01
    assert 0.05 < decision.certainty.minimum_detectable_effect < 0.2


@pytest.mark.parametrize(
    ("speedup", "count", "outcome", "reason"),
    [
        (1.40, 1, Outcome.PASSED, Reason.ABOVE_MINIMUM),
        (1.30, 2, Outcome.PASSED, Reason.ABOVE_MINIMUM),
        (1.15, 8, Outcome.INCONCLUSIVE, Reason.NEAR_LIMIT),
        (0.90, 1, Outcome.INCONCLUSIVE, Reason.UNCONFIRMED),
        (1.00, 2, Outcome.FAILED, Reason.BELOW_MINIMUM),
    ],
)
def test_a_declared_minimum(speedup: float, count: int, outcome: Outcome, reason: Reason) -> None:
    samples = processes(count, math.log(speedup))
    decision = decide_minimum(samples, minimum=1.15, prior=DEFAULT_CPU_PRIOR)
    assert (decision.outcome, decision.reason) == (outcome, reason)
    assert decision.interval.low <= decision.change <= decision.interval.high
    assert decision.change == pytest.approx(speedup - 1, abs=0.02)
    assert 0 < decision.certainty.minimum_detectable_effect < 1


@given(groups, groups, limits)
@settings(max_examples=80, deadline=None)
def test_the_interval_holds_the_estimate_and_every_figure_is_finite(
    candidate: list[ProcessEstimate], baseline: list[ProcessEstimate], limit: float
) -> None:
    decision = decide_regression(candidate, baseline, limit=limit, prior=DEFAULT_CPU_PRIOR)
    assert decision.interval.low <= decision.change <= decision.interval.high
    assert math.isfinite(decision.interval.high)
    assert math.isfinite(decision.certainty.minimum_detectable_effect)
    assert 0 <= decision.certainty.p_value <= 1


@given(groups, groups, limits, st.lists(st.floats(0, 2), min_size=12, max_size=12))
@settings(max_examples=80, deadline=None)
def test_slower_processes_never_turn_a_failure_into_a_pass(
    candidate: list[ProcessEstimate], baseline: list[ProcessEstimate], limit: float, delays: list[float]
) -> None:
    before = decide_regression(candidate, baseline, limit=limit, prior=DEFAULT_CPU_PRIOR)
    slower = [
        ProcessEstimate(estimate.log_ratio + delay, estimate.variance, estimate.blocks)
        for estimate, delay in zip(candidate, delays, strict=False)
    ]
    after = decide_regression(slower, baseline, limit=limit, prior=DEFAULT_CPU_PRIOR)
    if before.outcome is Outcome.FAILED:
        assert after.outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE)


@given(groups, groups, limits, st.floats(0, 2))
@settings(max_examples=80, deadline=None)
def test_a_candidate_slower_as_a_whole_never_looks_better(
    candidate: list[ProcessEstimate], baseline: list[ProcessEstimate], limit: float, delay: float
) -> None:
    rank = (Outcome.IMPROVED, Outcome.PASSED, Outcome.INCONCLUSIVE, Outcome.FAILED).index
    before = decide_regression(candidate, baseline, limit=limit, prior=DEFAULT_CPU_PRIOR)
    slower = [ProcessEstimate(e.log_ratio + delay + 1e-9, e.variance, e.blocks) for e in candidate]
    after = decide_regression(slower, baseline, limit=limit, prior=DEFAULT_CPU_PRIOR)
    assert rank(after.outcome) >= rank(before.outcome)


figures = st.floats(-0.03, 0.03)
slow_figures = st.lists(st.floats(0.05, 0.3), min_size=1, max_size=4)


@given(
    st.lists(figures, min_size=9, max_size=14),
    slow_figures,
    st.lists(st.floats(0.0, 0.3), min_size=8, max_size=8),
    st.sampled_from([0.05, 0.1]),
    st.floats(0, 0.02),
)
@settings(max_examples=300, deadline=None)
def test_strays_of_the_baseline_never_make_a_slower_candidate_look_better(
    steady: list[float], astray: list[float], candidate: list[float], limit: float, delay: float
) -> None:
    def fails(later: float) -> bool:
        now, before = (
            [ProcessEstimate(figure + shift, 1e-5, 40) for figure in figures]
            for figures, shift in ((candidate, later), ([*steady, *astray], 0.0))
        )
        return decide_regression(now, before, limit=limit, prior=DEFAULT_CPU_PRIOR).outcome is Outcome.FAILED

    assert fails(delay) or not fails(0.0)


@given(st.lists(st.floats(0.5, 2), min_size=2, max_size=30), st.sampled_from([1e-6, 1e-3, 60.0]))
@settings(max_examples=40, deadline=None)
def test_the_unit_of_time_does_not_change_a_decision(times: list[float], unit: float) -> None:
    def decide_in(scale: float) -> Decision:
        candidate = estimate_log_ratio([scale * time for time in times], [scale] * len(times))
        return decide_regression([candidate], processes(10), limit=0.05, prior=DEFAULT_CPU_PRIOR)

    assert decide_in(unit).change == pytest.approx(decide_in(1.0).change, abs=1e-9)
    assert decide_in(unit).interval.high == pytest.approx(decide_in(1.0).interval.high, abs=1e-9)


@pytest.mark.parametrize(
    ("astray", "first"),
    [
        (-0.3, (Outcome.INCONCLUSIVE, Reason.COULD_BE_LUCK, 2)),
        (0.3, (Outcome.PASSED, Reason.WITHIN_LIMIT, None)),
        (0.001, (Outcome.PASSED, Reason.WITHIN_LIMIT, None)),
    ],
)
def test_a_pass_needs_a_second_process_where_one_of_the_baseline_was_fast_by_chance(
    astray: float, first: tuple[Outcome, Reason, int | None]
) -> None:
    baseline = [*processes(9), ProcessEstimate(astray, 1e-4, 40)]
    decided = [decide_regression(processes(count), baseline, limit=0.08, prior=DEFAULT_CPU_PRIOR) for count in (1, 2)]
    assert (decided[0].outcome, decided[0].reason, decided[0].next_look) == first
    assert decided[1].outcome is Outcome.PASSED


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
def test_identical_processes_without_any_variance_are_no_exception(count: int) -> None:
    same = [ProcessEstimate(0.0, 0.0, 1)] * count
    assert decide_regression(same, same, limit=0.1, prior=DEFAULT_CPU_PRIOR).outcome in (
        Outcome.PASSED,
        Outcome.INCONCLUSIVE,
    )
    assert decide_minimum(same, minimum=1.0, prior=DEFAULT_CPU_PRIOR).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("limit", [-0.01, math.nan, math.inf])
def test_impossible_limits_are_refused(limit: float) -> None:
    with pytest.raises(MeasurementError, match="limit"):
        decide(1, 0.0, limit=limit)


@pytest.mark.parametrize("minimum", [0.0, -1.0, math.nan, math.inf])
def test_impossible_minima_are_refused(minimum: float) -> None:
    with pytest.raises(MeasurementError, match="minimum"):
        decide_minimum(processes(1), minimum=minimum, prior=DEFAULT_CPU_PRIOR)


def test_evidence_that_cannot_be_is_refused() -> None:
    with pytest.raises(MeasurementError):
        decide_regression([], processes(1), limit=0.05, prior=DEFAULT_CPU_PRIOR)
    with pytest.raises(MeasurementError):
        decide_minimum([], minimum=1.0, prior=DEFAULT_CPU_PRIOR)
