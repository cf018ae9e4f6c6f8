"""The core that a host leads its GPU from: the quickest that is free, for as long as it stays so.

What another guest runs on the same core, such as on its second thread, slows the host, and slows many launches
otherwise than few. The operating system sees its own load alone, and leaves a thread where it is.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from random import Random

from pytest_nnopt.affinity import usable_cores

SLOWED = 1.3
"""A loop that takes longer than this times the shortest seen runs on a core that something else uses as well, such as
its second thread. What clocks that follow the load make of it, and its own noise, mostly stay below."""

WAITED = 0.05
"""Share of a block for which the thread could have run and did not: another one had the core."""

ENOUGH_CORES = 16
"""Cores that are tried in a search, drawn anew each time, unless all of them are slowed."""

MOST_SEARCHES = 10
"""Searches without an undisturbed block between them, after which the disturbance is the state of the host. Bursts of
other guests come and go in milliseconds and meet several cores in turn while others are free."""

_LOOP_ROUNDS = 1500
_LOOPS = 2
_WAKING_LOOPS = 5
"""Loops on a core before it is judged: one that was idle takes a moment to get up to speed."""

_THIS_THREAD = 0
_TASKS = Path("/proc/self/task")


def time_loop() -> float:
    """Return the seconds of a fixed loop of the interpreter, of about 80 µs: the shorter of two.

    Baselines hold its time: one that costs another time needs another name there.
    """
    return min(_time_loop_once() for _ in range(_LOOPS))


def _time_loop_once() -> float:
    counts = dict.fromkeys(range(64), 0)
    start = time.perf_counter_ns()
    for number, _ in enumerate(repeat(None, _LOOP_ROUNDS)):
        counts[number & 63] += 1
    return (time.perf_counter_ns() - start) * 1e-9


def waited_seconds(schedstat: Path = Path("/proc/thread-self/schedstat")) -> float:
    """Return for how long in all this thread could have run while others had its core; 0 where nobody tells."""
    try:
        return int(schedstat.read_text(encoding="ascii").split()[1]) * 1e-9
    except (OSError, ValueError, IndexError):
        return 0.0


class CoreWatch:
    """A machine watch that leaves a core which something else slows, and objects to the block that met it there.

    It starts on the quickest core. Where no other core is better that is the state of the host, and it objects no more.

    Args:
        cores: numbers of those to choose from.
        move: goes on on another core.
        time_loop: returns the seconds of a fixed loop on the present one.
        waited: returns for how many seconds in all others had this thread's core.
        random: draws the order in which cores are tried.
    """

    def __init__(
        self,
        cores: Sequence[int],
        move: Callable[[int], None],
        *,
        time_loop: Callable[[], float] = time_loop,
        waited: Callable[[], float] = waited_seconds,
        random: Random | None = None,
    ) -> None:
        self._cores = tuple(cores)
        self._move = move
        self._time_loop = time_loop
        self._read_waited = waited
        self._random = random or Random()
        self._shortest = math.inf
        self._undisturbed: list[float] = []
        self._disturbed: list[float] = []
        self._is_disturbed = False
        self._searches_in_vain = 0
        self._core = self._find_core()
        self._began, self._waited = time.perf_counter(), waited()

    @property
    def loop_seconds(self) -> float | None:
        """Median seconds of the loop after the undisturbed blocks, or where there are none after all of them.

        None before the first.
        """
        seconds = self._undisturbed or self._disturbed
        return statistics.median(seconds) if seconds else None

    def before(self) -> None:
        """Go to a better core where this one is slowed, or was at the end of the last block."""
        if not self._is_hopeless and (self._is_disturbed or self._is_slowed(self._time())):
            self._core = self._find_core(leaving=self._core)
            self._searches_in_vain += 1
        self._began, self._waited = time.perf_counter(), self._read_waited()

    def after(self) -> str | None:
        """Object where others had the core during the block, or it is slowed by now."""
        has_waited = self._read_waited() - self._waited > WAITED * (time.perf_counter() - self._began)
        seconds = self._time()
        if self._is_hopeless:
            self._undisturbed.append(seconds)
            return None
        self._is_disturbed = has_waited or self._is_slowed(seconds)
        if not self._is_disturbed:
            self._undisturbed.append(seconds)
            self._searches_in_vain = 0
            return None
        self._disturbed.append(seconds)
        return "on a core that something else slowed"

    @property
    def _is_hopeless(self) -> bool:
        return self._searches_in_vain >= MOST_SEARCHES

    def _find_core(self, leaving: int | None = None) -> int:
        """Go to the quickest core of those tried, and return it: the one left only where no other is free.

        As many are tried as it takes to find a free one, and at least ``ENOUGH_CORES``.
        """
        others = [core for core in self._cores if core != leaving]
        seconds: dict[int, float] = {}
        for core in (*self._random.sample(others, len(others)), *([] if leaving is None else [leaving])):
            is_found = bool(seconds) and not self._is_slowed(min(seconds.values()))
            if is_found and (len(seconds) >= ENOUGH_CORES or core == leaving):
                break
            seconds[core] = self._time_on(core)
        quickest = min(seconds, key=seconds.__getitem__)
        self._move(quickest)
        if self._is_slowed(seconds[quickest]):
            self._shortest = seconds[quickest]
        return quickest

    def _time_on(self, core: int) -> float:
        self._move(core)
        for _ in range(_WAKING_LOOPS):
            self._time_loop()
        return self._time()

    def _time(self) -> float:
        seconds = self._time_loop()
        self._shortest = min(self._shortest, seconds)
        return seconds

    def _is_slowed(self, seconds: float) -> bool:
        return seconds > SLOWED * self._shortest


@contextlib.contextmanager
def watched_core(followers: str) -> Iterator[CoreWatch | None]:
    """Watch the core that this thread launches from, and let other threads follow it.

    Afterwards all threads may run where they could before, and those that began meanwhile where this one could.

    Args:
        followers: how the names of threads begin that follow.

    Yields:
        The watch; None where there is no core to choose.
    """
    cores = usable_cores()
    if len(cores) < 2 or not hasattr(os, "sched_setaffinity"):
        yield None
        return
    own = _allowed(_THIS_THREAD)
    if not _allow(_THIS_THREAD, cores):
        yield None
        return
    before = {thread: allowed for thread in threads_named() if (allowed := _allowed(thread))}
    threads = [_THIS_THREAD, *threads_named(followers)]

    def move(core: int) -> None:
        for thread in threads:
            _allow(thread, {core})

    try:
        yield CoreWatch(sorted(cores), move)
    finally:
        for thread in threads_named():
            _allow(thread, before.get(thread, cores))
        _allow(_THIS_THREAD, own)


def threads_named(start: str = "", *, tasks: Path = _TASKS) -> list[int]:
    """Return the numbers of this process's threads whose name begins so.

    Args:
        start: of the name; all begin with nothing.
        tasks: where the kernel keeps a folder for each thread.
    """
    found = []
    for file in tasks.glob("*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            if file.read_bytes().startswith(start.encode()):
                found.append(int(file.parent.name))
    return sorted(found)


def _allowed(thread: int) -> frozenset[int]:
    with contextlib.suppress(OSError):  # it has ended
        return frozenset(os.sched_getaffinity(thread))
    return frozenset()


def _allow(thread: int, cores: Collection[int]) -> bool:
    """Let a thread run on these cores, and return whether that was done: it may have ended, or a core gone away."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(thread, cores)
        return True
    return False
