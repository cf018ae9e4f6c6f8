"""What a machine's noise allows: detectable effects and processes needed, before or after measuring."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.statistics.distributions import mean_of_smallest, t_quantile
from pytest_nnopt.statistics.evidence import standard_error
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.statistics.strays import HEAVY_TAIL_DEGREES_OF_FREEDOM, STRAY_PROBABILITY, strays_allowed
from pytest_nnopt.units import relative_change

if TYPE_CHECKING:
    from pytest_nnopt.statistics.prior import VariancePrior

DEFAULT_POWER = 0.95

_LARGEST_LOG_RATIO = 700.0
"""The exponential of anything larger overflows a float."""


def detectable_log_ratio(
    noise: VariancePrior,
    error: float,
    *,
    processes: int,
    log_limit: float,
    level: float,
    stray_rate: float = STRAY_PROBABILITY,
    power: float = DEFAULT_POWER,
) -> float:
    """Return the smallest true log-ratio that fails with probability ``power`` at one look.

    It lies above everything a failure must exceed by the estimate's own scatter (Cohen 1988, with Student's t): the
    critical value, the limit, and the limit once more without as many of the slowest processes as may be strays.

    Args:
        noise: variance of one process's figure with its degrees of freedom.
        error: standard error of the estimate.
        processes: how many processes the estimate is the mean of.
        log_limit: what the estimate must be above: the logarithm of the tolerated slowdown, or ``lowest_failing``.
        level: one-sided level of the look.
        stray_rate: how often one process goes astray.
        power: probability of a failure.
    """
    df = noise.degrees_of_freedom
    scatter = t_quantile(1 - power, df) * error
    heavy = max(t_quantile(level, min(df, HEAVY_TAIL_DEGREES_OF_FREEDOM)) * error, log_limit) + scatter
    kept = processes - strays_allowed(processes, level, stray_rate)
    if kept == 0:
        return heavy
    handicap = -mean_of_smallest(kept, processes) * noise.standard_deviation
    fastest_scatter = scatter * math.sqrt(processes / kept)
    plain = max(t_quantile(level, df) * error + scatter, log_limit + handicap + fastest_scatter)
    return min(plain, heavy)


def lowest_failing(log_limit: float, uncertainty: float) -> float:
    """Return what an estimate must be above to fail: so much below the limit, and not below zero.

    Args:
        log_limit: logarithm of the tolerated slowdown.
        uncertainty: how far below the limit the estimate of a slowdown of just that size may lie by chance; 0 before
            the last look, where that is still to be found out.
    """
    return max(0.0, log_limit - uncertainty)


def scatter_allowed(error: float, degrees_of_freedom: float) -> float:
    """Return how far below the truth an estimate lies at most in 95 % of runs."""
    return t_quantile(1 - DEFAULT_POWER, degrees_of_freedom) * error


def minimum_detectable_effect(
    noise: VariancePrior,
    *,
    processes: int,
    baseline_processes: int,
    limit: float = 0.0,
    plan: SequentialPlan | None = None,
    stray_rate: float = STRAY_PROBABILITY,
    power: float = DEFAULT_POWER,
) -> float:
    """Return the smallest relative slowdown that fails with probability ``power``, known before measuring.

    Args:
        noise: variance of one process's figure: a prior, or one updated with a baseline's deviations.
        processes: how many processes of the candidate would be measured.
        baseline_processes: how many the baseline holds.
        limit: the tolerated relative slowdown.
        plan: when evidence is looked at; the look that ``processes`` belong to is used.
        stray_rate: how often one process goes astray: what is believed, or ``recorded_stray_rate`` of a baseline.
        power: probability of a failure at that slowdown.

    Raises:
        MeasurementError: a number of processes is below one, or ``limit`` or ``power`` is out of range.
    """
    if baseline_processes < 1:
        raise MeasurementError("cannot compare with a baseline of no processes; record at least one")
    look = (plan or SequentialPlan()).look_at(processes)
    error = standard_error(noise, processes=processes, baseline_processes=baseline_processes)
    uncertainty = scatter_allowed(error, noise.degrees_of_freedom) if look.is_last else 0.0
    return as_change(
        detectable_log_ratio(
            noise,
            error,
            processes=processes,
            log_limit=lowest_failing(check_limit(limit), uncertainty),
            level=look.alarm_level,
            stray_rate=stray_rate,
            power=_check_power(power),
        )
    )


def processes_needed(
    effect: float,
    noise: VariancePrior,
    *,
    baseline_processes: int,
    limit: float = 0.0,
    plan: SequentialPlan | None = None,
    stray_rate: float = STRAY_PROBABILITY,
    power: float = DEFAULT_POWER,
) -> int | None:
    """Return how many processes find a slowdown of ``effect``, None where the whole plan is not enough.

    Args and errors are those of ``minimum_detectable_effect``.
    """
    plan = plan or SequentialPlan()
    for processes in plan.looks:
        reach = minimum_detectable_effect(
            noise,
            processes=processes,
            baseline_processes=baseline_processes,
            limit=limit,
            plan=plan,
            stray_rate=stray_rate,
            power=power,
        )
        if reach <= effect:
            return processes
    return None


def as_change(log_ratio: float) -> float:
    """Turn a log-ratio into a relative change, finite however little is known."""
    return relative_change(min(log_ratio, _LARGEST_LOG_RATIO))


def check_limit(limit: float) -> float:
    """Return the logarithm of a tolerated relative slowdown.

    Raises:
        MeasurementError: the limit is negative or not finite.
    """
    if not (math.isfinite(limit) and limit >= 0):
        raise MeasurementError(f"limit is {limit}; a tolerated slowdown is zero or more")
    return math.log1p(limit)


def _check_power(power: float) -> float:
    if not 0.5 <= power < 1:
        raise MeasurementError(f"power is {power}; it lies between 0.5 and 1")
    return power
