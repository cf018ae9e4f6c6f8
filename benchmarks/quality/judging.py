"""Gates and rules that judge measured processes, drawn anew for every comparison."""

from __future__ import annotations

import bisect
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.quality.measuring import CLOSE_LIMITS, Measured
from benchmarks.quality.rules import RULES
from pytest_nnopt.config import LimitsConfig
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN, Decision, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR, DEFAULT_GPU_PRIOR, DEFAULT_YARDSTICK_PRIOR
from pytest_nnopt.statistics.sequential import DEFAULT_LOOKS, SequentialPlan
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict import estimate_of
from pytest_nnopt.verdict.absolute import SESSION_SHARE, absolute_estimates
from pytest_nnopt.verdict.device_time import decide_device_time
from pytest_nnopt.verdict.estimates import estimate_of_ratio, shift_since
from pytest_nnopt.verdict.revisions import decide_head_over_base
from pytest_nnopt.verdict.times import decide_times

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord

LIMIT = 0.05
CLOSE_LIMITS_BESIDE = (0.01, 0.005)
"""What the comparison of two revisions is held to besides: it can find less still."""

DEVICE_LIMIT, DEFAULT_DEVICE_LIMIT = 0.005, 0.02
"""A slowdown of 1 % is found by a limit below it; the other is what a case has unless it declares another."""

BASELINE_PROCESSES = 10
DRAWS = 1000
LEAST_PROCESSES = 2
"""The gate fails no case by fewer."""

_DRAWS_OF_A_SEARCH = 200
_EFFECTS = [0.002 * 1.02**step for step in range(385)]
POWER = 0.95
"""Detection that counts as found."""


@dataclass(frozen=True)
class Answer:
    """What a gate said: whether it failed the case, whether it passed it, and after how many processes."""

    failed: bool
    passed: bool
    processes: int


Judge = Callable[[Sequence[Measured], Sequence[Measured], float], Answer]
"""Judges processes against a baseline's, with all of the former's times made longer by a factor."""


@dataclass(frozen=True)
class Gate:
    """Something that fails or passes a case.

    Attributes:
        judge: gives its answer.
        is_beside: whether it takes only processes that measured two revisions, and no baseline.
    """

    judge: Judge
    is_beside: bool = False


@dataclass(frozen=True)
class Comparison:
    """What is to be decided.

    Attributes:
        now: processes to judge.
        before: the baseline's; empty where each process measured another revision as well.
        limit: the tolerated slowdown.
        factor: what all times of ``now`` are made longer by.
        plan: when the evidence is looked at.
    """

    now: Sequence[Measured]
    before: Sequence[Measured]
    limit: float
    factor: float = 1.0
    plan: SequentialPlan = DEFAULT_PLAN

    @property
    def device(self) -> str:
        """Where the processes measured."""
        return self.now[0].device


Decide = Callable[[Comparison], Decision]


def judge_by_rule(rule: str, now: Sequence[Measured], before: Sequence[Measured], factor: float) -> Answer:
    """Let a rule compare the first process with the first of the baseline."""
    failed = RULES[rule]([factor * seconds for seconds in now[0].alone], before[0].alone)
    return Answer(failed, not failed, 1)


def judge_by_gate(
    decide: Decide,
    now: Sequence[Measured],
    before: Sequence[Measured],
    factor: float,
    *,
    limit: float,
    looks: Sequence[int] = DEFAULT_LOOKS,
) -> Answer:
    """Let the gate look after 1, 2, 4 and 8 processes until it knows; the last look is at all where there are fewer."""
    plan = _plan_of(len(now))
    for processes in [look for look in plan.looks if look <= looks[-1]]:
        decision = decide(Comparison(now[:processes], before[:BASELINE_PROCESSES], limit, factor, plan))
        if decision.outcome is not Outcome.INCONCLUSIVE or processes >= len(now):
            break
    return Answer(decision.outcome is Outcome.FAILED, decision.outcome is not Outcome.INCONCLUSIVE, processes)


