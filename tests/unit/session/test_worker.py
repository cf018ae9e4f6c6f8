from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_nnopt.session import worker
from pytest_nnopt.session.protocol import Absence, Build, Channel, Enter, Inspect, Inspected, Ready, Refused, Stop
from pytest_nnopt.session.worker import WorkerFinished, WorkerRole
from tests.builders import make_environment


class FakeCase:
    environment = make_environment()

    def __init__(self, line: Channel) -> None:
        self.log: list[str] = []
        self.frozen = 0
        self.built: list[list[int]] = []
        self._line = line

    def rehearse(self) -> None:
        self.log.append("rehearses")
        self._line.send(Build(cache_dir="cache"))  # told only now
        self._line.send(Stop())

    def prepare_timing(self, cache_dir: Path) -> None:
        self.log.append(f"builds in {cache_dir}")
        self.frozen = gc.get_freeze_count()
        self.built += ([number] for number in range(10))  # frozen as well, afterwards


@contextlib.contextmanager
def unfrozen() -> Iterator[None]:
    """Let the collector see everything, now and again in the end."""
    gc.unfreeze()
    try:
        yield
    finally:
        gc.unfreeze()


def test_a_worker_rehearses_while_it_is_not_told_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "keep_freed_memory", lambda: None)
    ours, theirs = socket.socketpair()
    with ours, theirs, unfrozen():
        line = Channel(ours)
        case, role = FakeCase(line), WorkerRole(Channel(theirs), "case")
        with pytest.raises(WorkerFinished):
            role.serve(case)  # type: ignore[arg-type]
        assert case.log == ["rehearses", "builds in cache"]
        assert isinstance(line.receive(timeout_seconds=1), Ready)
        assert 0 < case.frozen < gc.get_freeze_count()
        assert role.is_done


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Channel, Channel]]:
    """Return the run's end and the worker's end of a line."""
    monkeypatch.setattr(worker, "keep_freed_memory", lambda: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), Channel(theirs)


def test_a_worker_loads_while_it_may_not_enter_its_test(line: tuple[Channel, Channel]) -> None:
    run, role = line[0], WorkerRole(line[1])
    assert role.wait_to_enter(lambda: run.send(Enter(case_id="test#a")))
    assert role.case_id == "test#a"


def test_a_worker_that_may_enter_at_once_does_nothing_before(line: tuple[Channel, Channel]) -> None:
    run, role = line[0], WorkerRole(line[1])
    run.send(Enter(case_id="test"))
    loaded: list[int] = []
    assert role.wait_to_enter(lambda: loaded.append(1))
    assert not loaded


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_worker_that_is_not_wanted_runs_no_test(line: tuple[Channel, Channel], is_gone: bool) -> None:
    run, role = line[0], WorkerRole(line[1])
    if is_gone:
        run._socket.close()
        run.close()
    else:
        run.send(Stop())
    assert not role.wait_to_enter(lambda: None)
    assert role.is_done


@pytest.mark.parametrize("has_entered", [True, False])
def test_why_a_case_is_absent_is_said_once_asked(line: tuple[Channel, Channel], has_entered: bool) -> None:
    run, role = line[0], WorkerRole(line[1])
    run.send(Enter(case_id="test"))
    if has_entered:
        assert role.wait_to_enter(lambda: None)
    run.send(Inspect(cache_dir="cache"))
    role.report_absence(Absence(kind="missing", reason="there is no such test"))
    said = run.receive(timeout_seconds=1)
    assert isinstance(said, Inspected)
    assert said.absence is not None


def test_a_refusal_waits_for_the_question(line: tuple[Channel, Channel]) -> None:
    run, role = line[0], WorkerRole(line[1])
    for message in (Enter(case_id="test"), Build(cache_dir="cache")):
        run.send(message)
    role.refuse_when_asked("it cannot")
    assert isinstance(run.receive(timeout_seconds=1), Refused)
