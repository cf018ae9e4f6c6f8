"""Simulate the timing decision on machines of known noise, and write how often it errs and what it finds.

Run from the repository's root: ``python benchmarks/decision_simulation.py``. Every figure has a fixed seed of its
own, so a run repeats to the last digit.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord, RatioRecord
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import Decision, decide_minimum, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.statistics.power import minimum_detectable_effect
from pytest_nnopt.statistics.prior import (
    DEFAULT_CPU_PRIOR,
    DEFAULT_DEVICE_TIME_PRIOR,
    DEFAULT_GPU_PRIOR,
    VariancePrior,
    pool_prior,
)
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.verdict.device_time import FALSE_ALARM_SHARE, decide_device_time
from pytest_nnopt.verdict.revisions import decide_head_over_base

RESULT = Path(__file__).parent / "results" / "decision_simulation.md"
SUITE_SIZE = 200
WITHIN_SHARE = 0.4
"""Standard error inside one process as a share of the process SD."""

EIGHT = SequentialPlan()
KERNELS_BY_EIGHT = replace(EIGHT, false_alarms=FALSE_ALARM_SHARE * EIGHT.false_alarms)
KERNELS_BY_TWO = replace(KERNELS_BY_EIGHT, looks=(1, 2))

Floats = NDArray[np.float64]
Shape = Callable[[np.random.Generator, int, int], tuple[Floats, Floats]]


def draw_normal(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """Processes scatter normally."""
    return rng.standard_normal(baseline), rng.standard_normal(candidate)


def draw_t5(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """Student's t with 5 degrees of freedom, scaled to SD 1."""
    return rng.standard_t(5, baseline) / np.sqrt(5 / 3), rng.standard_t(5, candidate) / np.sqrt(5 / 3)


