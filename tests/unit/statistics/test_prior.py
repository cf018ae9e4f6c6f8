from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import (
    DEFAULT_CPU_PRIOR,
    DEFAULT_DEVICE_TIME_PRIOR,
    VariancePrior,
    pool_prior,
)


def draw_baselines(rng: np.random.Generator, processes: int, variances: Iterable[float]) -> list[list[ProcessEstimate]]:
    return [
        [ProcessEstimate(float(value), 0.0, 40) for value in rng.normal(0, math.sqrt(variance), processes)]
        for variance in variances
    ]


def test_pooling_recovers_the_variance_and_weight_it_was_drawn_from() -> None:
    rng = np.random.default_rng(1)
    variances = 0.03**2 * 8 / rng.chisquare(8, 2000)
    prior = pool_prior(draw_baselines(rng, 10, variances))
    assert prior.standard_deviation == pytest.approx(0.03, rel=0.05)
    assert prior.degrees_of_freedom == pytest.approx(8, rel=0.25)


def test_equal_variances_give_the_largest_weight() -> None:
    rng = np.random.default_rng(2)
    prior = pool_prior(draw_baselines(rng, 10, [0.02**2] * 40))
    assert prior.degrees_of_freedom == pytest.approx(30)
    assert prior.standard_deviation == pytest.approx(0.02, rel=0.1)


def test_wildly_different_variances_give_the_smallest_weight() -> None:
    rng = np.random.default_rng(3)
    prior = pool_prior(draw_baselines(rng, 10, [10.0 ** -(index % 8) for index in range(40)]))
    assert prior.degrees_of_freedom == 2


@pytest.mark.parametrize(
    "baselines",
    [
        [],
        [[ProcessEstimate(0.1, 0.0, 40)]] * 20,
        [[ProcessEstimate(0.1, 0.0, 40), ProcessEstimate(0.2, 0.0, 40)]] * 4,
        [[ProcessEstimate(0.1, 0.0, 40), ProcessEstimate(0.1, 0.0, 40)]] * 20,
    ],
    ids=["none", "single processes", "too few cases", "identical figures"],
)
def test_too_little_to_learn_from_gives_the_fallback(baselines: list[list[ProcessEstimate]]) -> None:
    assert pool_prior(baselines) == DEFAULT_CPU_PRIOR
    assert pool_prior(baselines, fallback=DEFAULT_DEVICE_TIME_PRIOR) == DEFAULT_DEVICE_TIME_PRIOR


def test_updating_weighs_by_degrees_of_freedom() -> None:
    prior = VariancePrior(4.0, 6.0).updated(sum_of_squares=12.0, degrees_of_freedom=3)
    assert prior == VariancePrior(4.0, 9.0)


@pytest.mark.parametrize("field", ["variance", "degrees_of_freedom"])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_prior_is_refused(field: str, bad: float) -> None:
    arguments = {"variance": 1.0, "degrees_of_freedom": 6.0} | {field: bad}
    with pytest.raises(MeasurementError, match=field):
        VariancePrior(**arguments)
