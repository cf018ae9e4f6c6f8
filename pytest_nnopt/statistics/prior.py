"""What other cases teach about how much one case varies between processes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.statistics.distributions import chi_square_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_nnopt.statistics.estimate import ProcessEstimate

_MINIMUM_CASES = 5
_MINIMUM_DEGREES_OF_FREEDOM = 2.0
_MAXIMUM_DEGREES_OF_FREEDOM = 30.0
_NEWTON_STEPS = 20
"""Convergence is quadratic and from one side; six steps suffice for any value that data give."""


@dataclass(frozen=True, slots=True)
class VariancePrior:
    """A belief about the variance of one process's log-ratio, within and between processes together.

    Attributes:
        variance: the variance believed in.
        degrees_of_freedom: how many degrees of freedom of measurement the belief is worth.

    Raises:
        MeasurementError: a field is not positive and finite.
    """

    variance: float
    degrees_of_freedom: float

    def __post_init__(self) -> None:
        for name in ("variance", "degrees_of_freedom"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise MeasurementError(f"the {name} of a variance prior is {value}; it must be positive and finite")

    @property
    def standard_deviation(self) -> float:
        """Square root of the variance: the relative spread of one process's figure, for small spreads."""
        return math.sqrt(self.variance)

    def updated(self, sum_of_squares: float, degrees_of_freedom: float) -> VariancePrior:
        """Return the belief after seeing squared deviations with their degrees of freedom (Smyth 2004, section 3)."""
        total = self.degrees_of_freedom + degrees_of_freedom
        return VariancePrior((self.degrees_of_freedom * self.variance + sum_of_squares) / total, total)

    def at_least(self, confidence: float) -> VariancePrior:
        """Return the smallest variance that these degrees of freedom leave room for, with that confidence."""
        df = self.degrees_of_freedom
        return VariancePrior(self.variance * df / chi_square_quantile(1 - confidence, df), df)


DEFAULT_CPU_PRIOR = VariancePrior(0.025**2, 4.0)
"""Interleaved candidate/reference latency on a shared CPU: 1.0 to 2.9 % in ``benchmarks/results/gate_quality.md``, to
whose six standard deviations ``pool_prior`` fits (1.6 %)² and 3.5 degrees of freedom. A larger variance is assumed of
a machine that has not been measured yet."""

DEFAULT_GPU_PRIOR = VariancePrior(0.015**2, 2.0)
"""Interleaved candidate/reference latency on a GPU: 0.05 to 0.2 % where the device sets the pace and 4 % and more
where the host does, so a case's own baseline must weigh more than the prior."""

DEFAULT_YARDSTICK_PRIOR = VariancePrior(0.08**2, 4.0)
"""Interleaved candidate/yardstick latency, on any device: 3 to 12 % between processes of one day on a shared CPU."""

DEFAULT_DEVICE_TIME_PRIOR = VariancePrior(0.0012**2, 4.0)
"""Summed kernel time of one call on a GPU, kernels launched alike: 0.03 to 0.05 % where a call takes milliseconds, and
0.3 % where it takes 40 µs, so a case's own baseline must weigh more than the prior."""


def pool_prior(
    baselines: Sequence[Sequence[ProcessEstimate]], *, fallback: VariancePrior = DEFAULT_CPU_PRIOR
) -> VariancePrior:
    """Fit the prior to the baselines of an environment's cases.

    The variances of the cases are taken as draws from a scaled F distribution; their logarithms' mean and
    variance give both parameters in closed form (Smyth 2004, section 6.2).

    Args:
        baselines: one sequence of process estimates for each case; those of fewer than two processes are ignored.
        fallback: what is returned when fewer than five cases remain.

    Returns:
        A prior with 2 to 30 degrees of freedom: moments of a handful of cases justify neither extreme.
    """
    return pool_variances([sample_variance(baseline) for baseline in baselines], fallback=fallback)


def pool_variances(
    variances: Iterable[tuple[float, int] | None], *, fallback: VariancePrior = DEFAULT_CPU_PRIOR
) -> VariancePrior:
    """Fit the prior as ``pool_prior`` does, to what ``sample_variance`` says of each case."""
    measured = [one for one in variances if one is not None]
    if len(measured) < _MINIMUM_CASES:
        return fallback
    values = np.array([variance for variance, _ in measured])
    half_df = np.array([df / 2 for _, df in measured])
    floor = 1e-5 * float(np.median(values))
    if floor == 0:
        return fallback
    centred = np.log(np.maximum(values, floor)) - scipy.special.digamma(half_df) + np.log(half_df)
    spread = float(np.var(centred, ddof=1) - np.mean(scipy.special.polygamma(1, half_df)))
    df = 2 * _inverse_trigamma(spread) if spread > 0 else math.inf
    df = min(max(df, _MINIMUM_DEGREES_OF_FREEDOM), _MAXIMUM_DEGREES_OF_FREEDOM)
    return VariancePrior(math.exp(float(np.mean(centred) + scipy.special.digamma(df / 2)) - math.log(df / 2)), df)


def sample_variance(estimates: Sequence[ProcessEstimate]) -> tuple[float, int] | None:
    """Return the variance of the log-ratios and its degrees of freedom; None of fewer than two processes."""
    count = len(estimates)
    if count < 2:
        return None
    mean = math.fsum(estimate.log_ratio for estimate in estimates) / count
    return math.fsum((estimate.log_ratio - mean) ** 2 for estimate in estimates) / (count - 1), count - 1


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value for a positive value by Newton's method on 1/trigamma (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(_NEWTON_STEPS):
        trigamma = float(scipy.special.polygamma(1, x))
        x += trigamma * (1 - trigamma / value) / float(scipy.special.polygamma(2, x))
    return x
