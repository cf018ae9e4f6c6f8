from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session.crew import Crew
from tests.builders import make_process

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord

HERE = Environment({"device": "cpu"})


@dataclass
class FakeProcess:
    """Writes down what is asked of it."""

    log: list[str]
    name: str
    breaks: bool = False
    has_entered: bool = False

    def enter(self, case_id: str) -> None:
        if not self.has_entered:
            self.has_entered = True
            self.log.append(f"{self.name} enters its {case_id}")

    def build(self, cache_dir: Path) -> None:
        self.log.append(f"{self.name} builds in {cache_dir}")

    def wait_until_ready(self, environment: Environment) -> None:
        assert environment is HERE
        if self.breaks:
            raise MeasurementError("it died")
        self.log.append(f"{self.name} is ready")

    def measure(self, seed: int) -> ProcessRecord:
        self.log.append(f"{self.name} measures {seed}")
        return make_process(seed / 100)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pause(self) -> None:
        self.log.append(f"{self.name} rests")

    def resume(self) -> None:
        self.log.append(f"{self.name} goes on")

    def stop(self, *, at_once: bool = False) -> None:
        self.log.append(f"{self.name} {'is killed' if at_once else 'stops'}")


@dataclass
class Starter:
    log: list[str] = field(default_factory=list)
    started: int = 0
    breaks: bool = False

    def __call__(self) -> FakeProcess:
        self.started += 1
        self.log.append(f"{self.started} starts")
        return FakeProcess(self.log, str(self.started), self.breaks)


def make_crew(starter: Starter, at_once: int, ahead: int = 0) -> Crew:
    return Crew(starter, "case", lambda: Path("cache"), HERE, at_once=at_once, ahead=ahead)  # type: ignore[arg-type]


def test_a_process_started_ahead_builds_only_when_it_is_needed() -> None:
    starter = Starter()
    with make_crew(starter, 2) as crew:
        crew.prepare(1)
        assert starter.log == ["1 starts", "1 enters its case"]
        assert crew.sample(7) == make_process(0.07)
    assert starter.log[2:6] == ["1 builds in cache", "1 is ready", "1 measures 7", "1 stops"]


def test_none_builds_while_another_measures() -> None:
    starter = Starter()
    with make_crew(starter, 2) as crew:
        for expected in (3, 2, 1):
            crew.sample(0, expected=expected)
    steps = [line.split()[:2] for line in starter.log if "enters" not in line][:14]
    assert [verb for _, verb in steps] == [
        *("starts", "starts", "builds", "builds", "is", "is", "measures", "stops", "measures", "stops"),
        *("starts", "builds", "is", "measures"),
    ]


def test_the_next_one_imports_while_one_builds_and_rests_while_it_measures() -> None:
    starter = Starter()
    with make_crew(starter, 1, ahead=1) as crew:
        for expected in (3, 2, 1):
            crew.sample(0, expected=expected)
    first = (
        "1 starts",
        "2 starts",
        "1 enters its case",
        "1 builds in cache",
        "1 is ready",
        "2 rests",
        "1 measures 0",
        "1 stops",
        "2 goes on",
    )
    second = (
        "3 starts",
        "2 enters its case",
        "2 builds in cache",
        "2 is ready",
        "3 rests",
        "2 measures 0",
        "2 stops",
        "3 goes on",
    )
    assert starter.log[:17] == [*first, *second]
    assert starter.started == 3


def test_one_stands_aside_while_another_measures_even_where_that_fails() -> None:
    starter = Starter()

    @contextlib.contextmanager
    def aside() -> Iterator[None]:
        starter.log.append("rest")
        try:
            yield
        finally:
            starter.log.append("go on")

    with Crew(starter, "case", lambda: Path("cache"), HERE, at_once=1, aside=aside) as crew:  # type: ignore[arg-type]
        crew.sample(0)
        assert starter.log[-4:] == ["rest", "1 measures 0", "1 stops", "go on"]
        with pytest.raises(ZeroDivisionError), crew.one():
            raise ZeroDivisionError
        assert starter.log[-2:] == ["rest", "go on"]


def test_one_that_only_imported_is_not_waited_for() -> None:
    starter = Starter()
    with make_crew(starter, 1, ahead=1) as crew:
        crew.sample(0, expected=2)
    assert "2 is killed" in starter.log


def test_every_sample_comes_from_a_process_that_measured_nothing_before() -> None:
    starter = Starter()
    with make_crew(starter, 1) as crew:
        for _ in range(3):
            crew.sample(0, expected=3)
    assert [line for line in starter.log if "measures" in line] == ["1 measures 0", "2 measures 0", "3 measures 0"]


def test_what_was_told_to_build_is_awaited_by_the_next_sample() -> None:
    starter = Starter()
    with make_crew(starter, 2) as crew:
        crew.prepare(1)
        crew.begin()
        crew.begin()
        assert starter.log == ["1 starts", "1 enters its case", "1 builds in cache"]
        crew.sample(0, expected=2)
        crew.sample(1)
    assert [line for line in starter.log if "builds" in line] == ["1 builds in cache", "2 builds in cache"]
    assert starter.started == 2


def test_the_sample_tells_of_one_that_had_ended_before_it_was_told_to_build() -> None:
    class Ended(FakeProcess):
        def build(self, cache_dir: Path) -> None:
            raise MeasurementError("it is gone")

    ended = Ended([], "early", breaks=True)
    with Crew(lambda: ended, "case", lambda: Path("cache"), HERE, at_once=1) as crew:  # type: ignore[arg-type,return-value]
        crew.prepare(1)
        crew.begin()
        with pytest.raises(MeasurementError, match="it died"):
            crew.sample(0)


def test_no_more_build_at_once_than_allowed() -> None:
    starter = Starter()
    with make_crew(starter, 1, ahead=1) as crew:
        crew.prepare(2)
        crew.begin(2)
        assert [line for line in starter.log if "builds" in line] == ["1 builds in cache"]


def test_nobody_waits_for_a_build_that_is_not_wanted_any_more() -> None:
    starter = Starter()
    with make_crew(starter, 1) as crew:
        crew.prepare(1)
        crew.begin()
    assert "1 is killed" in starter.log


def test_no_more_live_at_once_than_allowed() -> None:
    starter = Starter()
    with make_crew(starter, 2) as crew:
        crew.prepare(8)
        crew.prepare(8)
    assert starter.started == 2


def test_all_are_stopped_when_one_breaks() -> None:
    starter = Starter(breaks=True)
    with pytest.raises(MeasurementError, match="it died"), make_crew(starter, 2) as crew:
        crew.sample(0, expected=2)
    assert {"1 stops", "2 stops"} <= set(starter.log)


def test_those_that_were_not_needed_are_stopped() -> None:
    starter = Starter()
    with make_crew(starter, 2) as crew:
        crew.sample(0, expected=2)
    assert "2 stops" in starter.log
