from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.statistics.sequential import SequentialPlan, doubling_looks


@pytest.mark.parametrize("looks", [(1,), (2,), (1, 2), (1, 2, 4, 8), (2, 4, 8), (1, 2, 3, 5, 20)])
def test_looks_spend_exactly_the_rates(looks: tuple[int, ...]) -> None:
    plan = SequentialPlan(0.01, 0.05, looks)
    spent = [plan.look_at(processes) for processes in looks]
    assert sum(look.alarm_level for look in spent) == pytest.approx(0.01)
    assert sum(look.alarm_share for look in spent) == pytest.approx(1)
    assert sum(look.pass_level for look in spent) == pytest.approx(0.05)


def test_a_first_look_at_one_process_gets_little() -> None:
    plan = SequentialPlan()
    assert plan.look_at(1).alarm_share == pytest.approx(0.05)
    assert plan.look_at(2).alarm_share == pytest.approx(0.95 / 3)


@pytest.mark.parametrize(("processes", "look"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 8)])
def test_between_two_looks_the_next_one_is_spent(processes: int, look: int) -> None:
    assert SequentialPlan().look_at(processes).processes == look


@pytest.mark.parametrize(("processes", "following"), [(0, 1), (1, 2), (3, 4), (8, None), (9, None)])
def test_the_next_look(processes: int, following: int | None) -> None:
    assert SequentialPlan().next_look(processes) == following


@pytest.mark.parametrize(
    ("most", "looks"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (10, (1, 2, 4, 8, 10))]
)
def test_doubling_looks_end_at_the_most(most: int, looks: tuple[int, ...]) -> None:
    assert doubling_looks(most) == looks
    assert SequentialPlan(looks=looks).max_processes == most


@pytest.mark.parametrize(
    "arguments",
    [
        {"false_alarms": 0},
        {"false_alarms": 0.5},
        {"false_passes": -0.1},
        {"false_passes": float("nan")},
        {"looks": ()},
        {"looks": (0, 1)},
        {"looks": (2, 1)},
        {"looks": (1, 1)},
    ],
    ids=str,
)
def test_impossible_plans_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(MeasurementError):
        SequentialPlan(**arguments)


def test_nothing_is_decided_without_a_process() -> None:
    with pytest.raises(MeasurementError, match="at least one"):
        SequentialPlan().look_at(0)
    with pytest.raises(MeasurementError, match="at least one"):
        doubling_looks(0)
