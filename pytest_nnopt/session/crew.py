"""The measuring processes of one case: started ahead, built together, measured one at a time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError

if TYPE_CHECKING:
    from types import TracebackType

    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.session.processes import MeasuringProcess


class Crew:
    """Keeps processes ready, so that no more time passes between two samples than the second one takes.

    While one process measures, no other of the crew imports, builds or compiles: it would disturb the times.

    Args:
        start: starts a measuring process, which imports and collects by itself and then waits to enter its test.
        case_id: the case that its test is to hand over.
        cache_dir: gives each process the directory for its compiled code; asked once a process is to build.
        environment: what every process must see, too.
        at_once: how many are built at a time; as many run their test up to the case at once.
        ahead: how many more import while those build.
        aside: has what is no part of the crew rest while one of it measures.
    """

    def __init__(
        self,
        start: Callable[[], MeasuringProcess],
        case_id: str,
        cache_dir: Callable[[], Path],
        environment: Environment,
        *,
        at_once: int,
        ahead: int = 0,
        aside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._start = start
        self._case_id = case_id
        self._cache_dir = cache_dir
        self._environment = environment
        self._at_once = at_once
        self._most_alive = at_once + ahead
        self._aside = aside
        self._alive = ExitStack()
        self._waiting: deque[MeasuringProcess] = deque()
        self._building: deque[MeasuringProcess] = deque()
        self._ready: deque[MeasuringProcess] = deque()

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self._waiting, *self._building):
            process.stop(at_once=True)  # what builds would hear that it may end once it has built
        self._alive.__exit__(kind, error, trace)

    def prepare(self, count: int) -> None:
        """Start processes until ``count`` of them, or as many as may live at once, are on their way to be ready.

        Raises:
            MeasurementError: one cannot be started.
        """
        there = len(self._waiting) + len(self._building) + len(self._ready)
        for _ in range(min(count, self._most_alive) - there):
            process = self._start()
            self._alive.push(process)
            self._waiting.append(process)
        for process in list(self._waiting)[: self._at_once - len(self._building)]:
            process.enter(self._case_id)

    def begin(self, count: int = 1) -> None:
        """Tell as many of the waiting processes to build, as far as so many may at a time; the next sample awaits them.

        One that has ended is told nothing; whoever awaits it learns how it ended.
        """
        for _ in range(min(count, self._at_once - len(self._building), len(self._waiting))):
            process = self._waiting.popleft()
            self._building.append(process)
            process.enter(self._case_id)
            with contextlib.suppress(MeasurementError):
                process.build(self._cache_dir())

    def sample(self, seed: int, *, expected: int = 1) -> ProcessRecord:
        """Take one sample in a process that has measured nothing before.

        Args:
            seed: starts the generator of orders and copies.
            expected: how many samples will be asked for, this one included; as many processes are prepared together.

        Raises:
            MeasurementError: a process could not be started, died, hung, refused or sees another environment.
        """
        with self.one(expected) as process:
            return process.measure(seed)

    @contextlib.contextmanager
    def one(self, expected: int = 1) -> Iterator[MeasuringProcess]:
        """Have a process that is ready and has measured nothing; arguments and errors as of ``sample``."""
        if not self._ready:
            self._make_ready(expected)
        process = self._ready.popleft()
        with self._aside():
            for other in self._waiting:
                other.pause()
            yield process
            process.stop()
            for other in self._waiting:
                other.resume()

    def _make_ready(self, expected: int) -> None:
        self.prepare(expected)
        self.begin(self._at_once)
        while self._building:
            process = self._building.popleft()
            process.wait_until_ready(self._environment)
            self._ready.append(process)
