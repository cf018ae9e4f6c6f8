from __future__ import annotations

import math

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.evidence import (
    SESSION_SHARE,
    compare_processes,
    recorded_noise,
    recorded_stray_rate,
    standard_error,
    summarise_processes,
)
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.statistics.strays import (
    STRAY_PROBABILITY,
    choice_probability,
    learned_stray_rate,
    stray_probability,
    strays_allowed,
)

PRIOR = VariancePrior(0.03**2, 6.0)


def processes(*log_ratios: float, variance: float = 0.01**2) -> list[ProcessEstimate]:
    return [ProcessEstimate(log_ratio, variance, 40) for log_ratio in log_ratios]


def test_variance_is_moderated_by_the_formula() -> None:
    evidence = compare_processes(processes(0.10, 0.14), processes(0.0, 0.02, 0.04), PRIOR)
    sum_of_squares = 2 * 0.02**2 + 2 * 0.02**2
    assert evidence.log_ratio == pytest.approx(0.10)
    assert evidence.noise.degrees_of_freedom == 6 + 3
    assert evidence.noise.variance == pytest.approx((6 * 0.03**2 + sum_of_squares) / 9)
    assert evidence.standard_error**2 == pytest.approx(evidence.noise.variance * (1 / 2 + 1 / 3 + SESSION_SHARE))
    assert evidence.baseline_sd == pytest.approx(0.02)


def test_one_process_against_one_rests_on_the_prior() -> None:
    evidence = compare_processes(processes(0.1), processes(0.0), PRIOR)
    assert evidence.noise.variance == pytest.approx(PRIOR.variance)
    assert evidence.noise.degrees_of_freedom == PRIOR.degrees_of_freedom
    assert evidence.standard_error == pytest.approx(0.03 * math.sqrt(2 + SESSION_SHARE))
    assert evidence.baseline_sd is None


def test_noise_inside_the_candidate_beyond_the_baseline_counts() -> None:
    calm = compare_processes(processes(0.1, variance=0.0), processes(0.0), PRIOR)
    noisy = compare_processes(processes(0.1, variance=0.05**2), processes(0.0), PRIOR)
    assert noisy.standard_error**2 - calm.standard_error**2 == pytest.approx(0.05**2 - 0.01**2)


def test_between_variance_is_what_the_blocks_leave_over() -> None:
    evidence = summarise_processes(processes(0.1, variance=0.01**2), PRIOR)
    assert evidence.between_variance == pytest.approx(0.03**2 - 0.01**2)
    assert summarise_processes(processes(0.1, variance=1.0), PRIOR).between_variance == 0


def test_a_stray_in_the_baseline_is_pulled_in() -> None:
    steady = [0.0, 0.01, 0.02, 0.01, 0.0, 0.02, 0.01, 0.01, 0.0]
    evidence = compare_processes(processes(0.01), processes(*steady, 0.5), PRIOR)
    assert abs(evidence.log_ratio) < 0.012
    assert recorded_noise(processes(*steady, 0.5), PRIOR).standard_deviation < 0.04
    assert evidence.baseline_sd is not None
    assert evidence.baseline_sd > 0.1


def test_three_processes_are_too_few_to_call_one_a_stray() -> None:
    evidence = compare_processes(processes(0.0), processes(0.0, 0.0, 0.6), PRIOR)
    assert evidence.log_ratio == pytest.approx(-0.2)


def test_more_processes_narrow_the_error_down_to_what_a_session_shares() -> None:
    assert standard_error(PRIOR, processes=10**9) == pytest.approx(0.03 * math.sqrt(SESSION_SHARE))


@pytest.mark.parametrize(
    ("figures", "spare"), [((0.2, 0.2, 0.2), 2), ((0.0, 0.0, 0.2), 0), ((0.0, 0.2, 0.2), 1), ((0.0, 0.0, 0.0), -1)]
)
def test_how_many_slow_processes_can_be_spared(figures: tuple[float, ...], spare: int) -> None:
    evidence = summarise_processes(processes(*figures), PRIOR)
    assert evidence.slow_processes_to_spare(0.05) == spare


def test_two_processes_that_agree_are_no_surer_than_their_own_blocks() -> None:
    calm, noisy = (summarise_processes(processes(0.1, 0.1, variance=sd**2), PRIOR) for sd in (0.01, 0.14))
    assert noisy.standard_error == pytest.approx(0.14 / math.sqrt(2), rel=0.02)
    assert calm.standard_error == pytest.approx(standard_error(calm.noise, processes=2))


def test_strays_explain_less_the_more_processes_agree() -> None:
    explained = [stray_probability(summarise_processes(processes(*[0.07] * count), PRIOR), 0.05) for count in (1, 2, 4)]
    assert explained == sorted(explained, reverse=True)
    assert explained[0] == pytest.approx(STRAY_PROBABILITY)
    assert stray_probability(summarise_processes(processes(0.01), PRIOR), 0.05) == 1


