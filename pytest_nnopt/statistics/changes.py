"""Where a series of figures changed over time: the steps and slow drifts that no single comparison shows.

The method is E-divisive: D. S. Matteson and N. A. James, A Nonparametric Approach for Multiple Change Point Analysis
of Multivariate Data, Journal of the American Statistical Association 109 (2014). A series is split where the energy
distance between both parts is largest, the split is kept if random orders of the same values seldom split as well,
and each part is searched again. MongoDB judges its performance tests so: D. Daly et al., The Use of Change Point
Detection to Identify Software Performance Regressions in a Continuous Integration System, ICPE 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

_PERMUTATIONS = 199
_SIGNIFICANCE = 0.01
_SHORTEST = 3
"""Values of the shortest part: fewer tell no level from a stray."""
_MOST_AT_ONCE = 200
"""Values searched at once; the work grows with their square. Of a longer series, means of groups are searched."""


@dataclass(frozen=True, slots=True)
class Change:
    """A place where a series changed.

    Attributes:
        index: the first value after the change.
        before: mean of the values from the change before, or from the start.
        after: mean of the values up to the next change, or to the end.
        p_value: how often random orders of the values around it split as well; no less than the test can tell.
    """

    index: int
    before: float
    after: float
    p_value: float


def find_changes(values: Sequence[float], *, significance: float = _SIGNIFICANCE, seed: int = 0) -> list[Change]:
    """Find where a series changed its level.

    A series of more than two hundred values is searched in means of groups of them, then every place is sharpened, and
    the newest values of the last level are searched one by one, so that a recent step is not averaged away.

    Args:
        values: the series, oldest first; finite.
        significance: how often a series without a change may be split.
        seed: of the random orders; the same series gives the same answer.

    Returns:
        the changes, oldest first. The level of a slow drift is split into several.
    """
    series = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    edges = _edges(len(series))
    coarse = np.add.reduceat(series, edges[:-1]) / np.diff(edges) if len(series) else series
    found = {_sharpened(series, edges, index): p for index, p in _splits(coarse, 0, significance, generator)}
    newest = max(len(series) - _MOST_AT_ONCE, *found, 0)
    if len(series) > _MOST_AT_ONCE:
        found = {**dict(_splits(series[newest:], newest, significance, generator)), **found}
    return _described(series, dict(sorted(found.items())))


def _edges(length: int) -> npt.NDArray[np.int64]:
    """Return where the groups of a series begin, and its end; a short series has a group for each value."""
    return np.linspace(0, length, min(length, _MOST_AT_ONCE) + 1).round().astype(np.int64)


def _splits(
    values: _Floats, offset: int, significance: float, generator: np.random.Generator
) -> Iterator[tuple[int, float]]:
    """Yield every significant split of a series, counted from ``offset``, with its p-value."""
    if len(values) < 2 * _SHORTEST:
        return
    distances = np.abs(values[:, None] - values[None, :])
    index, statistic = _best_split(distances)
    p_value = _p_value(distances, statistic, significance, generator)
    if p_value > significance:
        return
    yield offset + index, p_value
    yield from _splits(values[:index], offset, significance, generator)
    yield from _splits(values[index:], offset + index, significance, generator)


def _best_split(distances: _Floats) -> tuple[int, float]:
    """Return the split with the largest scaled energy distance between its parts, and that distance.

    Args:
        distances: of every two values, in the order of the series.
    """
    size = len(distances)
    places = slice(_SHORTEST - 1, size - _SHORTEST)
    within_left = np.cumsum(np.einsum("ij,ij->j", distances, _above_diagonal(size)))
    sums, total = np.cumsum(distances.sum(axis=0))[places], within_left[-1]
    within_left = within_left[places]
    between = sums - 2 * within_left  # a sum over the left part's rows counts pairs within it twice
    within_right = total - within_left - between
    left = np.arange(_SHORTEST, size - _SHORTEST + 1, dtype=np.float64)
    right = size - left
    energy = (
        2 * between / (left * right) - 2 * within_left / (left * (left - 1)) - 2 * within_right / (right * (right - 1))
    )
    scaled = left * right / size * energy
    best = int(np.argmax(scaled))
    return best + _SHORTEST, float(scaled[best])


@lru_cache(maxsize=8)
def _above_diagonal(size: int) -> _Floats:
    """Return a matrix of ones above the diagonal, and zeros."""
    return np.triu(np.ones((size, size)), 1)


def _p_value(distances: _Floats, statistic: float, significance: float, generator: np.random.Generator) -> float:
    """Return how often a random order of the values splits as well; 1 as soon as it is too often to matter."""
    allowed = significance * (_PERMUTATIONS + 1) - 1
    as_good = 0
    for _ in range(_PERMUTATIONS):
        order = generator.permutation(len(distances))
        as_good += _best_split(distances.take(order, axis=0).take(order, axis=1))[1] >= statistic
        if as_good > allowed:
            return 1.0
    return (as_good + 1) / (_PERMUTATIONS + 1)


def _sharpened(series: _Floats, edges: npt.NDArray[np.int64], group: int) -> int:
    """Return the value at which a change between two groups began, searched among the groups' neighbours."""
    start, end = edges[max(0, group - _SHORTEST)], edges[min(len(edges) - 1, group + _SHORTEST)]
    if end - start <= 2 * _SHORTEST:
        return int(edges[group])
    near = series[start:end]
    return int(start) + _best_split(np.abs(near[:, None] - near[None, :]))[0]


def _described(series: _Floats, found: dict[int, float]) -> list[Change]:
    borders = [0, *found, len(series)]
    means = [float(series[start:end].mean()) for start, end in pairwise(borders) if found]
    return [
        Change(index, means[number], means[number + 1], p_value)
        for number, (index, p_value) in enumerate(found.items())
    ]
