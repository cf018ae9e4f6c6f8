"""Level and power on simulated machines; the wider tables come from ``benchmarks/decision_simulation.py``."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN, Decision, decide_minimum, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.statistics.sequential import SequentialPlan

CASES = 400

Floats: TypeAlias = NDArray[np.float64]
Machine: TypeAlias = Callable[[np.random.Generator, int], Floats]


def draw_normal(rng: np.random.Generator, count: int) -> Floats:
    return rng.standard_normal(count)


def draw_heavy_tails(rng: np.random.Generator, count: int) -> Floats:
    figures: Floats = rng.standard_t(3, count) / np.sqrt(3)
    return figures


def draw_two_states(rng: np.random.Generator, count: int) -> Floats:
    state = np.where(rng.random(count) < 0.3, 0.7, -0.3) / np.sqrt(0.21)
    figures: Floats = 0.95 * state + 0.31 * rng.standard_normal(count)
    return figures


def draw_outliers(rng: np.random.Generator, count: int) -> Floats:
    return (rng.standard_normal(count) + np.where(rng.random(count) < 0.05, rng.uniform(3, 8, count), 0)) / 1.6


def draw_drift(rng: np.random.Generator, count: int) -> Floats:
    return 0.9 * rng.standard_normal(count) + rng.normal(0, 1.5) * (np.linspace(0, 1, count) - 0.5)


MACHINES = [draw_normal, draw_heavy_tails, draw_two_states, draw_outliers, draw_drift]
every_machine = pytest.mark.parametrize("draw", MACHINES, ids=lambda draw: draw.__name__)


def simulate(
    draw: Machine, *, change: float = 0.0, limit: float = 0.05, plan: SequentialPlan = DEFAULT_PLAN, cases: int = CASES
) -> list[Decision]:
    """Decide cases whose process SD is drawn from 1.8 to 5.5 %, with baselines of 10 processes."""
    rng = np.random.default_rng(0)
    decisions = []
    for _ in range(cases):
        sd = float(np.clip(np.exp(rng.normal(np.log(0.027), 0.35)), 0.018, 0.055))
        baseline = [ProcessEstimate(sd * float(x), (0.4 * sd) ** 2, 40) for x in draw(rng, 10)]
        candidate = [
            ProcessEstimate(sd * float(x) + np.log1p(change), (0.4 * sd) ** 2, 40)
            for x in draw(rng, plan.max_processes)
        ]
        look: int | None = plan.looks[0]
        while look is not None:
            decision = decide_regression(candidate[:look], baseline, limit=limit, prior=DEFAULT_CPU_PRIOR, plan=plan)
            look = decision.next_look
        decisions.append(decision)
    return decisions


def share(decisions: list[Decision], *outcomes: Outcome) -> float:
    return sum(decision.outcome in outcomes for decision in decisions) / len(decisions)


@every_machine
def test_unchanged_code_rarely_fails(draw: Machine) -> None:
    assert share(simulate(draw), Outcome.FAILED) <= 0.015


@pytest.mark.parametrize("draw", [draw_heavy_tails, draw_two_states])
def test_an_unchanged_suite_rarely_fails(draw: Machine) -> None:
    plan = plan_for_suite(SequentialPlan(), 200)
    assert share(simulate(draw, plan=plan, cases=3 * CASES), Outcome.FAILED) <= 0.001


@every_machine
def test_ten_percent_is_found_within_eight_processes(draw: Machine) -> None:
    assert share(simulate(draw, change=0.10), Outcome.FAILED) >= 0.95


@every_machine
def test_twenty_percent_is_found_within_two_processes_or_four_where_a_baseline_holds_such(draw: Machine) -> None:
    found = [decision for decision in simulate(draw, change=0.20) if decision.outcome is Outcome.FAILED]
    enough = 4 if draw is draw_outliers else 2
    assert sum(decision.certainty.processes <= enough for decision in found) / CASES >= 0.96


@every_machine
def test_unchanged_code_passes_soon_under_a_wide_limit(draw: Machine) -> None:
    decisions = simulate(draw, limit=0.10)
    assert median(decision.certainty.processes for decision in decisions) <= 2
    assert share(decisions, Outcome.PASSED, Outcome.IMPROVED) >= 0.98


@every_machine
def test_a_change_as_large_as_the_limit_rarely_passes(draw: Machine) -> None:
    assert share(simulate(draw, change=0.05), Outcome.PASSED, Outcome.IMPROVED) <= 0.07


def test_unchanged_code_is_rarely_called_improved() -> None:
    assert share(simulate(draw_normal), Outcome.IMPROVED) <= 0.01


@pytest.mark.parametrize(("speedup", "wrong"), [(1.15, Outcome.FAILED), (1.20, Outcome.FAILED), (1.10, Outcome.PASSED)])
def test_a_declared_minimum_is_rarely_judged_wrongly(speedup: float, wrong: Outcome) -> None:
    rng = np.random.default_rng(1)
    mistakes = 0
    for _ in range(CASES):
        samples = [ProcessEstimate(float(x), 1e-4, 40) for x in np.log(speedup) + 0.027 * draw_heavy_tails(rng, 8)]
        look: int | None = 1
        while look is not None:
            decision = decide_minimum(samples[:look], minimum=1.15, prior=DEFAULT_CPU_PRIOR)
            look = decision.next_look
        mistakes += decision.outcome is wrong
    assert mistakes / CASES <= 0.01
