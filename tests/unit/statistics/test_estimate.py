from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.statistics.estimate import ProcessEstimate, drift_of, estimate_log_ratio, estimate_log_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

seconds = st.floats(1e-9, 1e3)
block_pairs = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=60)


def draw_blocks(rng: np.random.Generator, count: int, *, correlation: float = 0.0) -> NDArray[np.float64]:
    """Block log-times of SD 5 %, first-order autoregressive."""
    shocks = rng.normal(0, 0.05, count)
    noise = np.empty(count)
    noise[0] = shocks[0]
    for block in range(1, count):
        noise[block] = correlation * noise[block - 1] + math.sqrt(1 - correlation**2) * shocks[block]
    return noise


def test_constant_times_give_their_exact_ratio_without_variance() -> None:
    estimate = estimate_log_ratio([0.002] * 20, [0.001] * 20)
    assert estimate.log_ratio == pytest.approx(math.log(2))
    assert estimate.variance == pytest.approx(0, abs=1e-20)
    assert estimate.blocks == 20


def test_a_common_drift_nearly_cancels() -> None:
    drift = np.linspace(1, 3, 40)
    estimate = estimate_log_ratio(list(1.1 * drift), list(drift))
    assert estimate.log_ratio == pytest.approx(math.log(1.1))


def test_spikes_on_one_side_move_the_estimate_less_than_the_mean() -> None:
    times = np.full(40, 0.001)
    times[::10] *= 10
    estimate = estimate_log_ratio(list(times), [0.001] * 40)
    assert 0 <= estimate.log_ratio < 0.6 * float(np.mean(np.log(times / 0.001)))


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_variance_matches_the_spread_of_repeated_processes(correlation: float) -> None:
    rng = np.random.default_rng(3)
    estimates = [
        estimate_log_ratio(list(np.exp(draw_blocks(rng, 40, correlation=correlation))), [1.0] * 40) for _ in range(250)
    ]
    spread = np.var([estimate.log_ratio for estimate in estimates])
    claimed = np.mean([estimate.variance for estimate in estimates])
    assert 0.6 < claimed / spread < 1.6


def test_one_block_claims_the_noise_of_a_shared_machine() -> None:
    estimate = estimate_log_ratio([0.001], [0.001])
    assert estimate == ProcessEstimate(0.0, 0.10**2, 1)


def test_two_blocks_have_a_variance() -> None:
    assert estimate_log_ratio([1.0, 1.1], [1.0, 1.0]).variance > 0


def test_a_figure_without_reference_is_its_own_logarithm() -> None:
    assert estimate_log_value([3.0] * 5).log_ratio == pytest.approx(math.log(3))


@given(block_pairs)
@settings(max_examples=60, deadline=None)
def test_swapping_sides_turns_the_sign(pairs: list[tuple[float, float]]) -> None:
    numerator, denominator = map(list, zip(*pairs, strict=True))
    forward = estimate_log_ratio(numerator, denominator)
    backward = estimate_log_ratio(denominator, numerator)
    assert backward.log_ratio == pytest.approx(forward.inverse.log_ratio, abs=1e-9)
    assert backward.variance == pytest.approx(forward.variance, rel=1e-6, abs=1e-12)


@given(block_pairs, st.floats(1e-6, 1e6))
@settings(max_examples=60, deadline=None)
def test_the_unit_of_time_does_not_matter(pairs: list[tuple[float, float]], unit: float) -> None:
    numerator, denominator = map(list, zip(*pairs, strict=True))
    estimate = estimate_log_ratio(numerator, denominator)
    scaled = estimate_log_ratio([unit * time for time in numerator], [unit * time for time in denominator])
    assert scaled.log_ratio == pytest.approx(estimate.log_ratio, abs=1e-9)
    assert scaled.variance == pytest.approx(estimate.variance, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("side", ["numerator", "denominator"])
def test_impossible_times_are_named(bad: float, side: str) -> None:
    good, broken = [1.0, 1.0, 1.0], [1.0, 1.0, bad]
    arguments = (broken, good) if side == "numerator" else (good, broken)
    with pytest.raises(MeasurementError, match=f"{side} of block 2"):
        estimate_log_ratio(*arguments)


def test_no_blocks_and_unequal_blocks_are_refused() -> None:
    with pytest.raises(MeasurementError, match="no blocks"):
        estimate_log_ratio([], [])
    with pytest.raises(MeasurementError, match="1 blocks with 2"):
        estimate_log_ratio([1.0], [1.0, 2.0])


def test_drift_is_how_far_the_later_half_lies_above_the_earlier() -> None:
    assert drift_of([1.0, 1.0, 1.0, math.e, math.e], [1.0] * 5) == pytest.approx(1.0)
    assert drift_of([2.0, 1.0], [2.0, 2.0]) == pytest.approx(-math.log(2))
    assert drift_of([3.0], [1.0]) == 0.0
