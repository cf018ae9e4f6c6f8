from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.baseline.elsewhere import Elsewhere
from pytest_nnopt.baseline.level import MOST_PROCESSES
from pytest_nnopt.baseline.schema import Evidence, WorkRecord
from pytest_nnopt.model import CheckName
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.verdict.forecast import describe_forecast, expected_processes, forecast_latency
from tests.builders import make_config, make_question, make_timing

LOUD_PRIOR = VariancePrior(0.1**2, 30.0)


def forecast(**fields: Any) -> Any:
    usual: dict[str, Any] = {"is_comparing": True, "baseline": Evidence(timing=make_timing(count=10))}
    return forecast_latency(make_question(**{**usual, **fields}))


def test_a_quiet_baseline_finds_about_its_limit() -> None:
    found = forecast(config=make_config(latency=0.05))
    assert 0.045 < found.detectable < 0.055
    assert found.needed == 1
    assert not found.is_blind
    assert describe_forecast(found).startswith("8 processes find slowdowns from 5.")
    assert describe_forecast(found).endswith(" %, the limit is 5.00 %; one process varies by 0.45 % here")


def test_a_loud_machine_is_named_before_anything_is_measured() -> None:
    found = forecast(config=make_config(latency=0.05), prior=LOUD_PRIOR)
    assert found.is_blind
    assert found.detectable > 0.1
    assert describe_forecast(found).endswith("record more processes with pytest --nnopt-update, or widen the limit")


def test_times_of_another_environment_are_called_so() -> None:
    found = forecast(
        config=make_config(latency=0.05), prior=LOUD_PRIOR, foreign_times=Elsewhere(Evidence(), "cpu-other", ())
    )
    words = describe_forecast(found)
    assert " on cpu-other: record here with pytest --nnopt-update, or widen the limit" in words


@pytest.mark.parametrize(
    "fields",
    [
        {"is_comparing": False},
        {"baseline": None},
        {"baseline": Evidence()},
        {"asked": frozenset({CheckName.SPEEDUP})},
        {
            "work": WorkRecord(operators={"aten.mm": 2}, elements=1),
            "baseline": Evidence(timing=make_timing(), work=WorkRecord(operators={"aten.mm": 1}, elements=1)),
        },
    ],
    ids=["not comparing", "no baseline", "no times recorded", "latency not asked", "another model"],
)
def test_without_a_comparison_there_is_nothing_to_forecast(fields: dict[str, Any]) -> None:
    assert forecast(**fields) is None


def expected(**fields: Any) -> int:
    usual: dict[str, Any] = {"is_comparing": True, "baseline": Evidence(timing=make_timing(count=10))}
    return expected_processes(make_question(**{**usual, **fields}))


def test_unchanged_code_is_expected_to_pass_with_one_process_where_it_is_quiet_and_with_more_where_it_is_not() -> None:
    assert expected(config=make_config(latency=0.05)) == 1
    assert expected(config=make_config(latency=0.05), prior=LOUD_PRIOR) == 2


def test_without_times_to_go_by_as_many_are_expected_as_the_next_look_needs() -> None:
    assert expected(baseline=None, is_comparing=False, config=make_config(min_speedup=1.1)) == 1
    assert expected(baseline=None, is_comparing=False, is_updating=True, recorded_processes=10) == 4


def test_nothing_is_expected_once_all_is_decided() -> None:
    question = make_question(
        is_comparing=True, baseline=Evidence(timing=make_timing(count=10)), config=make_config(latency=0.05)
    )
    assert expected_processes(question, make_timing(count=1)) == 0


def test_a_full_baseline_is_not_told_to_grow() -> None:
    full = Evidence(timing=make_timing(count=MOST_PROCESSES))
    found = forecast(config=make_config(latency=0.05), prior=LOUD_PRIOR, baseline=full)
    assert found.is_blind
    assert describe_forecast(found).endswith(": quieten the machine, or widen the limit")
