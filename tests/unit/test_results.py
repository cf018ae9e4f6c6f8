from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.model import Check, CheckName, Interval, Outcome, Verdict
from pytest_nnopt.results import CaseContext, CaseMessage, CaseResult, CheckRecord, RunResults, ShardRecord, speedup_of
from tests.builders import CASE_ID, make_check, make_environment, make_evidence, make_message, make_process, make_result

FULL = Check(
    CheckName.LATENCY,
    Outcome.FAILED,
    "too slow",
    value=0.2,
    baseline=0.0,
    limit=0.05,
    interval=Interval(0.1, 0.3, 0.98),
    details=("8 processes",),
)


@pytest.mark.parametrize("check", [FULL, make_check()])
def test_a_check_survives_being_recorded(check: Check) -> None:
    text = CheckRecord.of(check).model_dump_json()
    assert CheckRecord.model_validate_json(text).to_check() == check


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_recorded_figure_is_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        CheckRecord.of(make_check(value=value))


def test_a_result_holds_verdict_and_evidence() -> None:
    verdict = Verdict(CASE_ID, (FULL, make_check()))
    result = CaseResult.of(verdict, make_evidence())
    assert result.verdict == verdict
    assert result.outcome is Outcome.FAILED
    assert result.evidence == make_evidence()
    assert type(result.evidence) is Evidence


def test_speedup_is_the_geometric_mean_of_reference_over_candidate() -> None:
    timing = [make_process(math.log(ratio)) for ratio in (0.25, 1.0)]
    assert speedup_of(timing) == pytest.approx(2.0)
    assert make_result(evidence=Evidence(timing=tuple(timing))).speedup == pytest.approx(2.0)


def test_speedup_is_unknown_where_nothing_was_timed() -> None:
    assert speedup_of([]) is None
    assert make_result().speedup is None


def test_a_message_survives_its_journey() -> None:
    message = make_message(make_result(FULL, evidence=make_evidence()), recording="append", changes=("new",))
    arrived = CaseMessage.model_validate_json(message.model_dump_json())
    assert arrived == message
    assert arrived.to_environment() == make_environment()


def test_results_name_their_schema() -> None:
    results = RunResults(environment={}, cases=(make_result(),))
    assert results.model_dump(by_alias=True)["schema"] == 1
    with pytest.raises(ValidationError, match="schema"):
        RunResults.model_validate({"schema": 2, "environment": {}, "cases": []})


def test_a_file_from_before_there_was_context_is_read() -> None:
    values = RunResults(environment={}, cases=(make_result(),)).model_dump(mode="json", by_alias=True)
    del values["cases"][0]["context"]
    assert RunResults.model_validate(values).cases[0].context is None


def test_a_baseline_keeps_no_context() -> None:
    context = CaseContext(environment={"device": "cpu"}, level=make_evidence())
    result = CaseResult.of(Verdict(CASE_ID, (FULL,)), make_evidence(), context)
    assert result.context == context
    assert result.evidence == make_evidence()


def test_an_outcome_is_the_worst_of_the_checks() -> None:
    values = make_result(make_check(outcome=Outcome.FAILED)).model_dump(mode="json")
    assert CaseResult.model_validate(values).outcome is Outcome.FAILED
    for outcome in ("passed", "no_baseline"):
        with pytest.raises(ValidationError, match=f"the outcome '{outcome}' is not the worst of the checks, 'failed'"):
            CaseResult.model_validate({**values, "outcome": outcome})


def test_a_shard_is_one_of_as_many_as_there_are() -> None:
    assert ShardRecord(index=3, count=3).index == 3
    with pytest.raises(ValidationError, match="there is no shard 4 of 3"):
        ShardRecord(index=4, count=3)


def test_results_are_as_good_as_their_worst_case() -> None:
    cases = (make_result(make_check()), make_result(make_check(outcome=Outcome.FAILED), case_id="b"))
    assert RunResults(environment={}, cases=cases).outcome is Outcome.FAILED
    assert RunResults(environment={}, cases=cases[:1]).outcome is Outcome.PASSED
    assert RunResults(environment={}, cases=()).outcome is Outcome.SKIPPED