def draw_t3(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """Student's t with 3 degrees of freedom, scaled to SD 1."""
    return rng.standard_t(3, baseline) / np.sqrt(3), rng.standard_t(3, candidate) / np.sqrt(3)


def draw_bimodal(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """Three processes of ten are in a slow state, 2.1 SD above the others."""

    def draw(count: int) -> Floats:
        state = np.where(rng.random(count) < 0.3, 0.7, -0.3) / np.sqrt(0.21)
        figures: Floats = 0.95 * state + np.sqrt(1 - 0.95**2) * rng.standard_normal(count)
        return figures

    return draw(baseline), draw(candidate)


def draw_outliers(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """One process of twenty is 3 to 8 times the others' SD too slow; SD about 1 in all."""

    def draw(count: int) -> Floats:
        astray = np.where(rng.random(count) < 0.05, rng.uniform(3, 8, count), 0.0)
        return (rng.standard_normal(count) + astray) / 1.6

    return draw(baseline), draw(candidate)


def draw_quick(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """Three processes of twenty are in a fast state, 2.8 SD below the others."""

    def draw(count: int) -> Floats:
        state = np.where(rng.random(count) < 0.15, -0.85, 0.15) / np.sqrt(0.1275)
        figures: Floats = 0.95 * state + np.sqrt(1 - 0.95**2) * rng.standard_normal(count)
        return figures

    return draw(baseline), draw(candidate)


def draw_sessions(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """Each run has an offset of its own, SD 0.3; the baseline was recorded in two runs."""
    own = np.sqrt(1 - 0.3**2)
    offsets = np.resize(rng.normal(0, 0.3, 2), baseline)
    return (
        own * rng.standard_normal(baseline) + offsets,
        own * rng.standard_normal(candidate) + rng.normal(0, 0.3),
    )


def draw_drift(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """Figures drift along a run, by a random slope of SD 1.5 from its first process to its last."""

    def draw(count: int) -> Floats:
        return 0.9 * rng.standard_normal(count) + rng.normal(0, 1.5) * (np.linspace(0, 1, count) - 0.5)

    return draw(baseline), draw(candidate)


def draw_busy(rng: np.random.Generator, baseline: int, candidate: int) -> tuple[Floats, Floats]:
    """The candidate runs on a day with 1.5 times the baseline's noise."""
    return 0.8 * rng.standard_normal(baseline), 1.2 * rng.standard_normal(candidate)


SHAPES: dict[str, Shape] = {
    "normal": draw_normal,
    "t5": draw_t5,
    "t3": draw_t3,
    "bimodal": draw_bimodal,
    "outliers": draw_outliers,
    "quick few": draw_quick,
    "sessions": draw_sessions,
    "drift": draw_drift,
    "busy day": draw_busy,
}


@dataclass(frozen=True)
class Scenario:
    """One simulated question: a machine, a true change, and what the gate was asked.

    ``process_sd`` None draws each case's SD from the spread seen on shared CPUs before an untimed call came first:
    about 2.7 %, from 1.8 to 5.5 %.
    """

    shape: str = "normal"
    process_sd: float | None = None
    change: float = 0.0
    limit: float = 0.05
    baseline: int = 10
    plan: SequentialPlan = field(default_factory=SequentialPlan)
    prior: VariancePrior = DEFAULT_CPU_PRIOR


@dataclass(frozen=True)
class Tally:
    """What came out of many simulated cases."""

    decisions: tuple[Decision, ...]

    def rate(self, *outcomes: Outcome, within: int | None = None) -> float:
        """Share of the cases that ended so, with at most ``within`` processes."""
        hits = (d.outcome in outcomes and (within is None or d.certainty.processes <= within) for d in self.decisions)
        return fmean(map(float, hits))

    @property
    def failed(self) -> float:
        """Share of failed cases."""
        return self.rate(Outcome.FAILED)

    @property
    def passed(self) -> float:
        """Share of passed and improved cases."""
        return self.rate(Outcome.PASSED, Outcome.IMPROVED)

    @property
    def suite_alarms(self) -> float:
        """Share of suites in which at least one case failed."""
        return 1 - (1 - self.failed) ** SUITE_SIZE

    @property
    def median_processes(self) -> float:
        """Median number of processes measured."""
        return median(d.certainty.processes for d in self.decisions)

    @property
    def mean_processes(self) -> float:
        """Mean number of processes measured."""
        return fmean(d.certainty.processes for d in self.decisions)


def simulate(scenario: Scenario, cases: int) -> Tally:
    """Decide ``cases`` independent cases of a scenario, each with a baseline of its own."""
    rng = np.random.default_rng(zlib.crc32(repr(scenario).encode()))
    return Tally(tuple(simulate_case(scenario, rng) for _ in range(cases)))


def simulate_case(scenario: Scenario, rng: np.random.Generator) -> Decision:
    """Decide one case, adding processes while the decision asks for them."""
    baseline, candidate = draw_case(scenario, rng)

    def decide(processes: int) -> Decision:
        return decide_regression(
            candidate[:processes], baseline, limit=scenario.limit, prior=scenario.prior, plan=scenario.plan
        )

    return look_until_decided(decide, scenario.plan.looks[0])


def look_until_decided(decide: Callable[[int], Decision], processes: int = 1) -> Decision:
    """Decide by so many processes, and by more of them while the decision asks for them."""
    decision = decide(processes)
    while decision.next_look is not None:
        decision = decide(decision.next_look)
    return decision


def draw_case(scenario: Scenario, rng: np.random.Generator) -> tuple[list[ProcessEstimate], list[ProcessEstimate]]:
    """Draw the estimates of a baseline's and a candidate's processes."""
    sd = scenario.process_sd
    if sd is None:
        sd = float(np.clip(np.exp(rng.normal(np.log(0.027), 0.35)), 0.018, 0.055))
    baseline, candidate = SHAPES[scenario.shape](rng, scenario.baseline, scenario.plan.max_processes)
    within = (WITHIN_SHARE * sd) ** 2
    excess = 1.5**2 if scenario.shape == "busy day" else 1.0
    return (
        [ProcessEstimate(sd * float(value), within, 40) for value in baseline],
        [
            ProcessEstimate(sd * float(value) + float(np.log1p(scenario.change)), within * excess, 40)
            for value in candidate
        ],
    )


def tabulate_targets(cases: int) -> Iterator[str]:
    """Level, power and processes on machines of mixed noise, one row for each shape of noise."""
    suite = plan_for_suite(SequentialPlan(), SUITE_SIZE)
    yield from header(
        "noise",
        "false alarms, limit 5 %",
        "limit 10 %",
        "suite of 200, limit 5 %",
        "limit 10 %",
        "10 % slower found",
        "20 % found within 2",
        "processes to pass, limit 10 %: median",
        "mean",
        "changed by the limit, passed",
    )
    yield "| *target* | *≤ 1 %* | *≤ 1 %* | *≤ 5 %* | *≤ 5 %* | *≥ 95 %* | *≥ 99 %* | *≤ 2* | | *≤ 5 %* |"
    for shape in SHAPES:
        unchanged = simulate(Scenario(shape), cases)
        wide = simulate(Scenario(shape, limit=0.10), cases)
        strict = simulate(Scenario(shape, plan=suite), 5 * cases)
        strict_wide = simulate(Scenario(shape, limit=0.10, plan=suite), 5 * cases)
        slower = simulate(Scenario(shape, change=0.10), cases)
        much_slower = simulate(Scenario(shape, change=0.20), cases)
        at_limit = simulate(Scenario(shape, change=0.05), cases)
        yield (
            f"| {shape} | {percent(unchanged.failed, 2)} | {percent(wide.failed, 2)} | {percent(strict.suite_alarms)} "
            f"| {percent(strict_wide.suite_alarms)} | {percent(slower.failed)} "
            f"| {percent(much_slower.rate(Outcome.FAILED, within=2))} "
            f"| {wide.median_processes:.0f} | {wide.mean_processes:.1f} | {percent(at_limit.passed)} |"
        )


def tabulate_noise_levels(cases: int) -> Iterator[str]:
    """The same questions on machines of one known noise."""
    yield from header(
        "process SD",
        "noise",
        "false alarms, limit 5 %",
        "the same, pooled prior",
        "10 % slower found",
        "the same, pooled prior",
        "the same, baseline of 20",
        "20 % found within 2",
        "processes to pass, limit 10 %: median",
        "passed in the end",
    )
    for process_sd in (0.018, 0.027, 0.040, 0.055):
        for shape in ("normal", "t3", "bimodal"):
            unchanged = simulate(Scenario(shape, process_sd), cases)
            slower = simulate(Scenario(shape, process_sd, change=0.10), cases)
            much_slower = simulate(Scenario(shape, process_sd, change=0.20), cases)
            pooled = pool_siblings(Scenario(shape, process_sd))
            knowing = simulate(Scenario(shape, process_sd, prior=pooled), cases)
            knowing_slower = simulate(Scenario(shape, process_sd, change=0.10, prior=pooled), cases)
            recorded_more = simulate(Scenario(shape, process_sd, change=0.10, baseline=20), cases)
            wide = simulate(Scenario(shape, process_sd, limit=0.10), cases)
            yield (
                f"| {percent(process_sd)} | {shape} | {percent(unchanged.failed, 2)} | {percent(knowing.failed, 2)} "
                f"| {percent(slower.failed)} | {percent(knowing_slower.failed)} | {percent(recorded_more.failed)} "
                f"| {percent(much_slower.rate(Outcome.FAILED, within=2))} "
                f"| {wide.median_processes:.0f} | {percent(wide.passed)} |"
            )


def pool_siblings(scenario: Scenario, siblings: int = 20) -> VariancePrior:
    """Fit the prior to the baselines of other cases on the same machine."""
    rng = np.random.default_rng(siblings)
    return pool_prior([draw_case(scenario, rng)[0] for _ in range(siblings)])


def tabulate_around_the_limit(cases: int) -> Iterator[str]:
    """What becomes of slowdowns near a limit of 5 %."""
    yield from header("process SD", "truly slower by", "failed", "passed", "inconclusive", "processes, mean")
    for process_sd in (0.009, 0.018, 0.027):
        for change in (0.03, 0.04, 0.05, 0.06):
            tally = simulate(Scenario("normal", process_sd, change), cases)
            yield (
                f"| {percent(process_sd)} | {percent(change)} | {percent(tally.failed)} | {percent(tally.passed)} "
                f"| {percent(tally.rate(Outcome.INCONCLUSIVE))} | {tally.mean_processes:.1f} |"
            )


def tabulate_suite_power(cases: int) -> Iterator[str]:
    """What a suite of 200 still finds at its tightened level."""
    yield from header(
        "noise",
        "processes at most",
        "10 % slower found",
        "20 % found",
        "mean processes, 20 % slower",
    )
    for shape in ("normal", "t3", "bimodal"):
        for looks in ((1, 2, 4, 8), (1, 2, 4, 8, 16)):
            plan = plan_for_suite(SequentialPlan(looks=looks), SUITE_SIZE)
            slower = simulate(Scenario(shape, change=0.10, plan=plan), cases)
            much_slower = simulate(Scenario(shape, change=0.20, plan=plan), cases)
            yield (
                f"| {shape} | {looks[-1]} | {percent(slower.failed)} | {percent(much_slower.failed)} "
                f"| {much_slower.mean_processes:.1f} |"
            )


def tabulate_baselines(cases: int) -> Iterator[str]:
    """What a smaller or larger baseline changes."""
    yield from header(
        "baseline processes",
        "false alarms, limit 5 %",
        "10 % slower found",
        "processes to pass, limit 10 %: median",
        "passed in the end",
    )
    for baseline in (1, 3, 5, 10, 20):
        unchanged = simulate(Scenario(baseline=baseline), cases)
        slower = simulate(Scenario(change=0.10, baseline=baseline), cases)
        wide = simulate(Scenario(limit=0.10, baseline=baseline), cases)
        yield (
            f"| {baseline} | {percent(unchanged.failed, 2)} | {percent(slower.failed)} | {wide.median_processes:.0f} "
            f"| {percent(wide.passed)} |"
        )


def tabulate_quiet_machines(cases: int) -> Iterator[str]:
    """Small effects where the noise is small."""
    yield from header(
        "figure",
        "process SD",
        "limit",
        "effect",
        "prior SD",
        "false alarms allowed",
        "processes at most",
        "false alarms",
        "effect found",
        "processes, mean",
    )
    rows = (
        ("latency, quiet CPU", 0.018, 0.020, 0.05, EIGHT, DEFAULT_CPU_PRIOR),
        ("latency, host-bound", 0.025, 0.02, 0.05, EIGHT, DEFAULT_GPU_PRIOR),
        ("latency, GPU-bound", 0.0043, 0.005, 0.02, EIGHT, DEFAULT_GPU_PRIOR),
        ("latency, GPU-bound", 0.0043, 0.005, 0.02, EIGHT, DEFAULT_CPU_PRIOR),
        ("device time", 0.0006, 0.005, 0.01, KERNELS_BY_TWO, DEFAULT_DEVICE_TIME_PRIOR),
        ("device time", 0.0018, 0.005, 0.01, KERNELS_BY_TWO, DEFAULT_DEVICE_TIME_PRIOR),
        ("device time", 0.0006, 0.005, 0.01, KERNELS_BY_EIGHT, DEFAULT_DEVICE_TIME_PRIOR),
        ("device time", 0.0018, 0.005, 0.01, KERNELS_BY_EIGHT, DEFAULT_DEVICE_TIME_PRIOR),
        ("device time", 0.0032, 0.005, 0.01, KERNELS_BY_EIGHT, DEFAULT_DEVICE_TIME_PRIOR),
    )
    for name, process_sd, limit, effect, plan, prior in rows:
        unchanged = simulate(Scenario("t5", process_sd, limit=limit, plan=plan, prior=prior), cases)
        slower = simulate(Scenario("t5", process_sd, effect, limit, plan=plan, prior=prior), cases)
        yield (
            f"| {name} | {percent(process_sd, 2)} | {percent(limit)} | {percent(effect)} "
            f"| {percent(prior.standard_deviation)} | {percent(plan.false_alarms)} | {plan.max_processes} "
            f"| {percent(unchanged.failed, 2)} | {percent(slower.failed)} | {slower.mean_processes:.1f} |"
        )


def tabulate_minimum(cases: int) -> Iterator[str]:
    """A declared speedup of 1.15 against true speedups around it."""
    yield from header(
        "true speedup",
        "failed",
        "passed",
        "inconclusive",
        "processes, mean",
    )
    for speedup in (1.00, 1.05, 1.10, 1.15, 1.20, 1.25, 1.30):
        tally = simulate_minimum(speedup, minimum=1.15, cases=cases)
        yield (
            f"| {speedup:.2f} | {percent(tally.failed)} | {percent(tally.passed)} "
            f"| {percent(tally.rate(Outcome.INCONCLUSIVE))} | {tally.mean_processes:.1f} |"
        )


def simulate_minimum(speedup: float, *, minimum: float, cases: int) -> Tally:
    """Hold processes of a true ``speedup`` against a declared ``minimum``, adding processes while asked."""
    scenario = Scenario("t5", change=speedup - 1)
    rng = np.random.default_rng(zlib.crc32(repr((scenario, minimum)).encode()))

    def simulate_one() -> Decision:
        _, samples = draw_case(scenario, rng)
        return look_until_decided(lambda seen: decide_minimum(samples[:seen], minimum=minimum, prior=scenario.prior))

    return Tally(tuple(simulate_one() for _ in range(cases)))


def tabulate_promises(cases: int) -> Iterator[str]:
    """Whether a slowdown of exactly the minimum detectable effect is found as often as promised, at one look."""
    yield from header(
        "process SD",
        "processes",
        "limit",
        "minimum detectable effect, 95 % power",
        "found",
    )
    for process_sd in (0.018, 0.04):
        noise = VariancePrior(process_sd**2, 15.0)
        for processes in (2, 4, 8):
            for limit in (0.0, 0.05):
                plan = SequentialPlan(looks=(processes,))
                effect = minimum_detectable_effect(
                    noise, processes=processes, baseline_processes=10, limit=limit, plan=plan
                )
                prior = VariancePrior(process_sd**2, 6.0)
                tally = simulate(Scenario("normal", process_sd, effect, limit, plan=plan, prior=prior), cases)
                yield (
                    f"| {percent(process_sd)} | {processes} | {percent(limit)} | {percent(effect)} "
                    f"| {percent(tally.failed)} |"
                )


def tabulate_revisions(cases: int) -> Iterator[str]:
    """Two revisions in every process, at a limit of 1 %, by what processes differ by beyond their blocks' scatter."""
    yield from header(
        "device",
        "blocks' scatter",
        "differs between processes by",
        "false alarms",
        "2 % slower found",
        "the same, within 2",
        "5 % slower found within 2",
    )
    rows = ((False, 0.004, (0.0, 0.003, 0.007, 0.015)), (True, 0.004, (0.003, 0.01, 0.03)))
    for is_on_gpu, within, differences in rows:
        for between in differences:
            same, slower, much_slower = (
                simulate_revisions(within, between, change=change, is_on_gpu=is_on_gpu, cases=cases)
                for change in (0.0, 0.02, 0.05)
            )
            yield (
                f"| {'GPU' if is_on_gpu else 'CPU'} | {percent(within)} | {percent(between)} "
                f"| {percent(same.failed, 2)} | {percent(slower.failed)} "
                f"| {percent(slower.rate(Outcome.FAILED, within=2))} "
                f"| {percent(much_slower.rate(Outcome.FAILED, within=2))} |"
            )


def simulate_revisions(within: float, between: float, *, change: float, is_on_gpu: bool, cases: int) -> Tally:
    """Decide on processes that measured both revisions, adding processes while asked."""
    rng = np.random.default_rng(zlib.crc32(repr((within, between, change, is_on_gpu)).encode()))

    def simulate_one() -> Decision:
        figures = rng.normal(np.log1p(change), np.hypot(within, between), SequentialPlan().max_processes)
        samples = [ProcessEstimate(float(figure), within**2, 200) for figure in figures]
        return look_until_decided(lambda seen: decide_head_over_base(samples[:seen], limit=0.01, is_on_gpu=is_on_gpu))

    return Tally(tuple(simulate_one() for _ in range(cases)))


def tabulate_launches(cases: int) -> Iterator[str]:
    """Kernels' time where chance decides how two of the kernels are launched, the slower ways adding 1.3 % in all."""
    yield from header(
        "times compared",
        "baseline processes",
        "process SD",
        "limit",
        "false alarms",
        "unchanged code passed",
        "1 % slower found",
        "5 % slower found",
    )
    for is_known in (False, True):
        for baseline in (2, 5, 10):
            for limit in (0.005, 0.02):
                same, slower, much_slower = (
                    simulate_launches(baseline, limit, change=change, is_known=is_known, cases=cases)
                    for change in (0.0, 0.01, 0.05)
                )
                yield (
                    f"| {'by launch' if is_known else 'as they are'} | {baseline} | {percent(KERNEL_SD, 2)} "
                    f"| {percent(limit)} | {percent(same.failed, 2)} | {percent(same.passed)} "
                    f"| {percent(slower.failed)} | {percent(much_slower.failed)} |"
                )


@dataclass(frozen=True)
class Lottery:
    """A kernel that is launched in one of two ways.

    Attributes:
        seconds: what it takes in the first way.
        excess: by how much it is slower in the other.
        rate: how often chance draws the other.
    """

    seconds: float
    excess: float = 0.0
    rate: float = 0.5


KERNEL_SD = 0.0015
"""What one kernel varies by between processes that launch it alike."""

NEAR_WAYS = (Lottery(0.52e-3), Lottery(66e-6, 0.09), Lottery(34e-6, 0.08), Lottery(60e-6))


CHANGED_RATES = (0.5, 0.8, 1.0)
"""How often the slow way is drawn once a change made it more frequent."""


def rare_way(rate: float) -> tuple[Lottery, ...]:
    """Return kernels of which one is sometimes launched in a way that makes the call 5 % slower."""
    return (Lottery(2.33e-3), Lottery(290e-6, 0.45, rate))


def simulate_launches(
    baseline: int,
    limit: float,
    *,
    change: float,
    is_known: bool,
    cases: int,
    before: Sequence[Lottery] = NEAR_WAYS,
    now: Sequence[Lottery] | None = None,
) -> Tally:
    """Decide on kernels' time, adding processes while asked; where launches are unknown, times count as they are.

    Args:
        baseline: processes recorded.
        limit: the tolerated growth.
        change: by how much all kernels are slower than recorded.
        is_known: whether it is known how kernels are launched.
        cases: how many to simulate.
        before: the kernels recorded.
        now: the kernels measured; None are the same.
    """
    parts = (baseline, limit, change, is_known, *before, *(now or ()))
    rng = np.random.default_rng(zlib.crc32(repr(parts).encode()))

    def draw(count: int, kernels: Sequence[Lottery], factor: float) -> list[ProcessRecord]:
        return [draw_kernels(rng, kernels, factor, is_known=is_known) for _ in range(count)]

    def simulate_one() -> Decision:
        recorded, measured = draw(baseline, before, 1.0), draw(EIGHT.max_processes, now or before, 1 + change)
        return look_until_decided(lambda seen: decide_device_time(measured[:seen], recorded, limit))

    return Tally(tuple(simulate_one() for _ in range(cases)))


def draw_kernels(
    rng: np.random.Generator, kernels: Sequence[Lottery], factor: float, *, is_known: bool
) -> ProcessRecord:
    """Draw what one process measures of all kernels, each launched in one of its ways."""
    records = {}
    for index, kernel in enumerate(kernels):
        is_other = bool(rng.random() < kernel.rate)
        noise = float(np.exp(rng.normal(0, KERNEL_SD)))
        taken = kernel.seconds * (1 + kernel.excess * is_other) * factor * noise
        launch = f"grid {64 if is_other else 128}" if is_known else None
        records[f"kernel_{index}"] = KernelRecord.model_construct(count=1.0, seconds=taken, launch=launch)
    return as_process(records)


def tabulate_rare_ways(cases: int) -> Iterator[str]:
    """Kernels' time at a limit of 2 % where chance launches one of them so that the call takes 5 % longer."""
    yield from header(
        "times compared",
        "baseline processes",
        "drawn in",
        "false alarms",
        "unchanged code passed",
        "the same, within 2",
        "5 % slower found",
        *(f"the way drawn in {percent(rate, 0)} found, passed" for rate in CHANGED_RATES),
    )
    for is_known in (False, True):
        for baseline in (5, 10):
            for rate in (0.03, 0.1, 0.2, 0.5):
                kernels = rare_way(rate)
                draw = partial(simulate_launches, baseline, 0.02, is_known=is_known, cases=cases, before=kernels)
                same, slower = draw(change=0.0), draw(change=0.05)
                changed = [draw(change=0.0, now=rare_way(other)) for other in CHANGED_RATES]
                yield (
                    f"| {'by launch' if is_known else 'as they are'} | {baseline} | {percent(rate, 0)} "
                    f"| {percent(same.failed, 2)} | {percent(same.passed)} "
                    f"| {percent(same.rate(Outcome.PASSED, within=2))} | {percent(slower.failed)} "
                    f"| {' | '.join(f'{percent(one.failed)}, {percent(one.passed)}' for one in changed)} |"
                )


def tabulate_random_kernels(cases: int) -> Iterator[str]:
    """Kernels' time at a limit of 2 %, of models with one to three kernels, each launched in one to four ways."""
    yield from header(
        "what is slower",
        "baseline processes",
        "unchanged code failed",
        "passed",
        "within 2",
        "slower code failed",
        "passed after one process",
        "after more",
    )
    for is_all in (True, False):
        for baseline in (3, 5, 10):
            same, slower = (
                simulate_random_kernels(baseline, is_all=is_all, is_slower=is_slower, cases=cases)
                for is_slower in (False, True)
            )
            alone = slower.rate(Outcome.PASSED, Outcome.IMPROVED, within=1)
            yield (
                f"| {'all kernels' if is_all else 'one kernel'} | {baseline} | {percent(same.failed, 2)} "
                f"| {percent(same.passed)} | {percent(same.rate(Outcome.PASSED, Outcome.IMPROVED, within=2))} "
                f"| {percent(slower.failed)} | {percent(alone, 2)} | {percent(slower.passed - alone, 2)} |"
            )


def simulate_random_kernels(baseline: int, *, is_all: bool, is_slower: bool, cases: int) -> Tally:
    """Decide on models drawn anew, which are slower by 5 to 50 %, and by 2.5 % of the call at least."""
    rng = np.random.default_rng(zlib.crc32(repr((baseline, is_all, is_slower)).encode()))

    def simulate_one() -> Decision:
        while True:
            model = [draw_ways(rng) for _ in range(rng.integers(1, 4))]
            growth = np.full(len(model), 1.0)
            growth[slice(None) if is_all else rng.integers(len(model))] += rng.uniform(0.05, 0.5)
            means = [float(np.dot(times, rates)) for times, rates in model]
            if float(np.dot(means, growth)) > 1.025 * sum(means):
                break
        before = [draw_process(rng, model, np.ones(len(model))) for _ in range(baseline)]
        now = [
            draw_process(rng, model, growth if is_slower else np.ones(len(model))) for _ in range(EIGHT.max_processes)
        ]
        return look_until_decided(lambda seen: decide_device_time(now[:seen], before, 0.02))

    return Tally(tuple(simulate_one() for _ in range(cases)))


def draw_ways(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw what a kernel takes in each of its ways, the slowest at most 1.6 times the quickest, and how often it is."""
    ways = int(rng.integers(1, 5))
    quickest = rng.uniform(20e-6, 400e-6)
    times = quickest * np.array([1.0, *rng.uniform(1.0, 1.6, ways - 1)])
    rates = rng.gamma(0.7, size=ways) + 1e-9
    return times, rates / rates.sum()


def draw_process(rng: np.random.Generator, model: Sequence[tuple[Floats, Floats]], growth: Floats) -> ProcessRecord:
    """Draw what one process measures of kernels that take so many times as long as they used to."""
    records = {}
    for index, ((times, rates), factor) in enumerate(zip(model, growth, strict=True)):
        way = int(rng.choice(len(times), p=rates))
        seconds = float(times[way] * factor * np.exp(rng.normal(0, KERNEL_SD)))
        records[f"kernel_{index}"] = KernelRecord.model_construct(count=1.0, seconds=seconds, launch=f"grid {way}")
    return as_process(records)


def as_process(kernels: dict[str, KernelRecord]) -> ProcessRecord:
    """Return a process that knows of kernels alone."""
    ratio = RatioRecord.model_construct(log_ratio=0.0, variance=0.0, blocks=1, drift=None)
    return ProcessRecord.model_construct(
        seconds={}, candidate_to_reference=ratio, warmup_seconds=0.0, is_steady=True, kernels=kernels
    )


def header(*columns: str) -> Iterator[str]:
    """Write a table's first two lines."""
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)


def percent(fraction: float, digits: int = 1) -> str:
    """Write a fraction as a percentage."""
    return f"{100 * fraction:.{digits}f} %"


SECTIONS: tuple[tuple[str, str, Callable[[int], Iterator[str]]], ...] = (
    (
        "Targets, by shape of the noise",
        "Cases of mixed noise, baseline of 10 processes, up to 8 candidate processes.",
        tabulate_targets,
    ),
    (
        "Machines of one known noise",
        "The prior is the built-in one, which takes noisy machines for quieter than they are; or it is pooled from "
        "the baselines of 20 cases of the same machine.",
        tabulate_noise_levels,
    ),
    (
        "Around the limit",
        "Normal scatter, baseline of 10 processes, up to 8 candidate processes, limit 5 %, the built-in prior.",
        tabulate_around_the_limit,
    ),
    (
        "Power in a suite of 200",
        "At the level that keeps false alarms of the whole suite below 5 %; limit 5 %.",
        tabulate_suite_power,
    ),
    ("Size of the baseline", "Mixed noise, normal.", tabulate_baselines),
    ("Quiet machines and device time", "Student's t with 5 degrees of freedom.", tabulate_quiet_machines),
    (
        "Two revisions in one process",
        "Normal scatter, a limit of 1 %; what is believed of a process is its blocks' scatter and a little more.",
        tabulate_revisions,
    ),
    (
        "Kernels that are launched by chance",
        "The compiler times ways to launch a kernel and takes the fastest, which differs from process to process. "
        "By launch, a kernel is compared with those of the baseline that were launched alike.",
        tabulate_launches,
    ),
    (
        "A slow way to launch a kernel that is drawn now and then",
        "One kernel's slow way makes the call 5 % slower; the limit is 2 %. In the last columns the change is that the "
        "way is drawn more often.",
        tabulate_rare_ways,
    ),
    (
        "Kernels with random ways",
        "One to three kernels with one to four ways each, drawn anew for each case, by rates that are drawn, too. "
        "Slower code is slower by 5 to 50 % in every way, all of it or one kernel; the limit is 2 %.",
        tabulate_random_kernels,
    ),
    ("A declared speedup of 1.15", "Mixed noise, Student's t with 5 degrees of freedom.", tabulate_minimum),
    ("Promised and found", "One look, normal noise; 95 % are promised.", tabulate_promises),
)


def main() -> None:
    """Write all tables to the results file and to the terminal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases", type=int, default=10_000, help="simulated cases per figure (suites: five times as many)"
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="Markdown file to write")
    arguments = parser.parse_args()
    lines = [
        "# The timing decision on simulated machines",
        "",
        f"{arguments.cases} cases per figure, {5 * arguments.cases} for suites. "
        "Written by `python benchmarks/decision_simulation.py`; seeds are fixed.",
        "",
        *(f"- **{name}**: {(shape.__doc__ or '').splitlines()[0]}" for name, shape in SHAPES.items()),
    ]
    for title, note, tabulate in SECTIONS:
        print(f"{time.strftime('%H:%M:%S')} {title}", file=sys.stderr)
        lines += ["", f"## {title}", "", note, ""]
        for line in tabulate(arguments.cases):
            print(line)
            lines.append(line)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
