from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pytest_nnopt.baseline.numbers import NumericsLevel
from pytest_nnopt.baseline.schema import Evidence, LeafRecord, OriginRecord
from pytest_nnopt.model import (
    Check,
    CheckName,
    Outcome,
)
from pytest_nnopt.numerics.summary import ErrorFigures
from pytest_nnopt.verdict.numerics import check_numbers, check_numerics
from tests.builders import make_comparison, make_evidence, make_question


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


LEAVES = {"output[0]": LeafRecord(dtype="float32", shape=(2,), norm=1.0)}
MOVED = {"output[0]": LeafRecord(dtype="float32", shape=(2,), norm=2.0)}
ORIGIN = OriginRecord(inputs="00000000", parameters="00000000", structure="00000000")


class TestAgainstABaseline:
    def check(self, *excesses: float, leaves: dict[str, LeafRecord] = LEAVES, **question: Any) -> Check:
        fields = {"is_comparing": True, "missing_reason": "there is none", **question}
        recorded = NumericsLevel(leaves, ORIGIN)
        return check_numbers(make_question(**fields), make_comparison(*(excesses or (0.5,))), recorded)

    def level(self, leaves: dict[str, LeafRecord]) -> Evidence:
        return make_evidence().model_copy(update={"numerics": leaves, "origin": ORIGIN})

    def test_the_same_numbers_pass(self) -> None:
        assert self.check(baseline=self.level(LEAVES)).outcome is Outcome.PASSED

    def test_another_reference_fails(self) -> None:
        check = self.check(baseline=self.level(MOVED))
        assert (check.outcome, check.reason) == (
            Outcome.FAILED,
            "the reference itself changed since the baseline: output[0] has the norm 1, had 2",
        )

    def test_without_numbers_the_remedy_is_said(self) -> None:
        assert self.check().reason == "there is none"
        check = self.check(baseline=make_evidence(), missing_reason="")
        assert check.outcome is Outcome.NO_BASELINE
        assert check.reason == "the baseline holds no numbers; record them with pytest --nnopt-update"

    def test_wrong_numbers_stay_wrong_without_a_baseline(self) -> None:
        assert self.check(2.0).reason.startswith("output[0]: ")

    def test_missing_numbers_that_are_recorded_now_are_no_failure(self) -> None:
        assert self.check(is_recording_missing=True).outcome is Outcome.PASSED

    def test_numbers_from_elsewhere_serve_where_there_are_none(self) -> None:
        check = self.check(foreign_numerics=NumericsLevel(LEAVES, ORIGIN, "cpu-x", ("isa: a → b",)))
        assert check.outcome is Outcome.PASSED
        assert "errors are not compared" in check.details[-1]

    def test_another_revision_fails_nothing(self) -> None:
        check = self.check(baseline=self.level(MOVED), base="v1")
        assert check.outcome is Outcome.PASSED
        assert check.details == ("against v1: the reference itself changed: output[0] has the norm 1, had 2",)
        assert self.check(base="v1").outcome is Outcome.PASSED

    def test_a_plain_run_compares_nothing(self) -> None:
        assert self.check(is_comparing=False, baseline=self.level(MOVED)).outcome is Outcome.PASSED
