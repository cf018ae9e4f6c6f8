from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session import ahead
from pytest_nnopt.session.ahead import Ahead
from pytest_nnopt.session.processes import Launch

LAUNCH = Launch((), Path())


@dataclass
class FakeProcess:
    launch: Launch
    test_id: str
    case_id: str
    ends: list[bool] = field(default_factory=list)
    rests: list[bool] = field(default_factory=list)

    def pause(self) -> None:
        self.rests.append(True)

    def resume(self) -> None:
        self.rests.append(False)

    def stop(self, *, at_once: bool = False) -> None:
        self.ends.append(at_once)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeProcess]:
    """The processes that were started."""
    processes: list[FakeProcess] = []

    def start(*arguments: str) -> FakeProcess:
        processes.append(FakeProcess(*arguments))  # type: ignore[arg-type]
        return processes[-1]

    monkeypatch.setattr(ahead, "MeasuringProcess", start)
    return processes


def test_the_test_s_unnamed_case_takes_it_once_and_ends_it_itself(started: list[FakeProcess]) -> None:
    holder = Ahead()
    with holder.started(LAUNCH, "test_a"):
        assert started == [FakeProcess(LAUNCH, "test_a", "test_a")]
        taken: object = holder.take("test_a")
        assert taken is started[0]
        assert holder.take("test_a") is None
    assert started[0].ends == []


def test_what_a_named_case_cannot_use_is_ended_before_it_disturbs(started: list[FakeProcess]) -> None:
    holder = Ahead()
    with holder.started(LAUNCH, "test_a"):
        assert holder.take("test_a#b") is None
        assert started[0].ends == [True]
    assert started[0].ends == [True]
    assert holder.take("test_a") is None


def test_it_rests_while_the_test_takes_times_and_is_ended_where_nobody_takes_it(started: list[FakeProcess]) -> None:
    holder = Ahead()
    with holder.started(LAUNCH, "test_a"):
        with holder.resting():
            assert started[0].rests == [True]
        assert started[0].rests == [True, False]
    assert started[0].ends == [True]
    with holder.resting():
        assert started[0].rests == [True, False]


def test_one_that_cannot_be_started_is_left_to_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MeasurementError("no memory")

    monkeypatch.setattr(ahead, "MeasuringProcess", fail)
    holder = Ahead()
    with holder.started(LAUNCH, "test_a"):
        assert holder.take("test_a") is None
