from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nnopt.statistics.changes import find_changes

NOISE = 0.01


def noise(count: int, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).normal(0.0, NOISE, count))


def stepped(*levels: tuple[float, int], seed: int = 0) -> list[float]:
    steps = [level for level, count in levels for _ in range(count)]
    return [level + scatter for level, scatter in zip(steps, noise(len(steps), seed), strict=True)]


@pytest.mark.parametrize("count", [0, 1, 5, 6, 40])
def test_a_steady_or_short_series_has_no_change(count: int) -> None:
    assert find_changes(noise(count)) == []


def test_a_constant_series_has_no_change() -> None:
    assert find_changes([1.0] * 50) == []


def test_a_step_is_found_where_it_is_with_both_levels() -> None:
    (change,) = find_changes(stepped((0.0, 20), (0.05, 12)))
    assert change.index == 20
    assert change.before == pytest.approx(0.0, abs=NOISE)
    assert change.after == pytest.approx(0.05, abs=NOISE)
    assert change.p_value == pytest.approx(1 / 200)


def test_two_steps_are_found_in_order() -> None:
    assert [change.index for change in find_changes(stepped((0.0, 20), (0.06, 20), (-0.02, 20)))] == [20, 40]


def test_a_drift_that_no_step_shows_is_found() -> None:
    drift = [0.001 * index + scatter for index, scatter in enumerate(noise(60))]
    changes = find_changes(drift)
    assert changes
    assert all(change.after > change.before for change in changes)


def test_one_stray_value_is_no_change() -> None:
    values = noise(40)
    values[20] += 1.0
    assert find_changes(values) == []


def test_of_a_long_series_a_step_is_found_to_the_value() -> None:
    changes = find_changes(stepped((0.0, 613), (0.04, 387)))
    assert [abs(change.index - 613) <= 3 for change in changes] == [True]


def test_of_a_long_series_a_step_among_the_newest_is_found() -> None:
    changes = find_changes(stepped((0.0, 4990), (0.05, 10)))
    assert [change.index for change in changes] == [4990]


def test_the_same_series_gives_the_same_answer() -> None:
    values = stepped((0.0, 15), (0.02, 15))
    assert find_changes(values) == find_changes(values)


def test_steady_series_are_split_as_seldom_as_said() -> None:
    split = sum(bool(find_changes(noise(30, seed))) for seed in range(200))
    assert split <= 6  # of 200 at 1 %: more than 6 happens once in a thousand


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-50, 50), max_size=60))
def test_changes_lie_inside_and_are_ordered(values: list[float]) -> None:
    found = [change.index for change in find_changes(values)]
    assert found == sorted(set(found))
    assert all(3 <= index <= len(values) - 3 for index in found)


@pytest.mark.parametrize("shift", [-7.0, 0.0, 7.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_neither_unit_nor_origin_counts(shift: float, scale: float) -> None:
    values = stepped((0.0, 15), (0.05, 15))
    assert [change.index for change in find_changes([shift + scale * value for value in values])] == [15]
