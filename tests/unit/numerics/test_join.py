"""Comparisons on several inputs as one."""

from __future__ import annotations

import numpy as np
import pytest

import pytest_nnopt.numerics
from pytest_nnopt.numerics import (
    NumericsComparison,
    Tolerance,
    compare_observations,
    join_comparisons,
    nothing_compared,
)
from pytest_nnopt.numerics.leaves import ConstantLeaf, LeafKind, Observation, leaf_of_array


def compared(value: float) -> NumericsComparison:
    name = ConstantLeaf("output.name", LeafKind.OUTPUT, "'a'")
    gradient = leaf_of_array("gradient of w", np.ones(1), kind=LeafKind.GRADIENT)
    ours = Observation((leaf_of_array("output", np.array([value])), name), notes=("seen",))
    theirs = Observation((leaf_of_array("output", np.array([1.0])), name, gradient))
    return compare_observations(ours, theirs, None, Tolerance(rtol=0.1))


def test_leaves_of_further_inputs_are_named_after_them() -> None:
    joined = join_comparisons(compared(1.0), {"zeros": compared(2.0)})
    assert [leaf.path for leaf in joined.leaves] == ["output", "output.name", "zeros.output", "zeros.output.name"]
    assert [kept.path for kept in joined.summary()] == ["output", "zeros.output"]
    assert joined.worst is not None
    assert joined.worst.path == "zeros.output"


def test_what_was_said_twice_is_said_once() -> None:
    joined = join_comparisons(compared(1.0), {"zeros": compared(1.0)})
    assert joined.notes == ("seen",)
    assert joined.not_compared == ("gradient of w: only the reference has it",)


def test_what_was_left_out_is_a_note() -> None:
    left_out = nothing_compared("zeros: the model takes none")
    joined = join_comparisons(compared(1.0), {"zeros": left_out})
    assert joined.leaves == compared(1.0).leaves
    assert joined.notes == ("seen", "zeros: the model takes none")


def test_the_package_names_what_it_has_and_nothing_else() -> None:
    assert all(hasattr(pytest_nnopt.numerics, name) for name in pytest_nnopt.numerics.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compare_pickles'"):
        pytest_nnopt.numerics.compare_pickles  # noqa: B018
