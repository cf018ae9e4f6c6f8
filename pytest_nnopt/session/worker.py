"""The measuring process's own side: build one case, then measure it whenever told to."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.errors import NnoptError
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.session.protocol import Channel, Measure, Ready, Refused, Sample

if TYPE_CHECKING:
    from pytest_nnopt.session.case import CaseRun


class WorkerFinished(NnoptError):
    """The case has been measured; what remains of the test's body does not matter."""


@dataclass(frozen=True)
class WorkerRole:
    """What makes a pytest run a measuring process.

    Attributes:
        channel: the line to the run that started it.
        case_id: the one case to measure.
        cache_dir: where compiled code is kept.
    """

    channel: Channel
    case_id: str
    cache_dir: Path

    @classmethod
    def from_descriptor(cls, descriptor: int, case_id: str, cache_dir: Path) -> WorkerRole:
        """Take the role handed over by file descriptor."""
        return cls(Channel(socket.socket(fileno=descriptor)), case_id, cache_dir)

    def serve(self, run: CaseRun) -> None:
        """Build the case and measure it until told to stop.

        Raises:
            WorkerFinished: always, at the end.
        """
        try:
            self._measure_on_command(run)
        except NnoptError as error:
            self.channel.send(Refused(reason=str(error)))
        raise WorkerFinished

    def _measure_on_command(self, run: CaseRun) -> None:
        run.require_candidate()
        self.channel.send(Ready(environment=dict(run.environment.fields)))
        while isinstance(message := self.channel.receive(), Measure):
            record = run.measure_process(Plan(seed=message.seed))[-1]
            self.channel.send(Sample(process=record))
