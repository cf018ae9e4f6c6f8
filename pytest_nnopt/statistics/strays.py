"""Whether processes that went astray could explain what looks like a slowdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nnopt.statistics.distributions import beta_binomial_tail, binomial_tail, t_tail

if TYPE_CHECKING:
    from pytest_nnopt.statistics.evidence import Evidence

STRAY_PROBABILITY = 0.03
"""How often a process is taken to be slow for reasons of its own, whatever the other processes do."""

_WORTH_PROCESSES = 10
"""How many recorded processes that belief is worth."""

_CHOICES_BELIEVED = 0.5
"""Both parameters of the beta distribution that is believed of how often a choice falls as it does, before any was
seen: Jeffreys' prior (Jeffreys 1946), as choices between ways that are about as good may fall one way rarely or half of
the time."""

HEAVY_TAIL_DEGREES_OF_FREEDOM = 3.0
"""Student's t with this many degrees of freedom is as heavy-tailed as single processes are."""


def learned_stray_rate(strays: int, processes: int) -> float:
    """Return how often a process goes astray where so many of a baseline's processes did, never below the belief.

    It is the mean of the beta distribution that the belief becomes by seeing them. Where a machine has two states, a
    baseline that holds one slow process says that the next ones may well be slow, too.
    """
    expected = STRAY_PROBABILITY * _WORTH_PROCESSES
    return max(STRAY_PROBABILITY, (expected + strays) / (_WORTH_PROCESSES + processes))


def choice_probability(count: int, choices: int, earlier_count: int, earlier_choices: int) -> float:
    """Return how probable it is that a choice by chance falls so at least ``count`` times in ``choices``.

    How often it does is unknown; it is the posterior predictive probability after it did in ``earlier_count`` of
    ``earlier_choices``.
    """
    successes = _CHOICES_BELIEVED + earlier_count
    failures = _CHOICES_BELIEVED + earlier_choices - earlier_count
    return beta_binomial_tail(count, choices, successes, failures)


def stray_probability(evidence: Evidence, threshold: float) -> float:
    """Return how probable it is that strays alone put the estimate above what a failure must be above.

    If the processes other than the m slowest are above that threshold too, more than m of them must have gone astray
    together, each as slow as these are; or the statistic must be an extreme of a heavy-tailed distribution. The least
    probable of these, for any m, counts. So one process can only fail a case by being slow beyond all measure.
    """
    spare = evidence.slow_processes_to_spare(threshold)
    if spare < 0:
        return 1.0
    by_count = min(
        binomial_tail(count, evidence.processes, evidence.stray_rate_from(evidence.log_ratios[-count - 1]))
        for count in range(spare + 1)
    )
    heavy_tail = min(evidence.noise.degrees_of_freedom, HEAVY_TAIL_DEGREES_OF_FREEDOM)
    return min(by_count, t_tail(evidence.statistic, heavy_tail))


def strays_allowed(processes: int, level: float, stray_rate: float = STRAY_PROBABILITY) -> int:
    """Return how many of ``processes`` may be strays, so that more of them are less probable than ``level``."""
    return next(count for count in range(processes + 1) if binomial_tail(count, processes, stray_rate) <= level)
