"""How sure a shared error is: few elements, rows that err together, and what the known runs say of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pytest_nnopt.numerics.measure import Figures, Runs, measure
from pytest_nnopt.numerics.systematic import Uncertainty, shared_uncertainty

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE = (6, 50)
DRAW = np.random.default_rng(5)
TRUE = DRAW.normal(size=SHAPE)


def figures_of(runs: Runs) -> Figures:
    candidate, reference, truth, nudged = runs
    return measure([candidate], [reference], [truth], None if nudged is None else [nudged])


def flat(*sides: NDArray[np.float64] | None) -> Runs:
    candidate, reference, truth, nudged = (None if side is None else side.ravel() for side in sides)
    assert candidate is not None
    assert reference is not None
    assert truth is not None
    return candidate, reference, truth, nudged


def uncertainty(runs: Runs, shape: tuple[int, ...] = SHAPE) -> Uncertainty:
    return shared_uncertainty(shape, [runs], figures_of(runs))


def erring_rows(first: int, scale: float = 1e-3) -> NDArray[np.float64]:
    """Return the truth with an error of its own for each row, so that the six of them are all that is known."""
    errors = np.roll([-1.2, 0.4, 1.1, -0.3, 0.8, -0.9], first)
    result: NDArray[np.float64] = TRUE * (1 + scale * errors[:, None])
    return result


def test_an_exact_gain_is_sure_whatever_its_size() -> None:
    runs = flat(TRUE * 1.5, TRUE, TRUE, None)
    candidate = figures_of(runs).candidate
    assert candidate.gain == pytest.approx(0.5)
    assert candidate.gain_uncertainty < 1e-7
    assert uncertainty(runs).gain < 1e-12


def test_an_exact_offset_is_sure_whatever_its_size() -> None:
    runs = flat(TRUE + 0.5, TRUE, TRUE, None)
    assert figures_of(runs).candidate.offset_uncertainty < 1e-7
    assert uncertainty(runs).offset < 1e-12


def test_a_gain_adds_nothing_to_its_own_uncertainty() -> None:
    noise = 1e-3 * DRAW.normal(size=SHAPE)
    without, with_gain = (
        figures_of(flat(TRUE * gain + noise, TRUE, TRUE, None)).candidate.gain_uncertainty for gain in (1.0, 1.1)
    )
    assert with_gain == pytest.approx(without, rel=0.05)


def test_few_elements_are_less_sure_than_their_number_says() -> None:
    noise = 1e-3 * np.tile([1.0, -1.0], 4)
    true = np.ones(8)
    assert figures_of(flat(true + noise, true, true, None)).candidate.offset_uncertainty == pytest.approx(
        2 * 1e-3 / math.sqrt(8)
    )


def test_rows_that_err_together_count_as_one_each() -> None:
    runs = flat(erring_rows(1), TRUE, TRUE, None)
    assert uncertainty(runs).gain > 3 * figures_of(runs).candidate.gain_uncertainty


def test_known_runs_that_err_alike_make_it_surer() -> None:
    alone = uncertainty(flat(erring_rows(1), TRUE, TRUE, None)).gain
    assert uncertainty(flat(erring_rows(1), erring_rows(2), TRUE, erring_rows(3))).gain < 0.8 * alone


def test_known_runs_that_err_less_or_more_say_nothing() -> None:
    alone = uncertainty(flat(erring_rows(1), TRUE, TRUE, None)).gain
    for scale in (1e-5, 1e-1):
        runs = flat(erring_rows(1), erring_rows(2, scale), TRUE, erring_rows(3, scale))
        assert uncertainty(runs).gain == pytest.approx(alone, rel=1e-6)


def test_what_is_not_finite_counts_nowhere() -> None:
    candidate, nudged = erring_rows(1), erring_rows(3)
    expected = uncertainty(flat(candidate[:, 1:], candidate[:, 1:], TRUE[:, 1:], nudged[:, 1:]), (6, 49))
    candidate, reference, nudged = candidate.copy(), candidate.copy(), nudged.copy()
    candidate[:, 0] = reference[:, 0] = np.nan
    nudged[:, 0] = np.inf
    found = uncertainty(flat(candidate, reference, TRUE, nudged))
    assert found.gain == pytest.approx(expected.gain)
    assert found.offset == pytest.approx(expected.offset)


def test_magnitudes_beyond_what_can_be_squared_are_never_sure() -> None:
    true = np.full(16, 1e100)
    assert figures_of(flat(true * 1.1, true, true, None)).candidate.gain_uncertainty == math.inf
