"""What the engine needs from the machine: a clock that times calls, and a watch that reports disturbances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Times calls on one device."""

    def now(self) -> float:
        """Return a monotone host time in seconds, for budgets."""
        ...

    def time_calls(self, call: Callable[[], object], count: int, *, warm_calls: int = 0) -> float:
        """Run ``call`` ``warm_calls`` times and then ``count`` times, and return the seconds the latter took together.

        Work queued on the device before is finished first, and the time includes all work that the timed calls queue.
        Nothing comes between the untimed calls and the timed ones: where a device works on what the host has queued,
        it need not wait for the first of these.
        """
        ...


class MachineWatch(Protocol):
    """Watches the machine while a block runs."""

    def before(self) -> None:
        """Note the machine's state; the block starts when this returns."""
        ...

    def after(self) -> str | None:
        """Return why the block since ``before`` does not count, in a few words, or None where it does."""
        ...


class Unwatched:
    """A watch that never objects, for machines on which nothing can be read."""

    def before(self) -> None:
        """Note nothing."""

    def after(self) -> str | None:
        """Return None: an unseen disturbance is no reason."""
        return None


class InTurns:
    """A watch that waits before each block until it is this process's turn.

    Args:
        turn: returns when it is.
    """

    def __init__(self, turn: Callable[[], None]) -> None:
        self._turn = turn

    def before(self) -> None:
        """Wait."""
        self._turn()

    def after(self) -> str | None:
        """Return None."""
        return None


class WatchChain:
    """Several watches as one; the first that objects gives the reason."""

    def __init__(self, *watches: MachineWatch) -> None:
        self._watches = watches

    def before(self) -> None:
        """Let every watch note its state."""
        for watch in self._watches:
            watch.before()

    def after(self) -> str | None:
        """Ask every watch, so that each sees its own end of the block, and return the first reason."""
        reasons = [watch.after() for watch in self._watches]
        return next((reason for reason in reasons if reason is not None), None)
