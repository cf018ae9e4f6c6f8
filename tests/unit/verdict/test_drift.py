from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.baseline.numbers import NumericsLevel
from pytest_nnopt.baseline.schema import LeafRecord, OriginRecord
from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.verdict.drift import Drift, find_drift, judge_drift, told_of_base
from tests.builders import make_check

ORIGIN = OriginRecord(inputs="00000001", parameters="00000002", structure="00000003")
AGREES = make_check(CheckName.NUMERICS, Outcome.PASSED, "1 leaves agree", details=("a note",))
WRONG = make_check(CheckName.NUMERICS, Outcome.FAILED, "output: wrong")


def leaf(**fields: Any) -> LeafRecord:
    usual: dict[str, Any] = {
        "dtype": "float32",
        "shape": (1000,),
        "candidate_nrmse": 1e-7,
        "candidate_max": 2e-7,
        "reference_nrmse": 1e-7,
        "reference_max": 2e-7,
        "norm": 1.0,
        "sample": (0.5, -0.25),
    }
    return LeafRecord(**{**usual, **fields})


def level(origin: OriginRecord | None = ORIGIN, /, differences: tuple[str, ...] = (), **fields: Any) -> NumericsLevel:
    return NumericsLevel({"output": leaf(**fields)}, origin, differences=differences)


def drift(now: NumericsLevel, before: NumericsLevel | None = None, *, growth: float = 4.0, **more: Any) -> Drift:
    return find_drift(now, before or level(), growth=growth, **more)


class TestReference:
    def test_the_same_numbers_are_no_drift(self) -> None:
        assert drift(level()) == Drift()

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"sample": (0.50003, -0.25)}, "output has 0.50003 where it had 0.5"),
            ({"norm": 1.00001}, "output has the norm 1.00001, had 1"),
            ({"sample": (0.5,)}, "output has 1 finite values among the sampled ones, had 2"),
            ({"shape": (500, 2)}, "output is float32 [500, 2], was float32 [1000]"),
            ({"dtype": "bfloat16"}, "output is bfloat16 [1000], was float32 [1000]"),
        ],
    )
    def test_another_reference_is_named(self, fields: dict[str, Any], said: str) -> None:
        assert drift(level(**fields)).changed == (said,)

    def test_what_writing_six_digits_loses_is_no_change(self) -> None:
        assert drift(level(norm=1.000004, sample=(0.500002, -0.25))) == Drift()

    def test_what_writing_nine_digits_loses_is_no_change(self) -> None:
        recorded = level(norm=1.23456789, sample=(0.123456789, -0.25))
        assert drift(level(norm=1.2345678915, sample=(0.1234567894, -0.25)), recorded) == Drift()
        norm = drift(level(norm=1.23456791, sample=(0.123456789, -0.25)), recorded)
        assert norm.changed == ("output has the norm 1.23456791, had 1.23456789",)
        value = drift(level(norm=1.23456789, sample=(0.12345683, -0.25)), recorded)
        assert value.changed == ("output has 0.12345683 where it had 0.12345679",)

    def test_values_that_are_noise_themselves_may_differ(self) -> None:
        noise: dict[str, Any] = {"norm": 1e-17, "reference_nrmse": 1e9, "sample": (1e-17, 3e-18)}
        assert drift(level(**{**noise, "sample": (-2e-17, 1e-18)}), level(**noise)) == Drift()

    def test_without_a_float64_run_a_value_may_be_rounded_otherwise(self) -> None:
        untrue: dict[str, Any] = {"reference_nrmse": None, "reference_max": None}
        assert drift(level(**untrue, sample=(0.500005, -0.25)), level(**untrue)) == Drift()
        assert drift(level(**untrue, sample=(0.50002, -0.25)), level(**untrue)).changed

    def test_integers_are_held_against_their_written_digits(self) -> None:
        whole: dict[str, Any] = {"dtype": "int64", "norm": None, "candidate_nrmse": None, "reference_nrmse": None}
        assert drift(level(**whole, sample=(7.0,)), level(**whole, sample=(7.0,))) == Drift()
        assert drift(level(**whole, sample=(8.0,)), level(**whole, sample=(7.0,))).changed

    def test_leaves_that_come_and_go_are_named(self) -> None:
        now = NumericsLevel({"output.a": leaf()}, ORIGIN)
        assert drift(now).changed == ("output is gone", "output.a is new")

    def test_further_inputs_and_broken_leaves_may_come_and_go(self) -> None:
        now = NumericsLevel({"samples[0].output": leaf()}, ORIGIN)
        assert drift(now, broken={"output"}) == Drift()


class TestOrigin:
    CHANGED: dict[str, Any] = {"sample": (0.6, -0.25)}  # noqa: RUF012  never changed

    def other(self, **digests: str) -> OriginRecord:
        return ORIGIN.model_copy(update=digests)

    def test_other_inputs_excuse_other_outputs_and_say_so(self) -> None:
        now = level(self.other(inputs="f0000000"), **self.CHANGED)
        reason = drift(now).why_not_told
        assert reason == "its inputs are others; draw them from a fixed seed, or record them with pytest --nnopt-update"

    def test_other_inputs_with_the_same_outputs_are_no_drift(self) -> None:
        assert drift(level(self.other(inputs="f0000000", parameters="f0000000"))) == Drift()

    def test_other_parameters_are_named_beside_them(self) -> None:
        now = level(self.other(inputs="f0000000", parameters="f0000000"), **self.CHANGED)
        assert str(drift(now).why_not_told).startswith("its inputs and parameters are others")

    def test_another_structure_is_a_change_whatever_was_drawn(self) -> None:
        now = level(self.other(structure="f0000000", inputs="f0000000"), **self.CHANGED)
        first, second = drift(now).changed
        assert first == "its parameters or buffers have other names, shapes or dtypes"
        assert second.startswith("output has")

    @pytest.mark.parametrize(("now", "before"), [(None, ORIGIN), (ORIGIN, None)])
    def test_a_recording_that_does_not_say_cannot_tell(self, now: OriginRecord | None, before: Any) -> None:
        reason = drift(level(now, **self.CHANGED), level(before)).why_not_told
        assert str(reason).startswith("the baseline does not say which inputs and parameters it is of")