def _plan_of(processes: int) -> SequentialPlan:
    """Return the usual plan, ending with as many processes as there are."""
    return SequentialPlan(
        looks=(*(look for look in DEFAULT_LOOKS if look < processes), min(processes, DEFAULT_LOOKS[-1]))
    )


def decide_relative(asked: Comparison) -> Decision:
    """Decide by the ratio to eager, as where a baseline is stored and the model is as it was."""
    now, before = ([m.record for m in side] for side in (asked.now, asked.before))
    prior = DEFAULT_GPU_PRIOR if asked.device == "cuda" else DEFAULT_CPU_PRIOR
    return decide_times(
        [_with_slower_candidate(record, asked.factor) for record in now],
        before,
        limit=asked.limit,
        prior=prior,
        plan=asked.plan,
        shift_error=shift_since(now, before).error,
    )


def decide_alone(asked: Comparison) -> Decision:
    """Decide by the ratio to the fixed workload, as where the model has changed, and eager with it."""
    candidates, baseline = (absolute_estimates([m.record for m in side]) for side in (asked.now, asked.before))
    return decide_regression(
        _slowed(candidates, asked.factor),
        baseline,
        limit=asked.limit,
        prior=DEFAULT_YARDSTICK_PRIOR,
        plan=asked.plan,
        session_share=SESSION_SHARE,
    )


def decide_beside(asked: Comparison) -> Decision:
    """Decide by two revisions that every process measured side by side."""
    samples = [estimate_of_ratio(m.beside) for m in asked.now if m.beside is not None]
    return decide_head_over_base(
        _slowed(samples, asked.factor), limit=asked.limit, is_on_gpu=asked.device == "cuda", plan=asked.plan
    )


def decide_kernels(asked: Comparison) -> Decision:
    """Decide by the kernels' own time."""
    now = [_with_slower_kernels(m.record, asked.factor) for m in asked.now]
    return decide_device_time(now, [m.record for m in asked.before], asked.limit, asked.plan)


def _with_slower_candidate(record: ProcessRecord, factor: float) -> ProcessRecord:
    ratio = record.candidate_to_reference
    slower = ratio.model_copy(update={"log_ratio": ratio.log_ratio + math.log(factor)})
    return record.model_copy(update={"candidate_to_reference": slower})


def _with_slower_kernels(record: ProcessRecord, factor: float) -> ProcessRecord:
    slower = {
        name: kernel.model_copy(update={"seconds": kernel.seconds * factor}) for name, kernel in record.kernels.items()
    }
    return record.model_copy(update={"kernels": slower})


def _slowed(estimates: Sequence[ProcessEstimate], factor: float) -> list[ProcessEstimate]:
    return [ProcessEstimate(e.log_ratio + math.log(factor), e.variance, e.blocks) for e in estimates]


def gates_for(device: str, *, with_base: bool) -> Mapping[str, Gate]:
    """Return the gates that are compared on a device, this project's first."""
    gates: dict[str, Gate] = {}
    if device == "cuda":
        gates["**this gate**, device time, limit 0.5 %"] = _gate(decide_kernels, DEVICE_LIMIT)
    stored, revision = "**this gate**, stored baseline", "**this gate**, another revision"
    gates[stored] = _gate(decide_relative, LIMIT)
    gates[f"{stored}, 2 processes at most"] = _gate(decide_relative, LIMIT, DEFAULT_LOOKS[:2])
    gates[f"{stored}, limit {format_percent(CLOSE_LIMITS[device])}"] = _gate(decide_relative, CLOSE_LIMITS[device])
    if with_base:
        gates[revision] = replace(_gate(decide_beside, LIMIT), is_beside=True)
        for limit in CLOSE_LIMITS_BESIDE:
            gates[f"{revision}, limit {format_percent(limit)}"] = replace(_gate(decide_beside, limit), is_beside=True)
    gates["this gate, once the model itself changed"] = _gate(decide_alone, LIMIT)
    return {**gates, **{name: Gate(partial(judge_by_rule, name)) for name in RULES}}


