"""Whether a candidate became slower than its limit, or is fast enough: evidence of processes in, an outcome out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import Certainty, Interval, Outcome
from pytest_nnopt.statistics.distributions import t_quantile, t_tail
from pytest_nnopt.statistics.evidence import SESSION_SHARE, compare_processes, summarise_processes
from pytest_nnopt.statistics.power import (
    as_change,
    check_limit,
    detectable_log_ratio,
    lowest_failing,
    scatter_allowed,
)
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.statistics.strays import stray_probability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.statistics.estimate import ProcessEstimate
    from pytest_nnopt.statistics.evidence import Evidence
    from pytest_nnopt.statistics.prior import VariancePrior
    from pytest_nnopt.statistics.sequential import Look

DEFAULT_PLAN = SequentialPlan()

MOST_LUCK = 0.05
"""How probable fast processes alone may make a pass: what a change of the size of the limit may pass with."""


class Reason(str, Enum):
    """Why a decision came out as it did; the last five leave the question open.

    ``NOT_WITHIN_LIMIT``: slower with significance, and by all processes of the plan as slow as the limit may look.
    ``UNCONFIRMED``: slower with significance, but a few stray processes could explain it, or one process alone has
    seen it. ``COULD_BE_LUCK``: within the limit, but so few processes may all be fast ones, as the baseline holds some.
    ``NEAR_LIMIT``: the figure is too close to the limit for either side. ``TOO_NOISY``: even no change at all would
    not have passed. ``CHOSEN_OTHERWISE``: slower with significance, but for ways to launch kernels that chance may have
    drawn.
    """

    SLOWER_THAN_LIMIT = "slower_than_limit"
    NOT_WITHIN_LIMIT = "not_within_limit"
    WITHIN_LIMIT = "within_limit"
    FASTER = "faster"
    BELOW_MINIMUM = "below_minimum"
    ABOVE_MINIMUM = "above_minimum"
    UNCONFIRMED = "unconfirmed"
    COULD_BE_LUCK = "could_be_luck"
    NEAR_LIMIT = "near_limit"
    TOO_NOISY = "too_noisy"
    CHOSEN_OTHERWISE = "chosen_otherwise"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one question about a ratio, with everything a reader needs to judge it.

    Changes are relative: 0.05 is 5 % slower than the baseline or, of ``decide_minimum``, a ratio of 1.05.

    Attributes:
        outcome: passed, improved, failed or inconclusive.
        reason: why.
        change: the estimate.
        interval: its bounds at the levels spent on this look: a failure needs the one, a pass the other.
        next_look: how many processes the next look needs; None when decided, or when the plan is spent.
        certainty: what it rests on.
        measured_change: the estimate without regard to how a GPU's kernels were launched; None where it is the same.
    """

    outcome: Outcome
    reason: Reason
    change: float
    interval: Interval
    next_look: int | None
    certainty: Certainty
    measured_change: float | None = None

    @property
    def needs_more(self) -> bool:
        """Whether another process may still decide the question."""
        return self.next_look is not None


def decide_regression(
    candidate: Sequence[ProcessEstimate],
    baseline: Sequence[ProcessEstimate],
    *,
    limit: float,
    prior: VariancePrior,
    plan: SequentialPlan = DEFAULT_PLAN,
    session_share: float = SESSION_SHARE,
    shift_error: float = 0.0,
    is_watching: bool = False,
) -> Decision:
    """Decide whether a candidate became slower than its baseline by more than ``limit``.

    Failed: the lower bound of the change is above zero at the level spent on this look, and the estimate is above
    the limit, also without as many of the slowest processes as may have gone astray by chance. At the last look the
    estimate need only be so large as that of a slowdown of the size of the limit is in 95 % of runs, by the scatter of
    the processes themselves. Passed: the upper bound is below the limit, and where some of the baseline's processes
    were fast for reasons of their own, there are enough that not all of them can be such. Improved: passed,
    significantly faster, and by more than half the limit; left unrecorded, that much could be lost again unseen.
    Otherwise more processes are asked for while looks are left.

    Args:
        candidate: log-ratios of the candidate's processes in the order measured, negative is faster.
        baseline: the same figure of the baseline's processes.
        limit: the tolerated relative slowdown, 0.05 for 5 %.
        prior: what other cases teach about the variance of one process.
        plan: when evidence is looked at, and what errors may cost.
        session_share: the part of one process's variance that all processes of a run share.
        shift_error: standard error that the machine's own change since the baseline adds; see ``machine_shift``.
        is_watching: whether only an estimate above the limit fails, at the last look as well.

    Raises:
        MeasurementError: a side is empty, a figure is not finite, a variance or the limit is negative.
    """
    evidence = compare_processes(candidate, baseline, prior, session_share=session_share, shift_error=shift_error)
    return _within_limit(evidence, limit, plan, is_watching=is_watching)


