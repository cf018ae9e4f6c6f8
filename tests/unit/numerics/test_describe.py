"""Comparisons as people read them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pytest_nnopt.numerics import (
    Lane,
    LeafComparison,
    NumericsComparison,
    Tolerance,
    compare_observations,
    describe_agreement,
    describe_comparison,
    describe_leaf,
    describe_not_compared,
    describe_problem,
)
from pytest_nnopt.numerics.leaves import ConstantLeaf, Leaf, LeafKind, Observation, leaf_of_array
from pytest_nnopt.numerics.summary import ErrorFigures


def leaf(path: str, values: object, dtype: str = "float32") -> Leaf:
    return leaf_of_array(path, np.asarray(values, dtype=dtype))


def gradient_of(name: str) -> Leaf:
    return leaf_of_array(f"gradient of {name}", np.ones(1), kind=LeafKind.GRADIENT)


def test_the_worst_element_is_shown_with_its_limit() -> None:
    true = np.linspace(1, 2, 6).reshape(2, 3)
    expected = true.astype(np.float32)
    actual = expected.copy()
    actual[1, 2] = 3
    comparison = compare_observations(
        Observation((leaf("output.logits", actual),)),
        Observation((leaf("output.logits", expected),)),
        Observation((leaf("output.logits", true, "float64"),)),
        Tolerance(),
    )
    lines = describe_comparison(comparison)
    assert lines[0] == (
        "output.logits (output, float32 [2, 3]): the error against float64 is larger than rounding explains"
    )
    assert lines[1].startswith("  worst at [1, 2]: actual 3, expected 2, in float64 2; error 1, limit ")
    assert lines[2] == "  1 of 6 elements are beyond their limit; largest difference 1, relative 0.5"
    assert lines[3] == "  error against float64: candidate / reference (limit)"
    assert [line.split()[0] for line in lines[4:]] == ["rms", "largest", "gain", "offset"]


def test_more_failures_than_can_be_shown_are_counted() -> None:
    ours = Observation(tuple(leaf(f"output[{i}]", [1.0]) for i in range(5)))
    theirs = Observation(tuple(leaf(f"output[{i}]", [2.0]) for i in range(5)))
    lines = describe_comparison(compare_observations(ours, theirs, None, Tolerance(rtol=0.1)))
    assert lines[-1] == "and 2 more of 5 leaves: output[3], output[4]"


def test_nothing_is_said_about_equal_runs() -> None:
    same = Observation((leaf("output", [1.0]),))
    assert describe_comparison(compare_observations(same, same, None, Tolerance())) == []


def test_what_one_side_alone_has_is_named_up_to_a_few() -> None:
    ours = Observation((leaf("output", [1.0]), *(gradient_of(name) for name in "abcdef")))
    theirs = Observation((leaf("output", [1.0]),))
    lines = describe_not_compared(compare_observations(ours, theirs, None, Tolerance()))
    assert lines[0] == "not compared: gradient of a: only the candidate has it"
    assert lines[-1] == f"not compared: {6 - (len(lines) - 1)} more"


def test_a_leaf_within_its_limits_can_be_described_too() -> None:
    same = Observation((leaf("output", [1.0]),))
    (only,) = compare_observations(same, same, None, Tolerance()).leaves
    assert describe_leaf(only)[0] == "output (output, float32 [1]): within its limits"
    assert "  error against the reference: candidate (limit)" in describe_leaf(only)


def test_a_constant_has_no_dtype_to_show() -> None:
    ours, theirs = (Observation((ConstantLeaf("output", LeafKind.OUTPUT, text),)) for text in ("None", "'a'"))
    (line,) = describe_comparison(compare_observations(ours, theirs, None, Tolerance()))
    assert line == "output (output): the candidate has None, the reference 'a'"


def test_a_leaf_that_is_only_too_large_altogether_shows_its_errors() -> None:
    true = np.linspace(1, 2, 1000)
    same = [Observation((leaf("output", values, dtype),)) for values, dtype in ((true, "float32"), (true, "float64"))]
    spread = Observation((leaf("output", true * (1 + 1e-5 * np.sin(np.arange(1000)))),))
    (judged,) = compare_observations(spread, same[0], same[1], Tolerance()).leaves
    assert judged.located is not None
    lines = describe_leaf(judged)
    assert any("elements are beyond their limit" in line for line in lines)


def test_integers_are_shown_without_limits() -> None:
    ours, theirs = (Observation((leaf("output", values, "int64"),)) for values in ([1, 2], [1, 5]))
    assert describe_comparison(compare_observations(ours, theirs, None, Tolerance())) == [
        "output (output, int64 [2]): 1 of 2 elements differ",
        "  worst at [1]: actual 2, expected 5",
        "  1 of 2 elements are beyond their limit; largest difference 3, relative 0.6",
        "  indices chosen among nearly equal values may differ without an error",
    ]


def test_a_declared_tolerance_is_measured_from_the_reference() -> None:
    ours, theirs, truth = (Observation((leaf("output", [value]),)) for value in (1.5, 1.0, 1.25))
    lines = describe_comparison(compare_observations(ours, theirs, truth, Tolerance(atol=0.25)))
    assert lines[1] == "  worst at [0]: actual 1.5, expected 1; error 0.5, limit 0.25"


def compare(actual: object, expected: object, tolerance: Tolerance | None = None) -> NumericsComparison:
    """Compare an output with what was expected, which the float64 run confirms."""
    runs = ((actual, "float32"), (expected, "float32"), (expected, "float64"))
    ours, theirs, truth = (Observation((leaf("output", values, dtype),)) for values, dtype in runs)
    return compare_observations(ours, theirs, truth, tolerance or Tolerance())


def worst_of(comparison: NumericsComparison) -> LeafComparison:
    assert comparison.worst is not None
    return comparison.worst


TRUE = np.linspace(1, 2, 1000).astype(np.float32)


def test_the_headline_holds_the_figure_and_its_limit() -> None:
    comparison = compare(TRUE * np.float32(1.01), TRUE)
    headline = describe_problem(worst_of(comparison))
    pattern = r"output: the error against float64 is larger than rounding explains \(rms 0\.01, limit [\d.]+e-0\d\)"
    assert re.fullmatch(pattern, headline)


def test_below_a_headline_its_sentence_is_not_repeated() -> None:
    comparison = compare(TRUE * np.float32(1.01), TRUE)
    first, *others = describe_comparison(comparison, has_headline=True)
    assert first == "output (output, float32 [1000])"
    assert others == describe_comparison(comparison)[1:]


def test_nothing_is_said_below_a_headline_about_equal_runs() -> None:
    assert describe_comparison(compare(TRUE, TRUE), has_headline=True) == []


def test_a_declared_tolerance_is_held_against_the_worst_element() -> None:
    comparison = compare([1.5, 1.0], [1.0, 1.0], Tolerance(atol=0.25))
    expected = "output: 1 of 2 elements are beyond the declared tolerance (error 0.5, limit 0.25)"
    assert describe_problem(worst_of(comparison)) == expected


@pytest.mark.parametrize(
    ("actual", "problem"),
    [
        ([1.0, np.nan], "NaN and infinities are not in the same places (1 differ)"),
        ([9.0, np.nan], "NaN and infinities are not in the same places (1 differ)"),
        ([[1.0, 2.0]], "the shape is [1, 2], the reference's is [2]"),
    ],
)
def test_what_is_no_question_of_size_has_no_figure(actual: object, problem: str) -> None:
    assert describe_problem(worst_of(compare(actual, [1.0, 2.0]))) == f"output: {problem}"


def test_integers_are_counted_and_not_measured() -> None:
    ours, theirs = (Observation((leaf("output", values, "int64"),)) for values in ([1, 2], [1, 5]))
    comparison = compare_observations(ours, theirs, None, Tolerance())
    assert describe_problem(worst_of(comparison)) == "output: 1 of 2 elements differ"


LIMITS = ErrorFigures(1e-6, 1e-6, 1e-7, 1e-7)


@pytest.mark.parametrize(
    ("figures", "figure"),
    [
        (ErrorFigures(2e-6, 3e-6, 4e-7, 5e-7), " (rms 2e-06, limit 1e-06)"),
        (ErrorFigures(0.0, 3e-6, 4e-7, 5e-7), " (largest 3e-06, limit 1e-06)"),
        (ErrorFigures(0.0, 0.0, -4e-7, 5e-7), " (gain 4e-07, limit 1e-07)"),
        (ErrorFigures(0.0, 0.0, 0.0, -5e-7), " (offset 5e-07, limit 1e-07)"),
        (ErrorFigures(0.0, 0.0, 0.0, 0.0), ""),
    ],
)
def test_the_first_figure_beyond_its_limit_is_told(figures: ErrorFigures, figure: str) -> None:
    judged = LeafComparison(
        "output", LeafKind.OUTPUT, "float32", (2,), Lane.FLOAT64, "too large", 2.0, figures, figures, LIMITS
    )
    assert describe_problem(judged) == f"output: too large{figure}"


def test_leaves_that_agree_are_counted() -> None:
    assert [describe_agreement(count) for count in (1, 2)] == ["1 leaf agrees", "2 leaves agree"]
