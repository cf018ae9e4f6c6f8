"""A run and its ranks: who connects, who ends, and what is said of a rank that did not end well."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session import teams
from pytest_nnopt.session.processes import Launch
from pytest_nnopt.session.protocol import Concluded, Refused, Stop
from pytest_nnopt.session.teams import (
    ConcludingTeam,
    LateChannel,
    Orders,
    RankError,
    TeamChannel,
    TeamError,
    connect,
    describe_failures,
    read_orders,
    team_command,
    team_variables,
)

Conclude = Callable[[str], Concluded]

ORDERS = Orders(count=2, timeout_seconds=5)
PREAMBLE = """\
import json, pathlib, socket, sys, os
place = pathlib.Path(sys.argv[1])
def say(**message):
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(place / "line"))
    line.sendall(json.dumps(message).encode() + b"\\n")
def fail(*failures):
    (place / "failures.json").write_text(json.dumps(failures))
    sys.exit(1)
"""


@pytest.fixture
def conclude(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Conclude:
    """Run a small script in place of the launcher, and return what it concludes."""

    def run(script: str) -> Concluded:
        monkeypatch.setattr(
            teams, "team_command", lambda *args: [sys.executable, "-I", "-S", "-c", PREAMBLE + script, str(args[2])]
        )
        team = ConcludingTeam(Launch((), tmp_path), "test", ORDERS)
        try:
            return team.conclude()
        finally:
            team.stop()

    return run


def test_a_team_concludes_once_all_ranks_have_ended(conclude: Conclude) -> None:
    assert conclude('say(type="concluded", skipped="no reason")') == Concluded(skipped="no reason")


def test_a_rank_that_was_killed_is_named_with_its_output(conclude: Conclude) -> None:
    with pytest.raises(TeamError) as caught:
        conclude("fail(dict(rank=1, status=-9, message=None, at=0, output=['last words']))")
    assert str(caught.value) == "rank 1 was ended by SIGKILL\n  its last output:\n  last words"
    assert caught.value.has_died


def test_a_rank_that_fails_after_the_test_fails_it(conclude: Conclude) -> None:
    with pytest.raises(TeamError, match="rank 0 failed\n  teardown went wrong"):
        conclude('say(type="concluded")\nfail(dict(rank=0, status=1, message="teardown went wrong", at=0, output=[]))')


def test_a_launcher_that_cannot_start_ranks_is_quoted(conclude: Conclude) -> None:
    with pytest.raises(
        MeasurementError, match=r"ended with status 3 while running the test; its last output:\nno torch"
    ):
        conclude('print("no torch"); sys.exit(3)')


def test_ranks_that_failed_are_told_in_order() -> None:
    failures: list[dict[str, Any]] = [
        {"rank": 1, "status": -signal.SIGSEGV, "message": None, "at": 5, "output": []},
        {"rank": 0, "status": 1, "message": "the peer\nis gone", "at": 3, "output": []},
        {"rank": 2, "status": -99, "message": None, "at": 3, "output": ["x"]},
    ]
    assert describe_failures(failures) == [
        "rank 1 was ended by SIGSEGV",
        "  its last output:",
        "rank 0 failed",
        "  the peer",
        "  is gone",
        "rank 2 was ended by signal 99",
        "  its last output:",
        "  x",
    ]


def test_a_team_sees_all_gpus_of_the_run_and_nothing_of_a_team_around_it() -> None:
    around = {"RANK": "0", "TORCHELASTIC_RUN_ID": "x", "PATH": "/bin", "CUDA_VISIBLE_DEVICES": "3"}
    assert team_variables(around) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "3"}
    mapped = {"CUDA_VISIBLE_DEVICES": "3", "PYTEST_NNOPT_GPUS": "3,1"}
    assert team_variables(mapped) == {"CUDA_VISIBLE_DEVICES": "3,1", "PYTEST_NNOPT_GPUS": "3,1"}


def test_the_launcher_is_handed_a_pytest(tmp_path: Path) -> None:
    command = team_command(Launch(("-q",), tmp_path), "t.py::test", tmp_path, 3)
    assert command[1:5] == ["-m", "pytest_nnopt.torch_backend.launch", "3", str(tmp_path)]
    assert command[5:8] == ["-m", "pytest", "-q"]
    assert command[-4:] == [f"--nnopt-team={tmp_path}", "--nnopt-worker-test=t.py::test", "--", "t.py::test"]


def test_a_line_waits_for_rank_0_but_not_beyond_the_launcher(tmp_path: Path) -> None:
    listener, (alive, launcher) = socket.socket(socket.AF_UNIX), socket.socketpair()
    listener.bind(str(tmp_path / "line"))
    listener.listen()
    with listener, alive:
        channel = LateChannel(listener, alive)
        with pytest.raises(MeasurementError, match="no rank within 0 s"):
            channel.receive(timeout_seconds=0.01)
        rank = connect(tmp_path)
        rank.send(Concluded())
        assert channel.receive(timeout_seconds=5) == Concluded()
        channel.send(Stop())
        assert rank.receive(timeout_seconds=5) == Stop()
        channel.close()
        rank.close()
        launcher.close()
        late = LateChannel(listener, alive)
        assert late.receive() is None
        with pytest.raises(MeasurementError, match="the ranks are gone"):
            late.send(Stop())
        late.close()


def test_a_team_that_has_ended_is_gone_although_its_end_of_the_line_lives_on(tmp_path: Path) -> None:
    listener, (alive, launcher) = socket.socket(socket.AF_UNIX), socket.socketpair()
    listener.bind(str(tmp_path / "line"))
    listener.listen()
    with listener, alive, launcher:
        rank, channel = connect(tmp_path), LateChannel(listener, alive)
        rank.send(Concluded())
        assert channel.receive(timeout_seconds=60, is_gone=lambda: True) == Concluded()
        assert channel.receive(timeout_seconds=60, is_gone=lambda: True) is None
        channel.close()
        rank.close()


@dataclass
class FakeTeam:
    """One of two ranks; what rank 0 did is handed over by hand."""

    rank: int
    told: object = None

    @property
    def is_lead(self) -> bool:
        return self.rank == 0

    def by_lead(self, work: object) -> object:
        assert callable(work)
        return work() if self.is_lead else self.told


def test_all_ranks_hear_what_rank_0_hears_and_it_alone_speaks(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "line"))
        listener.listen()
        lead = TeamChannel(FakeTeam(0), tmp_path)  # type: ignore[arg-type]
        end = LateChannel(listener, listener)
        thread = threading.Thread(target=lambda: end.send(Stop()))
        thread.start()
        assert lead.receive(timeout_seconds=5) == Stop()
        thread.join()
        assert lead.receive(timeout_seconds=60, is_gone=lambda: True) is None
        lead.send(Concluded())
        assert end.receive(timeout_seconds=5) == Concluded()
        end.close()
        lead.close()
    other = TeamChannel(FakeTeam(1, Stop()), tmp_path)  # type: ignore[arg-type]
    assert other.receive() == Stop()
    other.send(Concluded())
    with pytest.raises(RankError, match="not here"):
        other.send(Refused(reason="not here"))
    other.close()


def test_orders_are_read_as_they_were_given(tmp_path: Path) -> None:
    (tmp_path / "orders.json").write_text(json.dumps(json.loads(ORDERS.model_dump_json())))
    assert read_orders(tmp_path) == ORDERS
