from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.model import CheckName
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.verdict.forecast import describe_forecast, forecast_latency
from tests.builders import make_config, make_question, make_timing

LOUD_PRIOR = VariancePrior(0.1**2, 30.0)


def forecast(**fields: Any) -> Any:
    usual: dict[str, Any] = {"is_comparing": True, "baseline": Evidence(timing=make_timing(count=10))}
    return forecast_latency(make_question(**{**usual, **fields}))


def test_a_quiet_baseline_finds_little_more_than_its_limit() -> None:
    found = forecast(config=make_config(latency=0.05))
    assert 0.05 < found.detectable < 0.06
    assert found.needed == 1
    assert not found.is_blind
    assert describe_forecast(found).startswith("one process varies by 0.45 % here; 8 processes find slowdowns from 5.")
    assert describe_forecast(found).endswith(" %, the limit is 5.00 %")


def test_a_loud_machine_is_named_before_anything_is_measured() -> None:
    found = forecast(config=make_config(latency=0.05), prior=LOUD_PRIOR)
    assert found.is_blind
    assert found.detectable > 0.1
    assert describe_forecast(found).endswith("record more processes with pytest --nnopt-update, or widen the limit")


@pytest.mark.parametrize(
    "fields",
    [
        {"is_comparing": False},
        {"baseline": None},
        {"baseline": Evidence()},
        {"asked": frozenset({CheckName.SPEEDUP})},
    ],
    ids=["not comparing", "no baseline", "no times recorded", "latency not asked"],
)
def test_without_a_comparison_there_is_nothing_to_forecast(fields: dict[str, Any]) -> None:
    assert forecast(**fields) is None
