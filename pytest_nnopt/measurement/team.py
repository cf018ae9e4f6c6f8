"""Timing of a model that runs on several processes at once: a clock and a watch that see all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from pytest_nnopt.measurement.clock import Clock, MachineWatch

_ValueT = TypeVar("_ValueT")


class Together(Protocol):
    """Processes that do the same at the same time; each method is called by all of them."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def gather(self, value: _ValueT) -> list[_ValueT]:
        """Return every process's value."""
        ...

    def largest(self, value: float) -> float:
        """Return the largest of all values."""
        ...

    def meet(self) -> None:
        """Wait for all of them."""
        ...


class TeamClock:
    """Times the same calls on all ranks at once: what they take is what the slowest takes.

    All ranks get the same answers, so that an engine which decides by them does the same on each.

    Args:
        clock: times calls on this rank.
        team: the ranks.
    """

    def __init__(self, clock: Clock, team: Together) -> None:
        self._clock = clock
        self._team = team

    def now(self) -> float:
        """Return the latest of the ranks' times."""
        return self._team.largest(self._clock.now())

    def time_calls(self, call: Callable[[], object], count: int, *, warm_calls: int = 0) -> float:
        """Start on all ranks together, with the untimed calls, and return the seconds of the slowest."""
        self._team.meet()
        return self._team.largest(self._clock.time_calls(call, count, warm_calls=warm_calls))


class TeamWatch:
    """Drops a block that was disturbed on any rank.

    Args:
        watch: watches this rank's machine.
        team: the ranks.
    """

    def __init__(self, watch: MachineWatch, team: Together) -> None:
        self._watch = watch
        self._team = team

    def before(self) -> None:
        """Note this rank's state."""
        self._watch.before()

    def after(self) -> str | None:
        """Return the reason of the first rank that has one."""
        return next((reason for reason in self._team.gather(self._watch.after()) if reason is not None), None)
