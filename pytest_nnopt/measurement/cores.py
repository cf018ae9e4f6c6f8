"""The core that a host leads its GPU from: the quickest that is free, for as long as it stays so.

What another guest runs on a core's second thread slows the host by up to two thirds, and does not slow many launches as
it slows the few of compiled code. The operating system sees its own load alone, and leaves a thread where it is.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from random import Random

SLOWED = 1.3
"""A loop that takes longer than this times the shortest seen runs on a core that something else uses as well, such as
its second thread. What clocks that follow the load make of it, and its own noise, mostly stay below."""

MOST_CORES = 16
"""Cores that are tried in a search, drawn anew each time."""

_LOOP_ROUNDS = 1500
_LOOPS = 2

_THIS_THREAD = 0
_BACKWARD_THREADS = "pt_autograd"
"""How the names of torch's threads begin that launch the backward pass."""


def time_loop() -> float:
    """Return the seconds of a fixed loop of the interpreter, of about 80 µs: the shorter of two."""
    return min(_time_loop_once() for _ in range(_LOOPS))


def _time_loop_once() -> float:
    counts = dict.fromkeys(range(64), 0)
    start = time.perf_counter_ns()
    for number, _ in enumerate(repeat(None, _LOOP_ROUNDS)):
        counts[number & 63] += 1
    return (time.perf_counter_ns() - start) * 1e-9


class CoreWatch:
    """A machine watch that leaves a core which something else slows, and objects to the block that met it there.

    It starts on the quickest core.

    Args:
        cores: numbers of those to choose from.
        move: goes on on another core.
        time_loop: returns the seconds of a fixed loop on the present one.
        random: draws the cores that are tried where there are many.
    """

    def __init__(
        self,
        cores: Sequence[int],
        move: Callable[[int], None],
        *,
        time_loop: Callable[[], float] = time_loop,
        random: Random | None = None,
    ) -> None:
        self._cores = tuple(cores)
        self._move = move
        self._time_loop = time_loop
        self._random = random or Random()
        self._shortest = math.inf
        self._seconds: list[float] = []
        self._find_core()

    @property
    def loop_seconds(self) -> float | None:
        """Median seconds of the loop after the blocks so far; None before the first."""
        return statistics.median(self._seconds) if self._seconds else None

    def before(self) -> None:
        """Go to the quickest core where this one is slowed."""
        if self._is_slowed(self._time()):
            self._find_core()

    def after(self) -> str | None:
        """Object where the core is slowed by now."""
        seconds = self._time()
        self._seconds.append(seconds)
        return "on a core that something else slowed" if self._is_slowed(seconds) else None

    def _find_core(self) -> None:
        tried = self._random.sample(self._cores, min(MOST_CORES, len(self._cores)))
        seconds = {core: self._time_on(core) for core in tried}
        self._move(min(seconds, key=seconds.__getitem__))

    def _time_on(self, core: int) -> float:
        self._move(core)
        return self._time()

    def _time(self) -> float:
        seconds = self._time_loop()
        self._shortest = min(self._shortest, seconds)
        return seconds

    def _is_slowed(self, seconds: float) -> bool:
        return seconds > SLOWED * self._shortest


@contextlib.contextmanager
def watched_core() -> Iterator[CoreWatch | None]:
    """Watch the core that this thread launches from, and let torch's for the backward pass follow it.

    What the threads may run on is restored.

    Yields:
        The watch; None where there is no core to choose.
    """
    cores = sorted(usable_cores())
    if len(cores) < 2 or not hasattr(os, "sched_setaffinity"):
        yield None
        return
    with _affinity_restored(launching_threads()) as threads:

        def move(core: int) -> None:
            for thread in threads:
                _allow(thread, {core})

        yield CoreWatch(cores, move)


def usable_cores() -> frozenset[int]:
    """Return the numbers of the cores that this thread may run on; on a system that does not tell, of all."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(_THIS_THREAD))
    return frozenset(range(os.cpu_count() or 1))


@contextlib.contextmanager
def _affinity_restored(threads: Sequence[int]) -> Iterator[Sequence[int]]:
    before = {thread: os.sched_getaffinity(thread) for thread in threads}
    try:
        yield threads
    finally:
        for thread, cores in before.items():
            _allow(thread, cores)


def _allow(thread: int, cores: set[int]) -> None:
    with contextlib.suppress(OSError):  # the thread may have ended, or the system took the core away
        os.sched_setaffinity(thread, cores)


def launching_threads(tasks: Path = Path("/proc/self/task")) -> list[int]:
    """Return the numbers of the threads that launch: this one, as 0, and torch's for the backward pass.

    Args:
        tasks: where the kernel keeps a folder for each thread.
    """
    names = {int(file.parent.name): file.read_text(encoding="utf-8") for file in tasks.glob("*/comm")}
    return [_THIS_THREAD, *(thread for thread, name in names.items() if name.startswith(_BACKWARD_THREADS))]
