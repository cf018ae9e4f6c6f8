"""The measuring process's own side: build one case when told to, then measure it whenever told to."""

from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_nnopt.errors import MeasurementError, NnoptError, PairError, SeparationError
from pytest_nnopt.measurement.allocator import keep_freed_memory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.measurement.family import end_with_parent
from pytest_nnopt.session.protocol import (
    Absence,
    Build,
    Channel,
    Enter,
    Inspect,
    Inspected,
    Measure,
    Ready,
    Refused,
    Sample,
    Turn,
)

if TYPE_CHECKING:
    from pytest_nnopt.against.worktree import Trees
    from pytest_nnopt.baseline.schema import Evidence, ProcessRecord
    from pytest_nnopt.environment import Environment


class WorkerFinished(NnoptError):
    """The case has been measured; what remains of the test's body does not matter."""


class Measurable(Protocol):
    """What a worker needs of the case that its test hands over."""

    @property
    def environment(self) -> Environment:
        """The fingerprint of this process on the pair's device."""
        ...

    def rehearse(self) -> None:
        """Do what can be done before anything is built."""
        ...

    def prepare_timing(self, cache_dir: Path) -> None:
        """Build both sides, with compiled code kept in ``cache_dir``."""
        ...

    def measure_process(self, plan: Plan, turn: Callable[[], None] | None = None) -> tuple[ProcessRecord, ...]:
        """Time both sides; the last record is the new one. ``turn`` waits until this process may go on."""
        ...


@dataclass
class WorkerRole:
    """What makes a pytest run a measuring process.

    Attributes:
        channel: the line to the run that started it.
        case_id: the one case to measure; None until it is told.
        is_done: whether it was told to stop: whatever the run would still print, nobody wants to know.
        base: where the base lies; None unless it runs, too.
        is_base: whether this process runs the base alone, not beside the head.
        test: the test function that runs, where that matters.
        is_serving: whether the case has been handed over.
    """

    channel: Channel
    case_id: str | None = None
    is_done: bool = False
    base: Trees | None = None
    is_base: bool = False
    test: Callable[..., object] | None = None
    is_serving: bool = False

    @classmethod
    def from_descriptor(cls, descriptor: int, *, base: Trees | None = None, is_base: bool = False) -> WorkerRole:
        """Take the role handed over by file descriptor; from then on this process ends with the one that started it."""
        end_with_parent()
        end = socket.socket(fileno=descriptor)
        end.set_inheritable(False)  # what the test starts must not keep the line alive
        return cls(Channel(end), base=base, is_base=is_base)

    def wait_to_enter(self, meanwhile: Callable[[], None]) -> bool:
        """Wait until the test may run, and learn of which case.

        Args:
            meanwhile: what can be done before, where there is time for it.

        Returns:
            whether it may run at all.
        """
        if self.channel.is_silent():
            keep_freed_memory()
            meanwhile()
        message = self.channel.receive()
        if isinstance(message, Enter):
            self.case_id = message.case_id
            return True
        self.is_done = True
        return False

    def serve(self, case: Measurable, inspect: Callable[[Path], Evidence] | None = None) -> None:
        """Build the case and measure it, each when told to, until told to stop.

        Args:
            case: what to build and measure.
            inspect: looks at everything but times, given the directory for compiled code.

        Raises:
            WorkerFinished: always, at the end.
        """
        self.is_serving = True
        keep_freed_memory()
        case.rehearse()
        _spare_collector()
        try:
            self._obey(case, inspect)
        except SeparationError as error:
            self.refuse(str(error), needs_separation=not self.is_base)
        except NnoptError as error:
            self.refuse(str(error))
        raise WorkerFinished

    def refuse(self, reason: str, *, needs_separation: bool = False) -> None:
        """Say that the case cannot be measured here."""
        with contextlib.suppress(MeasurementError):
            self.channel.send(Refused(reason=reason, needs_separation=needs_separation))
        self.is_done = True

    def refuse_when_asked(self, reason: str, *, needs_separation: bool = False) -> None:
        """Say that the case cannot be measured here once the run that started this process wants it to be."""
        self._wait_until_asked()
        self.refuse(reason, needs_separation=needs_separation)

    def report_absence(self, absence: Absence) -> None:
        """Say that the base's test does not hand over the case; only the first reason counts."""
        if not (self.is_done or self.is_serving):
            self._wait_until_asked()
            with contextlib.suppress(MeasurementError):
                self.channel.send(Inspected(absence=absence))
            self.is_done = True

    def _wait_until_asked(self) -> None:
        """Wait for the first question.

        Where the test's file cannot be imported, the word to enter it has not been taken from the line yet.
        """
        if isinstance(self.channel.receive(), Enter):
            self.channel.receive()

    def _obey(self, case: Measurable, inspect: Callable[[Path], Evidence] | None) -> None:
        while (message := self.channel.receive()) is not None:
            if isinstance(message, Build):
                _trust(message.instruction_sets)
                case.prepare_timing(Path(message.cache_dir))
                _spare_collector()
                self.channel.send(Ready(environment=dict(case.environment.fields)))
            elif isinstance(message, Measure):
                turn = self._wait_for_turn if message.takes_turns else None
                record = case.measure_process(Plan(seed=message.seed), turn)[-1]
                self.channel.send(Sample(process=record))
            elif isinstance(message, Inspect) and inspect is not None:
                self.channel.send(_inspected(inspect, Path(message.cache_dir)))
            else:
                self.is_done = True
                return

    def _wait_for_turn(self) -> None:
        self.channel.send(Turn())
        if not isinstance(self.channel.receive(), Turn):
            raise MeasurementError("the run that started this process is gone")


def _spare_collector() -> None:
    """Look through all objects now: those there are need not be again, neither while this builds nor while it times."""
    gc.collect()
    gc.freeze()


def _trust(instruction_sets: Sequence[str]) -> None:
    """Believe what the run has found out of this host; torch is loaded only where there is something to believe."""
    if instruction_sets:
        from pytest_nnopt.torch_backend.isolation import trust_instruction_sets

        trust_instruction_sets(instruction_sets)


def _inspected(inspect: Callable[[Path], Evidence], cache_dir: Path) -> Inspected:
    """Look at a case; a model that does not run, or cannot be copied, is the test's own failure."""
    try:
        return Inspected(evidence=inspect(cache_dir))
    except PairError as error:
        return Inspected(absence=Absence(kind="failing", reason=str(error)))
