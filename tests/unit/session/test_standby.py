from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session import standby as module
from pytest_nnopt.session.processes import Launch
from pytest_nnopt.session.standby import Standby

LAUNCH = Launch((), Path("here"))


@dataclass
class FakeProcess:
    """Writes down what is asked of it."""

    launch: Launch
    test_id: str
    variables: Mapping[str, str] | None = None
    log: list[str] = field(default_factory=list)
    is_alive: bool = True

    def pause(self) -> None:
        self.log.append("rests")

    def resume(self) -> None:
        self.log.append("goes on")

    def stop(self, *, at_once: bool = False) -> None:
        self.log.append("is killed" if at_once else "stops")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeProcess]:
    """Keep what is started."""
    processes: list[FakeProcess] = []

    def start(launch: Launch, test_id: str, *, variables: Mapping[str, str] | None = None) -> FakeProcess:
        processes.append(FakeProcess(launch, test_id, variables))
        return processes[-1]

    monkeypatch.setattr(module, "MeasuringProcess", start)
    return processes


def test_what_stands_by_for_a_test_is_taken_once(started: list[FakeProcess]) -> None:
    standby = Standby(LAUNCH)
    standby.call("a", os.environ)
    standby.call("a", os.environ)
    assert len(started) == 1
    first, second = standby.take(LAUNCH, "a"), standby.take(LAUNCH, "a")
    assert (first, second) == tuple(started)  # type: ignore[comparison-overlap]
    standby.dismiss()
    assert not started[0].log


def test_it_makes_way_for_that_of_another_test(started: list[FakeProcess]) -> None:
    standby = Standby(LAUNCH)
    standby.call("a", os.environ)
    standby.call("b", os.environ)
    assert started[0].log == ["is killed"]
    assert standby.take(LAUNCH, "b") is started[1]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("launch", "test_id"), [(LAUNCH, "b"), (Launch(("--nnopt-worker-base=there",), Path("here")), "a")]
)
def test_what_runs_otherwise_gets_a_process_of_its_own(
    started: list[FakeProcess], launch: Launch, test_id: str
) -> None:
    standby = Standby(LAUNCH)
    standby.call("a", os.environ)
    assert standby.take(launch, test_id) is started[1]  # type: ignore[comparison-overlap]
    assert (started[1].launch, started[1].test_id) == (launch, test_id)
    assert standby.take(LAUNCH, "a") is started[0]  # type: ignore[comparison-overlap]


def test_one_that_has_ended_is_replaced(started: list[FakeProcess]) -> None:
    standby = Standby(LAUNCH)
    standby.call("a", os.environ)
    started[0].is_alive = False
    assert standby.take(LAUNCH, "a") is started[1]  # type: ignore[comparison-overlap]
    assert started[0].log == ["is killed"]


def test_one_that_knows_another_environment_than_the_test_is_replaced(
    started: list[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    standby, between = Standby(LAUNCH), dict(os.environ)
    monkeypatch.setenv("FLAG", "of the test before")
    standby.call("a", between)
    assert started[0].variables == between
    assert standby.take(LAUNCH, "a") is started[1]  # type: ignore[comparison-overlap]
    assert started[0].log == ["is killed"]
    assert started[1].variables is None


def test_what_the_fixtures_of_the_test_change_is_theirs_to_change_in_each_process(
    started: list[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    standby, between = Standby(LAUNCH), dict(os.environ)
    standby.call("a", between)
    monkeypatch.setenv("FLAG", "of the test's fixture")
    assert standby.take(LAUNCH, "a", between) is started[0]  # type: ignore[comparison-overlap]
    assert standby.take(LAUNCH, "a", between) is started[1]  # type: ignore[comparison-overlap]
    assert started[1].variables == between


def test_one_called_before_something_changed_for_good_makes_way(started: list[FakeProcess]) -> None:
    standby = Standby(LAUNCH)
    standby.call("a", {"FLAG": "0"})
    standby.call("a", {"FLAG": "1"})
    assert [process.variables for process in started] == [{"FLAG": "0"}, {"FLAG": "1"}]
    assert started[0].log == ["is killed"]


def test_what_torch_and_pytest_set_as_they_go_is_no_other_environment(
    started: list[FakeProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    standby = Standby(LAUNCH)
    standby.call("a", os.environ)
    for name in ("PYTEST_CURRENT_TEST", "CUDA_MODULE_LOADING", "TRITON_CACHE_DIR", "TEARDOWN_CUPTI"):
        monkeypatch.setenv(name, "set meanwhile")
    monkeypatch.setenv("TRITON_PTXAS_PATH", "/site-packages/torch/bin/ptxas")
    assert standby.take(LAUNCH, "a") is started[0]  # type: ignore[comparison-overlap]


def test_an_assembler_that_is_not_torchs_own_is_another_environment(started: list[FakeProcess]) -> None:
    standby = Standby(LAUNCH)
    for path in ("/site-packages/torch/bin/ptxas", "/usr/local/cuda/bin/ptxas"):
        standby.call("a", {"TRITON_PTXAS_PATH": path})
    assert len(started) == 2


def test_it_stays_for_the_tests_that_are_named(started: list[FakeProcess]) -> None:
    standby = Standby(LAUNCH)
    standby.call("a", os.environ)
    standby.dismiss(unless_for=("b", "a"))
    assert not started[0].log
    standby.dismiss(unless_for=("b", None))
    assert started[0].log == ["is killed"]


def test_one_that_cannot_be_started_is_missed_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> FakeProcess:
        raise MeasurementError("no more processes")

    monkeypatch.setattr(module, "MeasuringProcess", start)
    standby = Standby(LAUNCH)
    standby.call("a", os.environ)
    with pytest.raises(MeasurementError, match="no more processes"):
        standby.take(LAUNCH, "a")


def test_it_rests_while_others_measure(started: list[FakeProcess]) -> None:
    standby = Standby(LAUNCH)
    with standby.at_rest():
        pass
    standby.call("a", os.environ)
    with pytest.raises(ZeroDivisionError), standby.at_rest():
        raise ZeroDivisionError
    assert started[0].log == ["rests", "goes on"]
    standby.dismiss()
    standby.dismiss()
    assert started[0].log == ["rests", "goes on", "is killed"]
