"""How a run talks to its measuring processes: one JSON object a line over a socket both sides hold.

A worker imports and collects by itself, and waits until it may ``enter`` its test. Once that has handed over the case,
the worker waits for ``build``, compiles and says ``ready``. Every ``measure`` is answered by a ``sample``, until
``stop``. Two workers that measure in turn ask for each ``turn``, and get it from the run, so that one works at a time.
Anything the worker cannot do it answers with ``refused`` and a reason; if it dies, the line ends. A worker that
runs the base of a comparison is asked to ``inspect`` its case, too, and answers by ``inspected``. A team of ranks that
runs a whole test says once what it ``concluded``.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

from pydantic import Field, TypeAdapter

from pytest_nnopt.baseline.schema import Evidence, ProcessRecord, Record
from pytest_nnopt.environment import FieldValue
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.results import CaseMessage


class Enter(Record):
    """Run the test until it hands over the case of this id."""

    type: Literal["enter"] = "enter"
    case_id: str


class Build(Record):
    """Build and compile the case, with compiled code kept in ``cache_dir``.

    ``instruction_sets``: what the run knows of this host's vector instructions; empty where it has not looked.
    """

    type: Literal["build"] = "build"
    cache_dir: str
    instruction_sets: tuple[str, ...] = ()


class Ready(Record):
    """The case is built and compiled; ``environment`` is the worker's fingerprint."""

    type: Literal["ready"] = "ready"
    environment: dict[str, FieldValue]


class Measure(Record):
    """Take one sample, drawing orders from ``seed``; ``takes_turns``: each block, and warm-up, waits for its turn."""

    type: Literal["measure"] = "measure"
    seed: int
    takes_turns: bool = False


class Turn(Record):
    """Of the worker: it waits for its turn. To the worker: it is its turn."""

    type: Literal["turn"] = "turn"


class Sample(Record):
    """What the process measured."""

    type: Literal["sample"] = "sample"
    process: ProcessRecord


class Inspect(Record):
    """Look at everything of the case but its times, with compiled code kept in ``cache_dir``."""

    type: Literal["inspect"] = "inspect"
    cache_dir: str


class Absence(Record):
    """Why the base's test does not get as far as handing over the case."""

    kind: Literal["missing", "unused", "unimportable", "failing"]
    reason: str


class Inspected(Record):
    """What was seen, as a baseline would hold it, or why there is nothing to see."""

    type: Literal["inspected"] = "inspected"
    evidence: Evidence | None = None
    absence: Absence | None = None


class Concluded(Record):
    """What a team of ranks found of a whole test: its judged cases, or why the test was skipped on every rank."""

    type: Literal["concluded"] = "concluded"
    cases: tuple[CaseMessage, ...] = ()
    skipped: str | None = None


class Refused(Record):
    """The case cannot be measured here; ``needs_separation``: but it may be where a base has a process of its own."""

    type: Literal["refused"] = "refused"
    reason: str
    needs_separation: bool = False


class Stop(Record):
    """No more samples are wanted."""

    type: Literal["stop"] = "stop"


Message = Annotated[  # evaluated at run time on Python 3.10, too
    Union[Enter, Build, Ready, Measure, Turn, Sample, Inspect, Inspected, Concluded, Refused, Stop],  # noqa: UP007
    Field(discriminator="type"),
]
_MESSAGES: TypeAdapter[Any] = TypeAdapter(Message)
_LONGEST_LINE_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**16
_SHOWN_CHARACTERS = 1000

_LOOK_SECONDS = 0.5
"""How long after its end a process is noticed to have ended whose end of the line lives on."""


class Channel:
    """One end of the line.

    Args:
        end: a connected stream socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._received = bytearray()

    def send(self, message: Record) -> None:
        """Send a message.

        Raises:
            MeasurementError: the other side is gone.
        """
        try:
            self._socket.sendall(json.dumps(message.model_dump(mode="json")).encode() + b"\n")
        except OSError as error:
            raise MeasurementError(f"the other side of the measuring process is gone: {error}") from None

    def receive(self, *, timeout_seconds: float | None = None, is_gone: Callable[[], bool] | None = None) -> Any:
        """Return the next message, None when the other side is gone.

        Args:
            timeout_seconds: how long to wait for it; None is for ever.
            is_gone: whether the other side has ended; its end of the line may live on in what it has started.

        Raises:
            MeasurementError: nothing came in time, or what came is no message.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        try:
            line = self._read_line(deadline, is_gone)
        except TimeoutError:
            raise MeasurementError(f"no answer within {timeout_seconds:.0f} s") from None
        except OSError:
            return None
        if line is None:
            return None
        try:
            return _MESSAGES.validate_json(line)
        except ValueError as error:
            raise MeasurementError(f"not a message: {str(error)[:_SHOWN_CHARACTERS]}") from None

    def _read_line(self, deadline: float | None, is_gone: Callable[[], bool] | None) -> bytes | None:
        """Return the next line, None where the other side is gone.

        Raises:
            MeasurementError: the line is too long.
            TimeoutError: it has not come in time.
        """
        looked_at = 0
        while (end := self._received.find(b"\n", looked_at)) < 0:
            looked_at = len(self._received)
            if looked_at >= _LONGEST_LINE_BYTES:
                raise MeasurementError(f"not a message: it has more than {_LONGEST_LINE_BYTES} bytes")
            if not self._wait(deadline, is_gone):
                return None
            chunk = self._socket.recv(_CHUNK_BYTES)
            if not chunk:
                return None
            self._received += chunk
        line = bytes(self._received[: end + 1])
        del self._received[: end + 1]
        return line

    def _wait(self, deadline: float | None, is_gone: Callable[[], bool] | None) -> bool:
        """Wait until something has come, and return whether anything has: the other side may have ended before.

        Raises:
            TimeoutError: neither has happened in time.
        """
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            look_seconds = _LOOK_SECONDS if left is None else min(_LOOK_SECONDS, left)
            if self._has_come(left if is_gone is None else look_seconds):
                return True
            if is_gone is not None and is_gone():
                return self._has_come(0)  # what it said last
            if left is not None and left <= _LOOK_SECONDS:
                raise TimeoutError

    def _has_come(self, seconds: float | None) -> bool:
        with selectors.DefaultSelector() as selector:  # select itself knows no descriptor above 1023
            selector.register(self._socket, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def is_silent(self) -> bool:
        """Whether nothing has come that is still to be received."""
        return not (self._received or self._has_come(0))

    def close(self) -> None:
        """End the line."""
        self._socket.close()
