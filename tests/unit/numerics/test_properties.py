"""What holds for any arrays: equal ones pass, a moved element fails, and order and layout do not matter."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pytest_nnopt.numerics import NumericsComparison, Tolerance, compare_observations
from pytest_nnopt.numerics.judge import Allowance, Neighbours, judge
from pytest_nnopt.numerics.leaves import Chunk, LeafKind, Observation, leaf_of_array, read_array
from pytest_nnopt.numerics.measure import measure, octaves
from pytest_nnopt.numerics.tolerance import floor_of

QUICK = settings(max_examples=60, deadline=None)
ANY_FLOATS = st.floats(width=32)
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
SHAPES = arrays.array_shapes(max_dims=3, max_side=6)
TOLERANCES = st.sampled_from([Tolerance(), Tolerance(rtol=0.0), Tolerance(rtol=1e-4, atol=1e-5)])


def observed(*values: Chunk) -> Observation:
    return Observation(tuple(leaf_of_array(f"output[{i}]", array) for i, array in enumerate(values)))


def compare(actual: Chunk, expected: Chunk, true: Chunk | None, tolerance: Tolerance) -> NumericsComparison:
    truth = None if true is None else observed(true)
    return compare_observations(observed(actual), observed(expected), truth, tolerance, nudged=truth)


@QUICK
@given(arrays.arrays(np.float32, SHAPES, elements=ANY_FLOATS), TOLERANCES, st.booleans())
def test_equal_arrays_always_pass(values: Chunk, tolerance: Tolerance, has_truth: bool) -> None:
    true = values.astype(np.float64) if has_truth else None
    assert compare(values, values, true, tolerance).is_within


@QUICK
@given(arrays.arrays(st.sampled_from([np.int64, np.bool_, np.uint8]), SHAPES), TOLERANCES)
def test_equal_exact_arrays_always_pass(values: Chunk, tolerance: Tolerance) -> None:
    assert compare(values, values, None, tolerance).is_within


@QUICK
@given(
    arrays.arrays(np.float64, st.integers(1, 600), elements=st.floats(-1e3, 1e3, allow_subnormal=False)),
    st.integers(0),
    st.floats(1.01, 1e3),
    st.booleans(),
    st.sampled_from(["float32", "bfloat16"]),
)
def test_an_element_moved_by_more_than_its_limit_always_fails(
    true: Chunk, place: int, times: float, is_nudged: bool, dtype: str
) -> None:
    place %= true.size
    rounding = 1 + 1e-8 * np.sin(np.arange(true.size))
    expected = true * rounding
    nudged = [true / rounding] if is_nudged else None
    leaf = leaf_of_array("output", expected, dtype=dtype)
    floor = floor_of(dtype, has_truth=True)
    figures = measure(read_array(expected), read_array(expected), read_array(true), nudged)
    allowance = Allowance(2.0, floor, leaf.eps, Neighbours.of([figures]), is_stratified=is_nudged)
    limit = judge(figures, allowance).maximum_limits()[octaves(true[place : place + 1])[0]]
    actual = expected.copy()
    actual[place] = true[place] + np.copysign(limit * times, rounding[place] - 1)
    assume(abs(actual[place] - true[place]) > limit)
    truth, moved = (Observation((leaf_of_array("output", values),)) for values in (true, true / rounding))
    comparison = compare_observations(
        Observation((leaf_of_array("output", actual, dtype=dtype),)),
        Observation((leaf,)),
        truth,
        Tolerance(),
        nudged=moved if is_nudged else None,
    )
    assert not comparison.is_within


@QUICK
@given(
    arrays.arrays(np.float32, SHAPES, elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(0),
    st.floats(1e-6, 1.0),
    st.floats(0, 1.0),
)
def test_an_element_beyond_a_declared_tolerance_always_fails(
    expected: Chunk, place: int, atol: float, rtol: float
) -> None:
    actual = expected.astype(np.float64)
    place %= actual.size
    actual.flat[place] += 1.01 * (atol + rtol * abs(float(expected.flat[place])))
    comparison = compare(actual, expected.astype(np.float64), None, Tolerance(rtol=rtol, atol=atol))
    assert not comparison.is_within


def verdict(comparison: NumericsComparison) -> dict[str, tuple[str | None, float]]:
    return {leaf.path: (leaf.problem, leaf.excess) for leaf in comparison.leaves}


@QUICK
@given(st.lists(arrays.arrays(np.float32, (4, 5), elements=FINITE), min_size=1, max_size=4), st.randoms())
def test_the_order_of_leaves_does_not_matter(values: list[Chunk], random: object) -> None:
    noisy = [array * np.float32(1 + 1e-6) for array in values]
    ours, theirs = observed(*noisy), observed(*values)
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    mine, yours = (Observation(tuple(side.leaves[i] for i in order)) for side in (ours, theirs))
    assert verdict(compare_observations(ours, theirs, None, Tolerance())) == verdict(
        compare_observations(mine, yours, None, Tolerance())
    )


@QUICK
@given(arrays.arrays(np.float32, (3, 4, 5), elements=FINITE), st.permutations([0, 1, 2]))
def test_the_layout_does_not_matter(values: Chunk, axes: list[int]) -> None:
    noisy = values * np.float32(1 + 1e-6)
    back = np.argsort(axes)
    stored = np.ascontiguousarray(noisy.transpose(axes)).transpose(back)
    assert stored.shape == noisy.shape
    true = values.astype(np.float64)
    assert verdict(compare(stored, values, true, Tolerance())) == verdict(compare(noisy, values, true, Tolerance()))


def test_kinds_that_exist_before_a_run_are_state() -> None:
    assert {kind for kind in LeafKind if kind.is_state} == {LeafKind.INPUT, LeafKind.BUFFER, LeafKind.PARAMETER}