def decide_change(
    samples: Sequence[ProcessEstimate],
    *,
    limit: float,
    prior: VariancePrior,
    plan: SequentialPlan = DEFAULT_PLAN,
) -> Decision:
    """Decide whether a ratio of two times measured side by side in each process is above one by more than ``limit``.

    Outcomes are those of ``decide_regression``, of a candidate and a baseline that every process has measured both.

    Args:
        samples: log-ratios of candidate to baseline in the order measured, negative is faster.
        limit: the tolerated relative slowdown, 0.05 for 5 %.
        prior: what is believed about the variance of one process's ratio.
        plan: when evidence is looked at, and what errors may cost.

    Raises:
        MeasurementError: there is no sample, a figure is not finite, a variance or the limit is negative.
    """
    return _within_limit(summarise_processes(samples, prior), limit, plan)


def _within_limit(evidence: Evidence, limit: float, plan: SequentialPlan, *, is_watching: bool = False) -> Decision:
    """Decide whether a change is within ``limit``; arguments and errors as of ``decide_regression``."""
    finding = _Finding(evidence, check_limit(limit), plan.look_at(evidence.processes), is_watching=is_watching)
    outcome, reason = finding.answer
    return _as_decision(
        finding,
        outcome=outcome,
        reason=reason,
        change=as_change(evidence.log_ratio),
        bounds=(as_change(finding.low), as_change(finding.high)),
        minimum_detectable_effect=as_change(finding.detectable_log_ratio),
        plan=plan,
    )


def decide_minimum(
    samples: Sequence[ProcessEstimate],
    *,
    minimum: float,
    prior: VariancePrior,
    plan: SequentialPlan = DEFAULT_PLAN,
) -> Decision:
    """Decide whether a ratio, such as the speedup reference/candidate, reaches a declared minimum.

    Failed: the upper bound of the ratio is below the minimum at the level spent on this look. Passed: the lower
    bound is above the minimum. Otherwise more processes are asked for while the plan has looks left.

    Args:
        samples: log-ratios of the processes in the order measured, larger is better. Estimates of
            candidate/reference serve through their ``inverse``.
        minimum: the ratio that must be reached, 1.15 for a speedup of 15 %.
        prior: what other cases teach about the variance of one process.
        plan: when evidence is looked at, and what errors may cost.

    Raises:
        MeasurementError: there is no sample, a figure is not finite, a variance is negative, the minimum not positive.
    """
    if not (math.isfinite(minimum) and minimum > 0):
        raise MeasurementError(f"minimum is {minimum}; a ratio is positive and finite")
    aim = math.log(minimum)
    shortfalls = [replace(sample, log_ratio=aim - sample.log_ratio) for sample in samples]
    evidence = summarise_processes(shortfalls, prior)
    finding = _Finding(evidence, 0.0, plan.look_at(evidence.processes))
    outcome, reason = finding.answer
    return _as_decision(
        finding,
        outcome=Outcome.PASSED if outcome is Outcome.IMPROVED else outcome,
        reason=_MINIMUM_REASONS.get(reason, reason),
        change=as_change(aim - evidence.log_ratio),
        bounds=(as_change(aim - finding.high), as_change(aim - finding.low)),
        minimum_detectable_effect=-as_change(-finding.detectable_log_ratio),
        plan=plan,
    )


_MINIMUM_REASONS = {
    Reason.SLOWER_THAN_LIMIT: Reason.BELOW_MINIMUM,
    Reason.WITHIN_LIMIT: Reason.ABOVE_MINIMUM,
    Reason.FASTER: Reason.ABOVE_MINIMUM,
}


