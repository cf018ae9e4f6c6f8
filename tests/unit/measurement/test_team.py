"""A clock and a watch that see several processes give all of them the same answers."""

from __future__ import annotations

from typing import Any

from pytest_nnopt.measurement.team import TeamClock, TeamWatch
from tests.fakes import FakeClock, FakeMachine, FakeWork


class Others:
    """Another process besides this one, with values of its own."""

    size = 2

    def __init__(self, *values: Any) -> None:
        self._values = list(values)
        self.meetings = 0

    def gather(self, value: Any) -> list[Any]:
        return [self._values.pop(0), value]

    def largest(self, value: float) -> float:
        return max(value, float(self._values.pop(0)))

    def meet(self) -> None:
        self.meetings += 1


def test_a_timing_takes_what_the_slowest_takes() -> None:
    clock, others = FakeClock(), Others(5.0, 1.0, 0.5)
    team = TeamClock(clock, others)
    work = FakeWork(clock, 0.25)
    assert team.time_calls(work, 8) == 5.0
    assert team.time_calls(work, 8, warm_calls=3) == 2.0
    assert work.calls == 8 + 3 + 8
    assert others.meetings == 2
    assert team.now() == 4.75


def test_a_block_disturbed_elsewhere_does_not_count_here_either() -> None:
    watch = TeamWatch(FakeMachine([None, "heat", None]), Others("quota", None, None))
    found = []
    for _ in range(3):
        watch.before()
        found.append(watch.after())
    assert found == ["quota", "heat", None]