class TestGrowth:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"candidate_nrmse": 4.5e-7}, "output: rms error 4.5e-07, was 1e-07; 4.03 times that is allowed"),
            ({"candidate_max": 9e-7}, "output: largest error 9e-07, was 2e-07; 4.03 times that is allowed"),
        ],
    )
    def test_an_error_beyond_the_factor_is_named(self, fields: dict[str, Any], said: str) -> None:
        assert drift(level(**fields)).grown == (said,)

    def test_within_the_factor_nothing_is_said(self) -> None:
        assert drift(level(candidate_nrmse=3.9e-7)) == Drift()
        assert drift(level(candidate_nrmse=9e-7), growth=10.0) == Drift()

    def test_errors_of_writing_the_result_count_as_recorded(self) -> None:
        exact: dict[str, Any] = {"candidate_nrmse": 0.0, "candidate_max": 0.0}
        assert drift(level(candidate_nrmse=1e-7, candidate_max=2e-7), level(**exact)) == Drift()
        assert drift(level(candidate_nrmse=2e-7, candidate_max=2e-7), level(**exact)).grown

    def test_one_element_may_err_more(self) -> None:
        scalar: dict[str, Any] = {"shape": ()}
        assert drift(level(**scalar, candidate_nrmse=2e-6), level(**scalar)) == Drift()
        assert drift(level(**scalar, candidate_nrmse=4e-6), level(**scalar)).grown

    @pytest.mark.parametrize("fields", [{"reference_nrmse": None}, {"candidate_nrmse": None, "candidate_max": None}])
    def test_errors_against_something_else_are_not_compared(self, fields: dict[str, Any]) -> None:
        assert drift(level(**{"candidate_nrmse": 1.0, **fields})) == Drift()

    def test_rounding_elsewhere_is_not_compared(self) -> None:
        elsewhere = level(ORIGIN, ("isa: AVX2 → AVX512",))
        assert drift(level(candidate_nrmse=1.0), elsewhere) == Drift()
        assert drift(level(norm=2.0), elsewhere).changed


class TestJudge:
    def judge(self, found: Drift, check: Check = AGREES, **fields: Any) -> Check:
        return judge_drift(check, found, NumericsLevel({}, **fields))

    def test_no_drift_leaves_the_answer(self) -> None:
        assert self.judge(Drift()) == AGREES

    def test_a_changed_reference_fails_and_can_be_accepted(self) -> None:
        check = self.judge(Drift(changed=tuple(f"leaf{index} changed" for index in range(5))))
        assert check.outcome is Outcome.FAILED
        assert check.reason == "the reference itself changed since the baseline: leaf0 changed"
        assert check.details == (
            "leaf1 changed",
            "leaf2 changed",
            "and 2 more leaves",
            "1 leaves agree",
            "a note",
        )
        assert check.remedy == "if that is intended, accept it with pytest --nnopt-update"

    def test_a_grown_error_fails_as_such(self) -> None:
        check = self.judge(Drift(grown=("output: more",)))
        assert check.outcome is Outcome.FAILED
        assert check.reason == ("the candidate's error grew since the baseline, though within its limit: output: more")
        assert check.remedy is not None
        assert "nnopt_limits(error_growth=...)" in check.remedy

    def test_what_cannot_be_told_is_no_pass(self) -> None:
        check = self.judge(Drift(why_not_told="because"))
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.reason == "could not tell whether the reference is that of the baseline: because"

    @pytest.mark.parametrize(
        ("found", "said"),
        [
            (Drift(), "against the baseline: the reference is what it was, so the candidate moved away from it"),
            (Drift(changed=("a",)), "against the baseline: the reference itself changed, too: a"),
            (Drift(why_not_told="because"), "against the baseline: cannot tell which side changed, because"),
        ],
    )
    def test_a_failure_says_who_moved(self, found: Drift, said: str) -> None:
        check = self.judge(found, WRONG)
        assert (check.outcome, check.reason, check.details) == (Outcome.FAILED, WRONG.reason, (said,))

    def test_another_environment_is_named_with_what_was_not_compared(self) -> None:
        same = self.judge(Drift(), environment="cpu-x")
        assert same.details[-1] == "compared with the numbers of 'cpu-x', where rounding is the same"
        other = self.judge(Drift(), environment="cpu-x", differences=("threads: 4 → 1",))
        assert other.outcome is Outcome.PASSED
        assert other.details[-1] == (
            "the reference is that of 'cpu-x'; errors are not compared, rounding depends on threads: 4 → 1"
        )
        assert "since the baseline of 'cpu-x'" in self.judge(Drift(changed=("a",)), environment="cpu-x").reason


def test_another_revision_is_told_and_fails_nothing() -> None:
    assert told_of_base(Drift(), "v1") == []
    assert told_of_base(Drift(changed=("a",), grown=("b",)), "v1") == [
        "against v1: the reference itself changed: a",
        "against v1: the candidate's error grew: b",
    ]
    assert told_of_base(Drift(why_not_told="because"), "v1") == [
        "against v1: could not tell whether the reference is the same: because"
    ]
