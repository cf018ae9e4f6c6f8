"""The run's side of ranks: a team runs one test in several processes, started by torch's elastic launcher.

Rank 0 of a team talks to the run over a socket in a directory that all of them know. A second line, which the launcher
alone inherits, ends when the launcher does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nnopt.baseline.schema import Record
from pytest_nnopt.errors import MeasurementError, NnoptError
from pytest_nnopt.gpus import ALL, VISIBLE
from pytest_nnopt.results import CaseResult
from pytest_nnopt.session.processes import Launch, MeasuringProcess, start
from pytest_nnopt.session.protocol import Channel, Concluded, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_nnopt.torch_backend.team import Team

TEAM_OPTION = "--nnopt-team"

_ORDERS, _LINE, _FAILURES = "orders.json", "line", "failures.json"
_OF_A_RANK = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Orders(Record):
    """What a team is started for.

    Attributes:
        case_id: the case to measure on command; None runs and judges the whole test.
        count: how many ranks there are.
        backend: as of ``processes.Ranks``.
        timeout_seconds: as of ``processes.Ranks``.
        suite_size: how many cases the run decides on together.
        earlier: what earlier attempts at the test's cases in this run came to.
    """

    case_id: str | None = None
    count: int
    backend: str | None = None
    timeout_seconds: float
    suite_size: int = 0
    earlier: tuple[CaseResult, ...] = ()


class RankError(NnoptError):
    """One rank cannot do what it is told to."""


class TeamError(MeasurementError):
    """A rank died, or failed where the others did not.

    Args:
        message: which rank, how, and its last output.
        has_died: whether it was ended from outside, so that nobody knows what its test would have come to.
    """

    def __init__(self, message: str, *, has_died: bool) -> None:
        super().__init__(message)
        self.has_died = has_died


class TeamProcess(MeasuringProcess):
    """A team that runs one test.

    Args:
        launch: how to start it.
        test_id: node id of the test to run.
        orders: what it is started for.

    Raises:
        MeasurementError: it cannot be started.
    """

    def __init__(
        self, launch: Launch, test_id: str, orders: Orders, *, variables: Mapping[str, str] | None = None
    ) -> None:
        self._orders = orders
        super().__init__(launch, test_id, variables=variables)

    @classmethod
    def measuring(
        cls, launch: Launch, test_id: str, case_id: str, variables: Mapping[str, str] | None = None
    ) -> TeamProcess:
        """Start a team that measures one case on command, as one measuring process does."""
        assert launch.ranks is not None
        ranks = launch.ranks
        orders = Orders(
            case_id=case_id, count=ranks.count, backend=ranks.backend, timeout_seconds=ranks.timeout_seconds
        )
        return cls(launch, test_id, orders, variables=variables)

    def enter(self, case_id: str) -> None:
        """Do nothing: the team knows its case from its orders, and runs the test at once."""

    def _open(
        self, launch: Launch, test_id: str, opened: contextlib.ExitStack
    ) -> tuple[subprocess.Popen[bytes], Channel]:
        self._place = Path(
            opened.enter_context(tempfile.TemporaryDirectory(prefix="nnopt-", ignore_cleanup_errors=True))
        )
        (self._place / _ORDERS).write_text(self._orders.model_dump_json(), encoding="utf-8")
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self._place / _LINE))
        listener.listen()
        alive, theirs = socket.socketpair()
        opened.enter_context(alive)
        with theirs:
            command = team_command(launch, test_id, self._place, self._orders.count)
            process = start(command, launch.directory, theirs, self._output, team_variables(self._variables))
        return process, LateChannel(listener, alive)

    def _ended(self, doing: str) -> MeasurementError:
        """Return the error of a team whose line has ended: what the launcher says of its ranks, where it does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._deadlines.stop_seconds)
        found = self._failures()
        if not found:
            return super()._ended(doing)
        return TeamError("\n".join(describe_failures(found)), has_died=any(one["status"] < 0 for one in found))

    def _failures(self) -> list[dict[str, Any]]:
        """Return what the launcher wrote down of ranks that failed."""
        try:
            found: list[dict[str, Any]] = json.loads((self._place / _FAILURES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return found


class ConcludingTeam(TeamProcess):
    """A team that runs a whole test and judges its cases; arguments and errors as of ``TeamProcess``."""

    def conclude(self) -> Concluded:
        """Wait for what the test comes to, and for all ranks to end.

        Raises:
            MeasurementError: a rank failed, died or said something else.
        """
        message = self._channel.receive(is_gone=self.has_ended)
        if not isinstance(message, Concluded):
            raise self._ended("running the test")
        try:
            status = self._process.wait(self._deadlines.ready_seconds)
        except subprocess.TimeoutExpired:
            raise self._failure("did not end after its test") from None
        if status != 0:
            raise self._ended("ending the test")
        return message


class LateChannel(Channel):
    """A line to a rank 0 that has yet to connect; the line counts as ended when the launcher has ended before.

    Args:
        listener: where it connects.
        alive: ends with the launcher.
    """

    def __init__(self, listener: socket.socket, alive: socket.socket) -> None:
        self._listener = listener
        self._alive = alive
        self._channel: Channel | None = None

    def send(self, message: Record) -> None:
        """Send a message, waiting for rank 0 as long as it takes.

        Raises:
            MeasurementError: the other side is gone.
        """
        channel = self._connected(None)
        if channel is None:
            raise MeasurementError("the ranks are gone")
        channel.send(message)

    def receive(self, *, timeout_seconds: float | None = None, is_gone: Callable[[], bool] | None = None) -> Any:
        """Return the next message, None when the other side is gone; arguments as of ``Channel``.

        Raises:
            MeasurementError: nothing came in time, or what came is no message.
        """
        started = time.monotonic()
        channel = self._connected(timeout_seconds)
        if channel is None:
            return None
        left = None if timeout_seconds is None else max(0.1, timeout_seconds - (time.monotonic() - started))
        return channel.receive(timeout_seconds=left, is_gone=is_gone)

    def close(self) -> None:
        """End the line."""
        if self._channel is not None:
            self._channel.close()

    def _connected(self, timeout_seconds: float | None) -> Channel | None:
        if self._channel is None:
            ready, _, _ = select.select([self._listener, self._alive], [], [], timeout_seconds)
            if not ready:
                raise MeasurementError(f"no rank within {timeout_seconds:.0f} s")
            if self._listener not in ready:
                return None
            self._channel = Channel(self._listener.accept()[0])
        return self._channel


def team_command(launch: Launch, test_id: str, place: Path, count: int) -> list[str]:
    """Return the command of the launcher; in a rank, a test that is expected to fail says that it failed."""
    launcher = [sys.executable, "-m", "pytest_nnopt.torch_backend.launch", str(count), str(place)]
    own = ["--capture=no", "--runxfail", f"{TEAM_OPTION}={place}"]
    return [*launcher, *launch.program, *launch.arguments, *own, *launch.selecting(test_id)]


def team_variables(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a team's environment: all GPUs of the run, and nothing of a team around this process.

    Args:
        variables: what it begins with; None is this process's.
    """
    kept = {
        name: value
        for name, value in (os.environ if variables is None else variables).items()
        if not name.startswith("TORCHELASTIC_") and name not in _OF_A_RANK
    }
    return {**kept, VISIBLE: kept[ALL]} if ALL in kept else kept


def read_orders(place: Path) -> Orders:
    """Return what a team was started for."""
    return Orders.model_validate_json((place / _ORDERS).read_bytes())


class TeamChannel(Channel):
    """A rank's end of the line: rank 0 hears and speaks, and all ranks get to know what it hears.

    Args:
        team: the ranks.
        place: directory of the team.
    """

    def __init__(self, team: Team, place: Path) -> None:
        self._team = team
        self._line = connect(place) if team.is_lead else None

    def send(self, message: Record) -> None:
        """Send a message of rank 0; what another rank alone refuses ends it, so that the launcher tells.

        Raises:
            MeasurementError: the other side is gone.
            RankError: this rank refuses what rank 0 may not.
        """
        if self._line is not None:
            self._line.send(message)
        elif isinstance(message, Refused):
            raise RankError(message.reason)

    def receive(self, *, timeout_seconds: float | None = None, is_gone: Callable[[], bool] | None = None) -> Any:
        """Return the next message, None when the other side is gone; arguments as of ``Channel``.

        Raises:
            MeasurementError: what came is no message.
        """
        line = self._line
        return self._team.by_lead(
            lambda: None if line is None else line.receive(timeout_seconds=timeout_seconds, is_gone=is_gone)
        )

    def close(self) -> None:
        """End the line."""
        if self._line is not None:
            self._line.close()


def connect(place: Path) -> Channel:
    """Return rank 0's end of the line."""
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(place / _LINE))
    return Channel(line)


def describe_failures(failures: list[dict[str, Any]]) -> list[str]:
    """Say which ranks failed and why, the one that began it first."""
    lines = []
    for one in failures:
        lines.append(f"rank {one['rank']} {_how(one['status'])}")
        said = one["message"]
        lines += [f"  {line}" for line in (said.splitlines() if said else ["its last output:", *one["output"]])]
    return lines


def _how(status: int) -> str:
    if status >= 0:
        return "failed"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
