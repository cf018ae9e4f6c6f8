from __future__ import annotations

import math
from dataclasses import replace

from pytest_nnopt.model import (
    Check,
    CheckName,
    Outcome,
)
from pytest_nnopt.numerics.summary import ErrorFigures
from pytest_nnopt.verdict.numerics import check_numerics
from tests.builders import (
    make_comparison,
)


class TestNumerics:
    def test_agreement_passes_and_names_how_close_it_was(self) -> None:
        check = check_numerics(replace(make_comparison(0.25, 0.5), not_compared=("buffer step",)))
        assert check == Check(
            CheckName.NUMERICS,
            Outcome.PASSED,
            "2 leaves agree, the worst at 0.5 of its limit (a float64 run serves as the truth)",
            value=0.5,
            limit=1.0,
            details=("not compared: buffer step",),
        )

    def test_disagreement_fails_and_names_the_worst_leaf(self) -> None:
        check = check_numerics(make_comparison(0.5, 3.0, 2.0))
        assert (check.outcome, check.reason, check.value) == (Outcome.FAILED, "output[1]: rms error too large", 3.0)
        assert check.details == (
            "output[1] (output, float32 [2])",
            "output[2] (output, float32 [2]): rms error too large",
        )

    def test_a_disagreement_is_told_with_its_figure_and_limit_and_not_twice(self) -> None:
        (leaf,) = make_comparison(3.0).leaves
        figures, limits = ErrorFigures(0.0101, 0.02, 0.01, 0.0), ErrorFigures(3.24e-6, 1e-5, 1e-7, 1e-7)
        comparison = replace(make_comparison(), leaves=(replace(leaf, candidate=figures, limits=limits),))
        check = check_numerics(comparison)
        assert check.reason == "output[0]: rms error too large (rms 0.01, limit 3.2e-06)"
        assert not any("too large" in line for line in check.details)

    def test_an_infinite_excess_has_no_figure(self) -> None:
        check = check_numerics(make_comparison(0.5, math.inf, problem="shape differs"))
        assert (check.outcome, check.reason, check.value) == (Outcome.FAILED, "output[1]: shape differs", None)

    def test_nothing_to_compare_fails(self) -> None:
        check = check_numerics(make_comparison())
        assert (check.outcome, check.reason) == (Outcome.FAILED, "the model returned nothing that could be compared")
