"""What must match exactly, which lane a leaf takes, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pytest_nnopt.errors import ConfigError
from pytest_nnopt.numerics import Lane, NumericsComparison, Tolerance, compare_observations, describe_comparison
from pytest_nnopt.numerics.leaves import (
    ArrayLeaf,
    ConstantLeaf,
    Leaf,
    LeafKind,
    Observation,
    RaisedError,
    eps_of,
    leaf_of_array,
)

DEFAULT = Tolerance()


def observation(*leaves: Leaf, **others: Any) -> Observation:
    return replace(Observation(leaves), **others)


def output(
    values: object, path: str = "output", *, dtype: str = "float32", kind: LeafKind = LeafKind.OUTPUT
) -> ArrayLeaf:
    numpy_dtype = {"bfloat16": "float32"}.get(dtype, dtype)
    return leaf_of_array(path, np.asarray(values, dtype=numpy_dtype), kind=kind, dtype=dtype)


def compare(actual: Leaf, expected: Leaf, *, tolerance: Tolerance = DEFAULT) -> NumericsComparison:
    return compare_observations(observation(actual), observation(expected), None, tolerance)


def against_truth(actual: object, expected: object, true: object, **kwargs: Any) -> NumericsComparison:
    return compare_observations(
        observation(output(actual, **kwargs)),
        observation(output(expected, **kwargs)),
        observation(output(true, dtype="float64")),
        DEFAULT,
    )


def problem(comparison: NumericsComparison) -> str:
    assert comparison.worst is not None
    return comparison.worst.problem or ""


class TestExactParts:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"dtype": "float64"}, "the dtype is float64, the reference's is float32"),
            ({"shape": (3, 1)}, r"the shape is [3, 1], the reference's is [3]"),
            ({"device": "cuda:0"}, "the device is cuda:0, the reference's is cpu"),
            ({"layout": "sparse_coo"}, "the layout is sparse_coo, the reference's is strided"),
        ],
    )
    def test_metadata_must_match(self, change: dict[str, Any], message: str) -> None:
        leaf = output([1, 2, 3])
        assert problem(compare(replace(leaf, **change), leaf)) == message

    def test_strides_must_match_only_where_asked(self) -> None:
        rows, columns = output(np.ones((2, 3))), output(np.ones((3, 2)).T)
        assert compare(rows, columns).is_within
        assert "strides" in problem(compare(rows, columns, tolerance=Tolerance(strides=True)))

    def test_strides_of_single_elements_mean_nothing(self) -> None:
        leaf = output(np.ones((1, 3)))
        other = replace(leaf, strides=(7, 1))
        assert compare(leaf, other, tolerance=Tolerance(strides=True)).is_within

    def test_integers_must_match_and_the_place_is_named(self) -> None:
        expected = np.arange(20_000)
        actual = expected.copy()
        actual[15_000] = -1
        comparison = compare(output(actual, dtype="int64"), output(expected, dtype="int64"))
        worst = comparison.worst
        assert worst is not None
        assert worst.located is not None
        assert worst.located.worst is not None
        assert (worst.located.off, worst.located.worst.index, worst.located.worst.actual) == (1, (15_000,), -1)
        assert "nearly equal" in (worst.note or "")

    def test_large_integers_are_not_rounded(self) -> None:
        assert not compare(output([2**62], dtype="int64"), output([2**62 + 1], dtype="int64")).is_within

    def test_constants_compare_by_text(self) -> None:
        a, b = (ConstantLeaf("output.name", LeafKind.OUTPUT, text) for text in ("'a'", "'b'"))
        assert compare(a, a).is_within
        assert problem(compare(a, b)) == "the candidate has 'a', the reference 'b'"

    def test_an_array_is_no_constant(self) -> None:
        comparison = compare(output([1.0]), ConstantLeaf("output", LeafKind.OUTPUT, "None"))
        assert problem(comparison) == "the candidate has an array of float32, the reference None"

    @pytest.mark.parametrize("is_candidate", [True, False])
    def test_a_gradient_of_zeros_is_as_good_as_none(self, is_candidate: bool) -> None:
        zeros = output([0.0, 0.0], "gradient of w", kind=LeafKind.GRADIENT)
        none = ConstantLeaf("gradient of w", LeafKind.GRADIENT, "None")
        (judged,) = (compare(zeros, none) if is_candidate else compare(none, zeros)).leaves
        assert judged.is_within
        assert (judged.note or "").startswith("the gradient vanishes")
        assert not compare(output([0.0, 1.0], "gradient of w", kind=LeafKind.GRADIENT), none).is_within

    def test_container_types_must_match(self) -> None:
        leaf = output([1.0], "output[0]")
        comparison = compare_observations(
            observation(leaf, containers={"output": "list"}),
            observation(leaf, containers={"output": "tuple", "output.a": "dict"}),
            None,
            DEFAULT,
        )
        assert [(c.path, c.problem) for c in comparison.leaves if c.problem] == [
            ("output", "the candidate returned list, the reference tuple")
        ]

    @pytest.mark.parametrize("owner", ["reference", "candidate"])
    def test_an_output_on_one_side_only_fails(self, owner: str) -> None:
        both, extra = output([1.0], "output[0]"), output([1.0], "output[1]")
        sides = (observation(both), observation(both, extra))
        ours, theirs = sides if owner == "reference" else sides[::-1]
        assert problem(compare_observations(ours, theirs, None, DEFAULT)) == f"only the {owner} has it"

    def test_a_gradient_on_one_side_only_is_said_not_to_be_compared(self) -> None:
        gradient = output([1.0], "gradient of fc.weight", kind=LeafKind.GRADIENT)
        comparison = compare_observations(observation(), observation(gradient), None, DEFAULT)
        assert comparison.not_compared == ("gradient of fc.weight: only the reference has it",)
        assert "not compared: gradient of fc.weight: only the reference has it" in describe_comparison(comparison)

    def test_state_that_neither_side_changed_is_not_looked_at(self) -> None:
        state = replace(output([1.0], "buffer b", kind=LeafKind.BUFFER), is_unchanged=True)
        assert compare(state, state).leaves == ()

    def test_state_that_one_side_changed_is_compared(self) -> None:
        before = replace(output([1.0], "buffer b", kind=LeafKind.BUFFER), is_unchanged=True)
        after = output([2.0], "buffer b", kind=LeafKind.BUFFER)
        assert not compare(before, after).is_within


class TestExceptions:
    VALUE = RaisedError(("ValueError",), "negative", "forward")
    WRAPPED = RaisedError(("BackendError", "ValueError"), "negative", "forward")
    INDEX = RaisedError(("IndexError",), "7", "backward")

    def compare(self, ours: RaisedError | None, theirs: RaisedError | None) -> NumericsComparison:
        return compare_observations(observation(error=ours), observation(error=theirs), None, DEFAULT)

    def test_the_same_kind_is_a_match(self) -> None:
        comparison = self.compare(self.WRAPPED, self.VALUE)
        assert comparison.is_within
        assert comparison.notes == ("both sides raise ValueError in forward: negative",)
        assert comparison.worst is None

    def test_another_kind_fails(self) -> None:
        assert "IndexError in backward: 7" in problem(self.compare(self.INDEX, self.VALUE))

    @pytest.mark.parametrize("is_ours", [True, False])
    def test_one_side_alone_fails(self, is_ours: bool) -> None:
        comparison = self.compare(self.VALUE, None) if is_ours else self.compare(None, self.VALUE)
        assert not comparison.is_within

    def test_a_float64_run_that_raises_is_named_as_the_reason(self) -> None:
        leaf = output([1.0])
        comparison = compare_observations(observation(leaf), observation(leaf), observation(error=self.INDEX), DEFAULT)
        assert comparison.lane is Lane.DTYPE
        assert comparison.lane_reason == "the float64 run raised IndexError in backward: 7"


class TestNonFinite:
    @pytest.mark.parametrize(
        ("actual", "expected"),
        [(np.nan, 1.0), (1.0, np.nan), (np.inf, -np.inf), (np.inf, 1.0), (np.nan, np.inf)],
    )
    @pytest.mark.parametrize("tolerance", [DEFAULT, Tolerance(rtol=1e9)])
    def test_places_must_match(self, actual: float, expected: float, tolerance: Tolerance) -> None:
        comparison = compare(output([2.0, actual]), output([2.0, expected]), tolerance=tolerance)
        assert problem(comparison) == "NaN and infinities are not in the same places (1 differ)"
        assert comparison.worst is not None
        assert comparison.worst.located is not None
        assert comparison.worst.located.worst is not None
        assert comparison.worst.located.worst.index == (1,)

    @pytest.mark.parametrize("tolerance", [DEFAULT, Tolerance(atol=1e-3)])
    def test_equal_nan_can_be_switched_off(self, tolerance: Tolerance) -> None:
        leaf = output([2.0, np.nan, np.inf])
        assert compare(leaf, leaf, tolerance=tolerance).is_within
        strict = replace(tolerance, equal_nan=False)
        assert problem(compare(leaf, leaf, tolerance=strict)) == "NaN in 1 places, and equal_nan is off"

    def test_a_leaf_of_nan_alone_is_equal_to_itself(self) -> None:
        leaf = output([np.nan, np.nan])
        assert compare(leaf, leaf).is_within

    def test_errors_beside_a_shared_nan_are_seen(self) -> None:
        assert not compare(output([np.nan, 2.0]), output([np.nan, 2.1])).is_within


class TestLanes:
    def test_declared_tolerance_is_element_by_element(self) -> None:
        actual, expected = output([1.0, 2.3]), output([1.0, 2.0])
        assert compare(actual, expected, tolerance=Tolerance(rtol=0.1, atol=0.2)).is_within
        comparison = compare(actual, expected, tolerance=Tolerance(rtol=0.1))
        assert comparison.lane is Lane.DECLARED
        assert comparison.lane_reason == "declared rtol=0.1, atol=0"
        assert problem(comparison) == "1 of 2 elements are beyond the declared tolerance"
        assert comparison.worst is not None
        assert comparison.worst.excess == pytest.approx(1.5)

    def test_declared_zero_excuses_only_equal_elements(self) -> None:
        assert compare(output([0.0, 1.0]), output([0.0, 1.0]), tolerance=Tolerance(atol=0)).is_within
        assert not compare(output([1e-30]), output([0.0]), tolerance=Tolerance(rtol=1.0)).is_within

    def test_without_truth_the_dtype_decides_and_the_reason_is_kept(self) -> None:
        comparison = compare_observations(
            observation(output([1.0])), observation(output([1.01])), None, DEFAULT, no_truth_because="custom kernel"
        )
        assert comparison.lane is Lane.DTYPE
        assert "no float64 run, so the dtype's tolerance was used: custom kernel" in describe_comparison(comparison)
        assert comparison.worst is not None
        assert comparison.worst.reference is None
        assert comparison.worst.note == "custom kernel"

    @pytest.mark.parametrize(
        ("truth", "note"),
        [
            (output([1.0, 2.0]), "the float64 run gave float32 of shape [2] here"),
            (output([1.0], dtype="float64"), "the float64 run gave float64 of shape [1] here"),
            (output([1.0, 2.0], "other", dtype="float64"), "the float64 run has no such array"),
            (output([1.0, np.inf], dtype="float64"), "the float64 run is not finite in 1 places"),
            (output([9.0, -5.0], dtype="float64"), "the reference and its float64 run differ altogether"),
        ],
    )
    def test_a_truth_that_does_not_describe_a_leaf_is_not_used_for_it(self, truth: ArrayLeaf, note: str) -> None:
        leaf = output([1.0, 2.0])
        comparison = compare_observations(observation(leaf), observation(leaf), observation(truth), DEFAULT)
        (judged,) = comparison.leaves
        assert (comparison.lane, judged.lane) == (Lane.FLOAT64, Lane.DTYPE)
        assert (judged.note or "").startswith(note)

    def test_a_python_number_of_the_float64_run_is_the_truth(self) -> None:
        number = replace(output(1.5), device="python")
        comparison = compare_observations(observation(number), observation(number), observation(number), DEFAULT)
        assert comparison.leaves[0].lane is Lane.FLOAT64

    def test_the_candidate_may_be_better_than_the_reference(self) -> None:
        true = np.linspace(1, 2, 1000)
        assert against_truth(true, true * (1 + 1e-3), true).is_within
        assert not against_truth(true * (1 + 1e-3), true, true).is_within

    def test_a_reference_far_from_float64_is_named(self) -> None:
        true = np.linspace(1, 2, 1000)
        noise = 1 + 1e-2 * np.sin(np.arange(1000))
        assert "the reference itself is far" in (against_truth(true, true * noise, true).leaves[0].note or "")

    @pytest.mark.parametrize(("factor", "is_within"), [(1.0, True), (1.016, False)])
    def test_a_uniform_error_of_forty_elements_in_bfloat16_is_found(self, factor: float, is_within: bool) -> None:
        draw = np.random.default_rng(5)
        true = draw.normal(size=(4, 10))
        noise = 2**-7 * draw.normal(size=(3, 4, 10)) * np.array([0.25, 0.25, 0.4])[:, None, None]
        comparison = compare_observations(
            observation(output(true * factor + noise[0], dtype="bfloat16")),
            observation(output(true + noise[1], dtype="bfloat16")),
            observation(output(true, dtype="float64")),
            DEFAULT,
            nudged=observation(output(true + noise[2], dtype="float64")),
        )
        assert comparison.is_within is is_within
        assert is_within or "all elements share a gain" in problem(comparison)

    @pytest.mark.parametrize("size", [1, 7])
    def test_a_handful_of_elements_shares_nothing(self, size: int) -> None:
        true = np.random.default_rng(5).normal(size=size)
        assert against_truth(true * (1 + 3e-5), true * (1 - 2e-5), true).is_within

    @pytest.mark.parametrize("part", ["gain", "offset"])
    def test_what_all_elements_share_is_named(self, part: str) -> None:
        generator = np.random.default_rng(0)
        true = generator.standard_normal((256, 256)) + 1
        rounding = [2e-3 * generator.standard_normal(true.shape) for _ in range(2)]
        true = true if part == "gain" else true - true.mean()
        shared = true * 3e-4 if part == "gain" else 3e-4
        comparison = against_truth(true + rounding[0] + shared, true + rounding[1], true)
        assert f"all elements share {'a' if part == 'gain' else 'an'} {part}" in problem(comparison)

    def test_a_shared_error_of_two_rows_is_no_systematic_one(self) -> None:
        generator = np.random.default_rng(0)
        true = generator.standard_normal((2, 4096))
        actual, expected = true * [[1 + 1e-3], [1 - 2e-4]], true * [[1 - 1e-3], [1 + 9.99e-4]]
        assert against_truth(actual, expected, true).is_within

    def test_complex_parts_are_named(self) -> None:
        expected = np.exp(1j * np.arange(64)).astype(np.complex64)
        actual = expected.copy()
        actual[5] += 0.1j
        comparison = compare(output(actual, dtype="complex64"), output(expected, dtype="complex64"))
        assert any("[5].imag" in line for line in describe_comparison(comparison))

    def test_a_shared_complex_error_is_found(self) -> None:
        expected = np.exp(1j * np.arange(8192)).astype(np.complex64)
        leaf = output(expected * (1 + 3e-5), dtype="complex64")
        truth = output(expected, dtype="complex128")
        reference = observation(output(expected, dtype="complex64"))
        assert not compare_observations(observation(leaf), reference, observation(truth), DEFAULT).is_within

    def test_an_empty_leaf_is_equal_to_itself(self) -> None:
        leaf = output(np.zeros((0, 3)))
        assert compare(leaf, leaf).is_within
        assert compare(leaf, leaf, tolerance=Tolerance(rtol=0.1)).is_within


class TestTolerance:
    @pytest.mark.parametrize(
        "wrong",
        [{"rtol": -1.0}, {"atol": float("nan")}, {"rtol": float("inf")}, {"factor": 0.5}, {"factor": float("nan")}],
    )
    def test_impossible_values_are_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Tolerance(**wrong)  # type: ignore[arg-type]


class TestNarrowTypes:
    def test_one_percent_is_rounding_in_bfloat16_and_an_error_in_float32(self) -> None:
        expected = np.linspace(1, 2, 1000)
        actual = expected * (1 + 1e-2 * np.sin(np.arange(1000)))
        for dtype, is_within in (("bfloat16", True), ("float32", False)):
            leaves = (leaf_of_array("output", values, dtype=dtype) for values in (actual, expected))
            assert compare(*leaves).is_within is is_within

    def test_integers_have_no_machine_epsilon(self) -> None:
        assert eps_of("int64") is None
        assert eps_of("float16") == 2**-10


class TestSummary:
    def test_it_keeps_figures_and_a_seeded_sample_of_the_truth(self) -> None:
        true = np.linspace(1, 2, 1000)
        kept = against_truth(true, true, true).summary()[0]
        again = against_truth(true, true, true).summary()[0]
        assert kept.rms == pytest.approx(np.sqrt(np.mean(true**2)))
        assert kept.maximum == 2.0
        assert kept.sample == again.sample
        assert 10 <= len(kept.sample) <= 16
        assert all(value == true[index] for index, value in kept.sample)
        assert kept.reference is not None

    def test_integers_keep_a_sample_alone(self) -> None:
        leaf = output([5, 6], dtype="int64")
        (kept,) = compare(leaf, leaf).summary()
        assert (kept.sample, kept.rms) == (((0, 5.0), (1, 6.0)), None)

    def test_a_leaf_that_could_not_be_measured_has_none(self) -> None:
        assert compare(output([1.0]), output([1.0, 2.0])).summary() == ()
