"""Evidence of several processes brought together: a difference, its standard error, and where the noise sits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.statistics.strays import learned_stray_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.statistics.estimate import ProcessEstimate

SESSION_SHARE = 0.05
"""Variance that all processes of one run are assumed to share, as a share of one process's variance."""

_TELLING_DEGREES_OF_FREEDOM = 6
"""From so many on, figures tell their own variance without a prior."""

_SMALLEST_VARIANCE = 1e-20
"""Of figures that are all the same."""

_CLIP_DEVIATIONS = 4.0
_CLIP_MINIMUM_PROCESSES = 4
_NORMAL_INTERQUARTILE_RANGE = 1.349
"""Interquartile range of the normal distribution in standard deviations."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a log-ratio, its baseline subtracted where there is one; more is slower.

    Attributes:
        log_ratios: one figure for each process of the candidate, fastest first.
        standard_error: of their mean.
        noise: variance of one process's figure, measured and moderated, with its degrees of freedom.
        own_error: of their mean, by these figures alone, where there are enough; else what ``noise`` makes of it.
        within_variance: mean variance inside the candidate's processes.
        strays: the baseline's processes that went astray on the slow side, as log-ratios like the candidate's.
        quick: its processes that went astray on the fast side.
        baseline_processes: how many processes the baseline holds, None where there is none.
        baseline_sd: standard deviation between the baseline's processes, None below two of them.
        shift_error: the part of the standard error that the machine's own change since the baseline adds.
    """

    log_ratios: tuple[float, ...]
    standard_error: float
    noise: VariancePrior
    own_error: float
    within_variance: float
    strays: tuple[float, ...] = ()
    quick: tuple[float, ...] = ()
    baseline_processes: int | None = None
    baseline_sd: float | None = None
    shift_error: float = 0.0

    @property
    def processes(self) -> int:
        """How many processes of the candidate were seen."""
        return len(self.log_ratios)

    @property
    def log_ratio(self) -> float:
        """The estimate: the mean over processes."""
        return fmean(self.log_ratios)

    @property
    def statistic(self) -> float:
        """The estimate in standard errors."""
        return self.log_ratio / self.standard_error

    @property
    def scatter_error(self) -> float:
        """The standard error as if the machine were what it was in the baseline."""
        return math.sqrt(max(0.0, self.standard_error**2 - self.shift_error**2))

    @property
    def between_variance(self) -> float:
        """The part of one process's variance that its own blocks do not explain."""
        return max(0.0, self.noise.variance - self.within_variance)

    @property
    def stray_rate(self) -> float:
        """How often one process goes astray, as far as the baseline shows it."""
        return learned_stray_rate(len(self.strays), self.baseline_processes or 0)

    @property
    def luck(self) -> float:
        """How probable it is that all processes were fast for reasons of their own, as some of the baseline's were."""
        return learned_stray_rate(len(self.quick), self.baseline_processes or 0) ** self.processes

    def stray_rate_from(self, log_ratio: float) -> float:
        """Return how often one process goes astray by so much, of which the baseline's smaller strays say nothing."""
        large = sum(stray > log_ratio - self.noise.standard_deviation for stray in self.strays)
        return learned_stray_rate(large, self.baseline_processes or 0)

    def slow_processes_to_spare(self, threshold: float) -> int:
        """Return how many of the slowest processes can be left out with the mean of the others above a threshold.

        -1 where even the mean of all is not above it.
        """
        for kept in range(1, self.processes + 1):
            if fmean(self.log_ratios[:kept]) > threshold:
                return self.processes - kept
        return -1


def compare_processes(
    candidate: Sequence[ProcessEstimate],
    baseline: Sequence[ProcessEstimate],
    prior: VariancePrior,
    *,
    session_share: float = SESSION_SHARE,
    shift_error: float = 0.0,
) -> Evidence:
    """Weigh a candidate's processes against a baseline's.

    The variance of one process is moderated (Smyth 2004): squared deviations of both groups from their means are
    added to the prior's. Noise inside the candidate's processes beyond the baseline's comes on top, because a
    single process cannot show it as a deviation.

    Args:
        candidate: what each of its processes found.
        baseline: the same of the baseline's processes.
        prior: what is believed about the variance of one process.
        session_share: the part of that variance that all processes of a run share.
        shift_error: standard error that the machine's own change since the baseline adds.

    Raises:
        MeasurementError: either side is empty or holds a figure that is not finite or a negative variance.
    """
    _check_estimates(candidate, "candidate")
    _check_estimates(baseline, "baseline")
    figures = [estimate.log_ratio for estimate in candidate]
    recorded = [estimate.log_ratio for estimate in baseline]
    clipped = _clip_strays(recorded, prior)
    centre = fmean(clipped)
    squares, df = sum_of_squares(figures) + sum_of_squares(clipped), len(figures) + len(clipped) - 2
    noise = prior.updated(squares, df)
    within = _mean_variance(candidate)
    excess = max(0.0, within - _mean_variance(baseline))

    def error(believed: VariancePrior) -> float:
        common = standard_error(
            believed, processes=len(figures), baseline_processes=len(recorded), session_share=session_share
        )
        return math.hypot(common, math.sqrt(excess / len(figures)))

    return Evidence(
        log_ratios=tuple(sorted(figure - centre for figure in figures)),
        standard_error=math.hypot(error(noise), shift_error),
        noise=noise,
        own_error=error(_own(noise, squares, df)),
        within_variance=within,
        strays=tuple(figure - centre for figure in _strays(recorded, clipped)),
        quick=tuple(figure - centre for figure in _quick(recorded, clipped)),
        baseline_processes=len(recorded),
        baseline_sd=math.sqrt(sum_of_squares(recorded) / (len(recorded) - 1)) if len(recorded) > 1 else None,
        shift_error=shift_error,
    )


