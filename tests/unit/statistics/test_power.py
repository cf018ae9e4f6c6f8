from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.statistics.power import minimum_detectable_effect, processes_needed
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.statistics.sequential import SequentialPlan

NOISE = VariancePrior(0.027**2, 15.0)


def effect(processes: int, noise: VariancePrior = NOISE, **changes: Any) -> float:
    return minimum_detectable_effect(noise, **{"processes": processes, "baseline_processes": 10, **changes})


def test_more_processes_and_a_larger_baseline_detect_less() -> None:
    assert effect(1) > effect(2) > effect(4) > effect(8)
    assert effect(8, baseline_processes=5) > effect(8, baseline_processes=20)


def test_noise_limit_and_power_raise_the_effect() -> None:
    assert effect(8, VariancePrior(0.05**2, 15.0)) > effect(8)
    assert effect(8, limit=0.10) > effect(8, limit=0.0)
    assert effect(8, power=0.99) > effect(8, power=0.8)
    assert effect(8, limit=0.10) > 0.10


def test_one_process_detects_catastrophes_alone() -> None:
    assert effect(1) > 0.25
    assert effect(2, plan=SequentialPlan(false_alarms=1e-4)) > 0.25


def test_processes_needed_is_the_first_look_that_reaches_the_effect() -> None:
    assert processes_needed(0.5, NOISE, baseline_processes=10) == 2
    assert processes_needed(0.10, NOISE, baseline_processes=10) == 4
    assert processes_needed(0.01, NOISE, baseline_processes=10) is None


def test_hopeless_noise_still_gives_a_number() -> None:
    assert math.isfinite(effect(1, VariancePrior(1e6, 2.0)))


@pytest.mark.parametrize(
    "changes",
    [
        {"processes": 0},
        {"baseline_processes": 0},
        {"limit": -0.1},
        {"limit": math.nan},
        {"power": 1.0},
        {"power": 0.4},
    ],
    ids=str,
)
def test_impossible_questions_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MeasurementError):
        effect(**{"processes": 2, **changes})