@dataclass(frozen=True, slots=True)
class _Finding:
    """Evidence held against a limit at one look; log-ratios, more is slower.

    ``is_watching``: whether only an estimate above the limit fails, at the last look as well.
    """

    evidence: Evidence
    log_limit: float
    look: Look
    is_watching: bool = False

    @property
    def low(self) -> float:
        return self.evidence.log_ratio - self._half_width(self.look.alarm_level)

    @property
    def high(self) -> float:
        return self.evidence.log_ratio + self._half_width(self.look.pass_level)

    @property
    def threshold(self) -> float:
        """What the estimate of a failure is above; a machine that has moved makes it no lower."""
        if self.is_watching or not self.look.is_last:
            return self.log_limit
        df = self.evidence.noise.degrees_of_freedom
        scatter = scatter_allowed(self.evidence.own_error, df)
        passing = t_quantile(self.look.pass_level, df) * self.evidence.scatter_error
        return lowest_failing(self.log_limit, min(scatter, passing))

    @property
    def tail(self) -> float:
        """Probability of such evidence without a slowdown, by ordinary scatter or by strays, at this look alone."""
        by_scatter = t_tail(self.evidence.statistic, self.evidence.noise.degrees_of_freedom)
        return max(by_scatter, stray_probability(self.evidence, self.threshold))

    @property
    def answer(self) -> tuple[Outcome, Reason]:
        if self.tail <= self.look.alarm_level:
            if not self.look.can_fail:
                return Outcome.INCONCLUSIVE, Reason.UNCONFIRMED
            is_beyond = self.evidence.log_ratio > self.log_limit
            return Outcome.FAILED, Reason.SLOWER_THAN_LIMIT if is_beyond else Reason.NOT_WITHIN_LIMIT
        if self.high < self.log_limit and self.evidence.luck > MOST_LUCK:
            return Outcome.INCONCLUSIVE, Reason.COULD_BE_LUCK
        if self.high < self.log_limit:
            return (Outcome.IMPROVED, Reason.FASTER) if self._is_faster else (Outcome.PASSED, Reason.WITHIN_LIMIT)
        if self.low > 0 and self.evidence.log_ratio > self.threshold:
            return Outcome.INCONCLUSIVE, Reason.UNCONFIRMED
        return Outcome.INCONCLUSIVE, Reason.TOO_NOISY if self._is_blind else Reason.NEAR_LIMIT

    @property
    def detectable_log_ratio(self) -> float:
        """The smallest true log-ratio that evidence of this precision would fail.

        The larger it is, the fewer of the baseline's strays are as large.
        """
        evidence = self.evidence
        by_rate = {
            rate: detectable_log_ratio(
                evidence.noise,
                evidence.standard_error,
                processes=evidence.processes,
                log_limit=self.threshold,
                level=self.look.alarm_level,
                stray_rate=rate,
            )
            for rate in {evidence.stray_rate, *map(evidence.stray_rate_from, (*evidence.strays, math.inf))}
        }
        return min(found for rate, found in by_rate.items() if evidence.stray_rate_from(found) <= rate)

    @property
    def _is_faster(self) -> bool:
        estimate = self.evidence.log_ratio
        return estimate + self._half_width(self.look.alarm_level) < 0 and estimate < -self.log_limit / 2

    @property
    def _is_blind(self) -> bool:
        return self._half_width(self.look.pass_level) >= self.log_limit > 0

    def _half_width(self, level: float) -> float:
        return t_quantile(level, self.evidence.noise.degrees_of_freedom) * self.evidence.standard_error


def _as_decision(
    finding: _Finding,
    *,
    outcome: Outcome,
    reason: Reason,
    change: float,
    bounds: tuple[float, float],
    minimum_detectable_effect: float,
    plan: SequentialPlan,
) -> Decision:
    evidence, look = finding.evidence, finding.look
    undecided = outcome is Outcome.INCONCLUSIVE
    return Decision(
        outcome=outcome,
        reason=reason,
        change=change,
        interval=Interval(*bounds, confidence=1 - look.alarm_level - look.pass_level),
        next_look=plan.next_look(evidence.processes) if undecided else None,
        certainty=Certainty(
            processes=evidence.processes,
            baseline_processes=evidence.baseline_processes,
            process_sd=evidence.noise.standard_deviation,
            between_sd=math.sqrt(evidence.between_variance),
            within_sd=math.sqrt(evidence.within_variance),
            baseline_sd=evidence.baseline_sd,
            minimum_detectable_effect=minimum_detectable_effect,
            p_value=min(1.0, finding.tail / look.alarm_share),
            alarm_level=look.alarm_level,
            pass_level=look.pass_level,
            baseline_strays=len(evidence.strays),
        ),
    )