def summarise_processes(samples: Sequence[ProcessEstimate], prior: VariancePrior) -> Evidence:
    """Weigh processes on their own, for a ratio that is held against a declared figure.

    One process's figure cannot vary less than its own blocks say, so what they say beyond the moderated variance comes
    on top: two processes of a noisy machine may agree by chance.

    Raises:
        MeasurementError: there is no process, or one holds a figure that is not finite or a negative variance.
    """
    _check_estimates(samples, "measured")
    figures = [estimate.log_ratio for estimate in samples]
    squares, df = sum_of_squares(figures), len(figures) - 1
    noise = prior.updated(squares, df)
    within = _mean_variance(samples)

    def error(believed: VariancePrior) -> float:
        excess = max(0.0, within - believed.variance)
        return math.hypot(standard_error(believed, processes=len(figures)), math.sqrt(excess / len(figures)))

    return Evidence(
        log_ratios=tuple(sorted(figures)),
        standard_error=error(noise),
        noise=noise,
        own_error=error(_own(noise, squares, df)),
        within_variance=within,
    )


def recorded_noise(baseline: Sequence[ProcessEstimate], prior: VariancePrior) -> VariancePrior:
    """Return the noise of one process that a baseline shows, moderated by the prior, before anything is measured.

    Raises:
        MeasurementError: the baseline is empty or holds a figure that is not finite or a negative variance.
    """
    _check_estimates(baseline, "baseline")
    clipped = _clip_strays([estimate.log_ratio for estimate in baseline], prior)
    return prior.updated(sum_of_squares(clipped), len(clipped) - 1)


def recorded_stray_rate(baseline: Sequence[ProcessEstimate], prior: VariancePrior) -> float:
    """Return how often one process goes astray by what a baseline shows; the rest is as of ``recorded_noise``."""
    _check_estimates(baseline, "baseline")
    recorded = [estimate.log_ratio for estimate in baseline]
    return learned_stray_rate(len(_strays(recorded, _clip_strays(recorded, prior))), len(recorded))


def standard_error(
    noise: VariancePrior,
    *,
    processes: int,
    baseline_processes: int | None = None,
    session_share: float = SESSION_SHARE,
) -> float:
    """Return the standard error of a mean over processes, or of its difference from a baseline's mean.

    What all processes of a run share does not average out: ``session_share`` of the variance stays.
    """
    parts = 1 / processes + session_share + (1 / baseline_processes if baseline_processes else 0.0)
    return math.sqrt(noise.variance * parts)


def _own(noise: VariancePrior, squares: float, degrees_of_freedom: int) -> VariancePrior:
    """Return the variance that figures show by themselves; what is believed of it where they are few."""
    if degrees_of_freedom < _TELLING_DEGREES_OF_FREEDOM:
        return noise
    return VariancePrior(max(squares / degrees_of_freedom, _SMALLEST_VARIANCE), degrees_of_freedom)


def _check_estimates(estimates: Sequence[ProcessEstimate], role: str) -> None:
    if not estimates:
        raise MeasurementError(f"no {role} process; a decision needs at least one")
    for index, estimate in enumerate(estimates):
        if not math.isfinite(estimate.log_ratio):
            raise MeasurementError(f"log-ratio of {role} process {index} is {estimate.log_ratio}; it must be finite")
        if not (math.isfinite(estimate.variance) and estimate.variance >= 0):
            raise MeasurementError(
                f"variance of {role} process {index} is {estimate.variance}; it must be finite and not negative"
            )


def _clip_strays(figures: list[float], prior: VariancePrior) -> list[float]:
    """Pull baseline processes that went astray to four robust deviations from the median.

    One stray would otherwise shift the mean and hide slowdowns behind an inflated variance. The deviation is the
    interquartile range's, moderated by the prior.
    """
    if len(figures) < _CLIP_MINIMUM_PROCESSES:
        return figures
    lower, median, upper = quantiles(figures, n=4, method="inclusive")
    df = len(figures) - 1
    spread = (upper - lower) / _NORMAL_INTERQUARTILE_RANGE
    reach = _CLIP_DEVIATIONS * prior.updated(df * spread**2, df).standard_deviation
    return [min(max(figure, median - reach), median + reach) for figure in figures]


def _strays(figures: Sequence[float], clipped: Sequence[float]) -> list[float]:
    """Return the figures that were pulled in because they were too slow."""
    return [figure for figure, kept in zip(figures, clipped, strict=True) if figure > kept]


def _quick(figures: Sequence[float], clipped: Sequence[float]) -> list[float]:
    """Return the figures that were pulled in because they were too fast."""
    return [figure for figure, kept in zip(figures, clipped, strict=True) if figure < kept]


def _mean_variance(estimates: Sequence[ProcessEstimate]) -> float:
    return fmean(estimate.variance for estimate in estimates)


def sum_of_squares(figures: Sequence[float]) -> float:
    """Return the sum of squared deviations from the mean."""
    mean = fmean(figures)
    return math.fsum((figure - mean) ** 2 for figure in figures)
