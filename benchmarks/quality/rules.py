"""The rules by which other tools fail a benchmark, on one process's times against another's.

Each is what its tool's documentation or source says it compares, on times taken one after the other as that tool takes
them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from scipy.stats import mannwhitneyu

Rule = Callable[[Sequence[float], Sequence[float]], bool]
"""Whether times of one process fail against a stored process's: seconds per call, round by round, in order."""

_CUT_DEVIATIONS = 2.0


def fails_on_mean(now: Sequence[float], before: Sequence[float]) -> bool:
    """pytest-benchmark with ``--benchmark-compare-fail=mean:5%``."""
    return statistics.fmean(now) > 1.05 * statistics.fmean(before)


def fails_on_minimum(now: Sequence[float], before: Sequence[float]) -> bool:
    """pytest-benchmark with ``--benchmark-compare-fail=min:5%``."""
    return min(now) > 1.05 * min(before)


def fails_on_fastest_round(now: Sequence[float], before: Sequence[float]) -> bool:
    """pytest-torch's ``perf_baseline``: the fastest of three rounds' medians, beyond 25 % and 0.05 ms."""
    fastest_now, fastest_before = _fastest_of_three(now), _fastest_of_three(before)
    return fastest_now > 1.25 * fastest_before and fastest_now - fastest_before > 5e-5


def fails_on_cut_mean(now: Sequence[float], before: Sequence[float]) -> bool:
    """Keisei's benchmarker: the mean of what lies within two standard deviations, beyond a factor of 1.05."""
    return _cut_mean(now) > 1.05 * _cut_mean(before)


def fails_on_ranks(now: Sequence[float], before: Sequence[float]) -> bool:
    """Mann and Whitney's test, one-sided at 1 %."""
    return bool(mannwhitneyu(now, before, alternative="greater").pvalue < 0.01)


RULES: Mapping[str, Rule] = {
    "pytest-benchmark `mean:5%`": fails_on_mean,
    "pytest-benchmark `min:5%`": fails_on_minimum,
    "pytest-torch `perf_baseline`": fails_on_fastest_round,
    "Keisei, 2-sigma mean, 1.05": fails_on_cut_mean,
    "Mann-Whitney, p < 1 %": fails_on_ranks,
}


def _fastest_of_three(times: Sequence[float]) -> float:
    third = max(1, len(times) // 3)
    rounds = [times[start : start + third] for start in (0, third, 2 * third)]
    return min(statistics.median(part) for part in rounds if part)


def _cut_mean(times: Sequence[float]) -> float:
    mean, deviation = statistics.fmean(times), statistics.pstdev(times)
    return statistics.fmean(t for t in times if abs(t - mean) <= _CUT_DEVIATIONS * deviation)
