"""The measuring process's own side: build one case when told to, then measure it whenever told to."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_nnopt.errors import NnoptError
from pytest_nnopt.measurement.allocator import keep_freed_memory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.session.protocol import Build, Channel, Measure, Ready, Refused, Sample

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.environment import Environment


class WorkerFinished(NnoptError):
    """The case has been measured; what remains of the test's body does not matter."""


class Measurable(Protocol):
    """What a worker needs of the case that its test hands over."""

    @property
    def environment(self) -> Environment:
        """The fingerprint of this process on the pair's device."""
        ...

    def prepare_timing(self, cache_dir: Path) -> None:
        """Build both sides, with compiled code kept in ``cache_dir``."""
        ...

    def measure_process(self, plan: Plan) -> tuple[ProcessRecord, ...]:
        """Time both sides; the last record is the new one."""
        ...


@dataclass
class WorkerRole:
    """What makes a pytest run a measuring process.

    Attributes:
        channel: the line to the run that started it.
        case_id: the one case to measure.
        is_done: whether it was told to stop: whatever the run would still print, nobody wants to know.
    """

    channel: Channel
    case_id: str
    is_done: bool = False

    @classmethod
    def from_descriptor(cls, descriptor: int, case_id: str) -> WorkerRole:
        """Take the role handed over by file descriptor."""
        return cls(Channel(socket.socket(fileno=descriptor)), case_id)

    def serve(self, case: Measurable) -> None:
        """Build the case and measure it, each when told to, until told to stop.

        Raises:
            WorkerFinished: always, at the end.
        """
        keep_freed_memory()
        try:
            self._obey(case)
        except NnoptError as error:
            self.channel.send(Refused(reason=str(error)))
        raise WorkerFinished

    def _obey(self, case: Measurable) -> None:
        while (message := self.channel.receive()) is not None:
            if isinstance(message, Build):
                case.prepare_timing(Path(message.cache_dir))
                self.channel.send(Ready(environment=dict(case.environment.fields)))
            elif isinstance(message, Measure):
                record = case.measure_process(Plan(seed=message.seed))[-1]
                self.channel.send(Sample(process=record))
            else:
                self.is_done = True
                return