def _gate(decide: Decide, limit: float, looks: Sequence[int] = DEFAULT_LOOKS) -> Gate:
    return Gate(partial(judge_by_gate, decide, limit=limit, looks=looks))


def default_gates_for(device: str) -> Mapping[str, Gate]:
    """Return this project's gates with the limits that a case has unless it declares others."""
    latency = _gate(decide_relative, LimitsConfig().latency_on(device))
    if device == "cpu":
        return {"latency, 10 %": latency}
    kernels = _gate(decide_kernels, DEFAULT_DEVICE_LIMIT)
    return {"latency, 5 %": latency, "device time, 2 %": kernels}


@dataclass(frozen=True)
class Pool:
    """All processes that measured one model in one regime, by slowdown."""

    by_slowdown: Mapping[float, Sequence[Measured]]

    @property
    def unchanged(self) -> Sequence[Measured]:
        """The processes without extra work."""
        return self.by_slowdown[0.0]

    def count(self, gate: Gate, slowdown: float) -> int:
        """Return how many processes a gate can draw from to judge a slowdown."""
        return sum(not gate.is_beside or m.beside is not None for m in self.by_slowdown[slowdown])

    def draw(
        self, slowdown: float, chooser: random.Random, *, is_beside: bool = False
    ) -> tuple[list[Measured], list[Measured]]:
        """Return up to eight processes to judge and ten to judge them against, none in both.

        Args:
            slowdown: of the processes to judge.
            chooser: chooses.
            is_beside: whether only processes that measured two revisions are drawn, and none to judge them against.
        """
        if is_beside:
            found = [m for m in self.by_slowdown[slowdown] if m.beside is not None]
            return chooser.sample(found, min(DEFAULT_LOOKS[-1], len(found))), []
        before = chooser.sample(self.unchanged, min(BASELINE_PROCESSES, len(self.unchanged) // 2))
        others = [m for m in self.by_slowdown[slowdown] if not any(m is b for b in before)]
        return chooser.sample(others, min(DEFAULT_LOOKS[-1], len(others))), before

    def answers(self, gate: Gate, slowdown: float, factor: float = 1.0, draws: int = DRAWS) -> list[Answer]:
        """Let a gate judge many draws; the same draws for every gate that needs the same processes."""
        chooser = random.Random(f"{slowdown}")
        drawn = (self.draw(slowdown, chooser, is_beside=gate.is_beside) for _ in range(draws))
        return [gate.judge(now, before, factor) for now, before in drawn]

    def true_slowdown(self, slowdown: float) -> float:
        """Return what the extra work costs in truth, from all processes: in kernels' time on a GPU."""
        means = [statistics.fmean(map(_log_cost, self.by_slowdown[s])) for s in (0.0, slowdown)]
        return math.expm1(means[1] - means[0])

    def smallest_found(self, gate: Gate) -> float | None:
        """Return the smallest slowdown found in 95 % of draws, in steps of a fiftieth; None beyond a factor of 5."""

        def is_found(effect: float) -> bool:
            answers = self.answers(gate, 0.0, 1 + effect, _DRAWS_OF_A_SEARCH)
            return share([a.failed for a in answers]) >= POWER

        index = bisect.bisect_left(_EFFECTS, True, key=is_found)
        return _EFFECTS[index] if index < len(_EFFECTS) else None


def _log_cost(measured: Measured) -> float:
    device_seconds = measured.record.device_seconds
    return estimate_of(measured.record).log_ratio if device_seconds is None else math.log(device_seconds)


def share(flags: Sequence[bool]) -> float:
    """Return the share of true ones."""
    return sum(flags) / len(flags)


def pools_of(measured: Sequence[Measured]) -> dict[tuple[str, bool, str], Pool]:
    """Sort processes by device, regime and model."""
    found: dict[tuple[str, bool, str], dict[float, list[Measured]]] = {}
    for m in measured:
        found.setdefault((m.device, m.is_stressed, m.model), {}).setdefault(m.slowdown, []).append(m)
    return {key: Pool(by_slowdown) for key, by_slowdown in found.items()}
