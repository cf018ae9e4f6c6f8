"""Tails of the distributions used, from ``scipy.special``: importing ``scipy.stats`` would cost twice as much.

SciPy loads it when it is first used, so that commands without a decision do not wait for it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import scipy


@lru_cache(maxsize=4096)
def t_quantile(level: float, degrees_of_freedom: float) -> float:
    """Return the value that Student's t exceeds with probability ``level``."""
    return -float(scipy.special.stdtrit(degrees_of_freedom, level))


def t_tail(statistic: float, degrees_of_freedom: float) -> float:
    """Return the probability that Student's t exceeds ``statistic``."""
    return float(scipy.special.stdtr(degrees_of_freedom, -statistic))


def chi_square_quantile(level: float, degrees_of_freedom: float) -> float:
    """Return the value that chi-square exceeds with probability ``level``."""
    return float(scipy.special.chdtri(degrees_of_freedom, level))


@lru_cache(maxsize=1024)
def binomial_tail(count: int, trials: int, probability: float) -> float:
    """Return the probability of more than ``count`` successes."""
    return float(scipy.special.bdtrc(count, trials, probability))


@lru_cache(maxsize=4096)
def beta_binomial_tail(count: int, trials: int, successes: float, failures: float) -> float:
    """Return the probability of ``count`` successes or more, where their rate is beta-distributed.

    Args:
        count: successes.
        trials: how many there are.
        successes: first parameter of the beta distribution, larger than 0.
        failures: second parameter, larger than 0.
    """
    ways = (
        math.comb(trials, found) * scipy.special.beta(successes + found, failures + trials - found)
        for found in range(count, trials + 1)
    )
    return float(sum(ways) / scipy.special.beta(successes, failures))


@lru_cache(maxsize=256)
def mean_of_smallest(kept: int, trials: int) -> float:
    """Return the expected mean of the ``kept`` smallest of ``trials`` standard normal values (Blom 1958)."""
    normal = NormalDist()
    return sum(normal.inv_cdf((rank - 0.375) / (trials + 0.25)) for rank in range(1, kept + 1)) / kept