@pytest.mark.parametrize(
    ("count", "choices", "earlier_count", "earlier_choices", "probability"),
    [
        (0, 1, 0, 10, 1.0),
        (1, 1, 0, 0, 0.5),
        (1, 1, 0, 10, 0.5 / 11),
        (2, 2, 0, 10, 0.5 / 11 * 1.5 / 12),
        (1, 1, 3, 10, 3.5 / 11),
        (1, 2, 0, 10, 1 - 10.5 / 11 * 11.5 / 12),
    ],
)
def test_a_choice_falls_as_it_did_before_by_jeffreys_prior(
    count: int, choices: int, earlier_count: int, earlier_choices: int, probability: float
) -> None:
    assert choice_probability(count, choices, earlier_count, earlier_choices) == pytest.approx(probability)


def test_one_process_slow_beyond_measure_is_no_stray() -> None:
    assert stray_probability(summarise_processes(processes(3.0), PRIOR), 0.05) < 1e-4


@pytest.mark.parametrize(("count", "level", "allowed"), [(1, 0.01, 1), (2, 0.01, 1), (8, 0.003, 2), (8, 1e-4, 3)])
def test_how_many_strays_are_allowed(count: int, level: float, allowed: int) -> None:
    assert strays_allowed(count, level) == allowed


@pytest.mark.parametrize(
    ("suite", "agreeing"), [(1, (2, 3, 3)), (8, (2, 3, 4)), (9, (3, 3, 4)), (100, (3, 4, 4)), (200, (3, 4, 5))]
)
def test_more_must_agree_in_a_larger_suite(suite: int, agreeing: tuple[int, ...]) -> None:
    plan = plan_for_suite(DEFAULT_PLAN, suite)
    found = tuple(strays_allowed(count, plan.look_at(count).alarm_level) + 1 for count in (2, 4, 8))
    assert found == agreeing, "docs/statistics.md and docs/statistics-rule.md tell these"


@pytest.mark.parametrize(("count", "allowed"), [(2, 2), (4, 2), (8, 3)])
def test_more_must_agree_where_one_in_ten_of_the_baseline_went_astray(count: int, allowed: int) -> None:
    assert strays_allowed(count, DEFAULT_PLAN.look_at(count).alarm_level, learned_stray_rate(1, 10)) == allowed


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_impossible_estimates_are_named(bad: float) -> None:
    good = processes(0.0)
    with pytest.raises(MeasurementError, match="log-ratio of candidate process 1"):
        compare_processes(processes(0.0, bad), good, PRIOR)
    with pytest.raises(MeasurementError, match="variance of baseline process 0"):
        compare_processes(good, processes(0.0, variance=bad), PRIOR)
    with pytest.raises(MeasurementError, match="variance of measured process 0"):
        summarise_processes(processes(0.0, variance=-1.0), PRIOR)


def test_missing_processes_are_named() -> None:
    with pytest.raises(MeasurementError, match="no candidate process"):
        compare_processes([], processes(0.0), PRIOR)
    with pytest.raises(MeasurementError, match="no baseline process"):
        compare_processes(processes(0.0), [], PRIOR)
    with pytest.raises(MeasurementError, match="no measured process"):
        summarise_processes([], PRIOR)
    with pytest.raises(MeasurementError, match="no baseline process"):
        recorded_noise([], PRIOR)


STEADY = (0.0, 0.01, -0.01, 0.005, -0.005, 0.0, 0.01, -0.01, 0.005)


def test_a_baseline_with_a_slow_process_says_that_the_next_may_be_slow_too() -> None:
    calm, two_states = (processes(*STEADY, last) for last in (0.0, 0.11))
    assert recorded_stray_rate(calm, PRIOR) == STRAY_PROBABILITY
    assert recorded_stray_rate(two_states, PRIOR) == pytest.approx(1.3 / 20)
    slow = processes(0.11, 0.1)
    outcomes = [decide_regression(slow, side, limit=0.05, prior=PRIOR).outcome for side in (calm, two_states)]
    assert outcomes == [Outcome.FAILED, Outcome.INCONCLUSIVE]
    four = decide_regression(processes(*[0.11] * 4), two_states, limit=0.05, prior=PRIOR)
    assert four.outcome is Outcome.FAILED


def test_a_stray_of_the_baseline_explains_no_larger_slowdown() -> None:
    evidence = compare_processes(processes(0.4, 0.4), processes(*STEADY, 0.2), PRIOR)
    assert evidence.stray_rate > STRAY_PROBABILITY
    assert evidence.stray_rate_from(0.4) == STRAY_PROBABILITY
    assert evidence.stray_rate_from(0.2) == evidence.stray_rate


def test_a_fast_stray_of_the_baseline_explains_no_slowdown() -> None:
    assert compare_processes(processes(0.4), processes(*STEADY, -0.4), PRIOR).strays == ()


def test_how_probable_it_is_that_all_were_fast_by_chance_is_learned_from_the_baseline() -> None:
    def luck(count: int, *astray: float) -> float:
        baseline = [ProcessEstimate(figure, 1e-4, 40) for figure in (*([0.0] * 10), *astray)]
        return compare_processes([ProcessEstimate(0.0, 1e-4, 40)] * count, baseline, PRIOR).luck

    assert luck(1) == luck(1, 0.5) == pytest.approx(0.03)
    assert luck(1, -0.5) == pytest.approx(1.3 / 21)
    assert luck(2, -0.5, -0.4) == pytest.approx((2.3 / 22) ** 2)
