from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pytest_nnopt.session import worker
from pytest_nnopt.session.protocol import Build, Channel, Ready, Stop
from pytest_nnopt.session.worker import WorkerFinished, WorkerRole
from tests.builders import make_environment


class FakeCase:
    environment = make_environment()

    def __init__(self, line: Channel) -> None:
        self.log: list[str] = []
        self._line = line

    def rehearse(self) -> None:
        self.log.append("rehearses")
        self._line.send(Build(cache_dir="cache"))  # told only now
        self._line.send(Stop())

    def prepare_timing(self, cache_dir: Path) -> None:
        self.log.append(f"builds in {cache_dir}")


def test_a_worker_rehearses_while_it_is_not_told_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "keep_freed_memory", lambda: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = Channel(ours)
        case, role = FakeCase(line), WorkerRole(Channel(theirs), "case")
        with pytest.raises(WorkerFinished):
            role.serve(case)  # type: ignore[arg-type]
        assert case.log == ["rehearses", "builds in cache"]
        assert isinstance(line.receive(timeout_seconds=1), Ready)
        assert role.is_done
