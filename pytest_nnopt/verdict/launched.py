"""One kernel in the ways in which processes launched it, and how probable it is that chance drew them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.statistics.strays import choice_probability
from pytest_nnopt.units import format_count, format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord

_LARGEST_FACTOR = 1.25
"""Ways nearer than this to what their kernel takes on average are compared without asking how often they are taken. It
bounds what a change that makes one of them certain can hide."""

_LARGEST_FACTOR_OF_ONE = 1.1
"""The same for a way that a single process of the baseline knows, and may have measured while it was disturbed."""

_LARGEST_FACTOR_BY_CHANCE = 2.0
"""A way that is further than this from what its kernel takes on average is no choice of a compiler that times them. The
furthest seen took 1.46 times as long as the usual one, and 1.8 times of kernels of 1.5 µs."""


_LONGEST_NAME = 120
"""Characters of a kernel's name in a message."""


def kernel_in_words(name: str) -> str:
    """Return a kernel's name for a message: without its parameters, and cut in its middle where templates make it long.

    What tells such kernels apart stands at their end. Results hold names in full.
    """
    name = _without_parameters(name.removeprefix("void "))
    if len(name) <= _LONGEST_NAME:
        return name
    head = _LONGEST_NAME // 2
    return f"{name[:head]}…{name[len(name) - (_LONGEST_NAME - head - 1) :]}"


def _without_parameters(name: str) -> str:
    """Return a C++ function's name without the parentheses at its end; of a copy they say from where to where it is."""
    if not name.endswith(")"):
        return name
    depth = 0
    for index in range(len(name) - 1, 0, -1):
        depth += (name[index] == ")") - (name[index] == "(")
        if not depth:
            return name if name[index - 1] == " " else name[:index]
    return name


def with_kernels(processes: Sequence[ProcessRecord]) -> list[ProcessRecord]:
    """Return the processes in which kernels took time; of others nothing can be compared."""
    return [process for process in processes if process.device_seconds]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to launch a kernel, with the seconds that all launches of a call take in each process that launched it so.

    Attributes:
        usual: what the kernel takes in the baseline on average, in whatever way.
        now: of this run's processes.
        before: of the baseline's.
    """

    usual: float
    now: tuple[float, ...]
    before: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """What it takes, by the baseline where that knows it."""
        return statistics.fmean(self.before or self.now)

    @property
    def growth(self) -> float:
        """How many times as long it takes now; 1 where not both sides know it, or where it is no choice."""
        is_known = self.now and self.before and self.may_be_chosen
        return statistics.fmean(self.now) / self.seconds if is_known else 1.0

    @property
    def is_near(self) -> bool:
        """Whether the baseline knows it, and it takes about what the kernel takes on average."""
        return bool(self.before) and self._is_within(
            _LARGEST_FACTOR if len(self.before) > 1 else _LARGEST_FACTOR_OF_ONE
        )

    @property
    def may_be_chosen(self) -> bool:
        """Whether it takes so little more or less than the average that a compiler may choose it by timing."""
        return self._is_within(_LARGEST_FACTOR_BY_CHANCE)

    @property
    def is_usual(self) -> bool:
        """Whether the baseline knows it, and it is near the average or quicker."""
        return self.is_near or (bool(self.before) and self.may_be_chosen and self.seconds <= self.usual)

    def even(self, seconds: float, growth: float) -> float:
        """Return what a process would have measured, had it launched the kernel as on average.

        Args:
            seconds: what it measured.
            growth: how many times as long the kernel takes on that side, launched alike.
        """
        if not self.may_be_chosen:
            return seconds
        if not self.before:  # nobody knows what it took
            return self.usual * growth
        scaled = seconds * self.usual / self.seconds
        if self.is_near or len(self.before) > 1:
            return scaled
        return max(scaled, min(seconds, self.usual * growth))  # the one process may have been disturbed

    def _is_within(self, factor: float) -> bool:
        return self.seconds / factor < self.usual < self.seconds * factor


@dataclass(frozen=True, slots=True)
class _Draw:
    """That so many processes drew a way or one beyond it, and how probable chance makes that."""

    probability: float
    ways: tuple[Way, ...]


class LaunchedKernel:
    """One kernel of a case.

    Args:
        now: its record in each process of this run; None in one that does not launch it.
        before: its record in each process of the baseline; one has it at least.
    """

    def __init__(self, now: Sequence[KernelRecord | None], before: Sequence[KernelRecord | None]) -> None:
        self._processes, self._recorded = len(now), len(before)
        self._usual = statistics.fmean(record.seconds for record in before if record is not None)
        here, there = _by_launch(now), _by_launch(before)
        self._ways = {
            launch: Way(self._usual, tuple(here.get(launch, ())), tuple(there.get(launch, ())))
            for launch in {**there, **here}
        }

    @classmethod
    def of(cls, name: str, now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]) -> LaunchedKernel:
        """Return the kernel of a name, as far as processes have kernels at all."""
        here, there = ([one.kernels.get(name) for one in processes if one.kernels] for processes in (now, before))
        return cls(here, there)

    @property
    def ways(self) -> list[Way]:
        """Those that are known how, the commonest in the baseline first."""
        return sorted(self._ways.values(), key=lambda way: len(way.before), reverse=True)

    @property
    def growth(self) -> float:
        """How many times as long as in the baseline it takes, in the way that grew most; at least 1."""
        return max((1.0, *(way.growth for way in self._ways.values())))

    @property
    def slow_probability(self) -> float:
        """How probable it is that chance draws ways as slow as often as now; 0 where there is one way alone.

        Ways are ordered by what they take. Of each that is taken now it is asked how often it, or a slower one, would
        be; the least probable counts.
        """
        return min((draw.probability for draw in self._draws(quicker=False)), default=0.0)

    @property
    def quick_probability(self) -> float:
        """The same of ways as quick as now."""
        return min((draw.probability for draw in self._draws(quicker=True)), default=0.0)

    @property
    def is_seen_as_usual(self) -> bool:
        """Whether a process of this run launched it in a usual way."""
        return any(way.is_usual for way in self._ways.values() if way.now)

    @property
    def excess(self) -> float:
        """By how many seconds a call is longer for the ways drawn, in the mean of the processes that launch it."""
        growth = self.growth
        return statistics.fmean(
            seconds - way.even(seconds, growth) for way in self._ways.values() for seconds in way.now
        )

    def seconds_alike(self, record: KernelRecord) -> float:
        """Return what a process measured, or where its way is near the average, would have launched as on average."""
        way = self._ways.get(record.launch or "")
        return record.seconds * way.usual / way.seconds if way is not None and way.is_near else record.seconds

    def even_seconds(self, record: KernelRecord, *, growth: float) -> float:
        """Return what a process would have measured launched as on average, as far as chance may have drawn its way.

        Args:
            record: what it measured.
            growth: how many times as long the kernel takes on that side, launched alike; 1 of the baseline's processes.
        """
        way = self._ways.get(record.launch or "")
        return record.seconds if way is None else way.even(record.seconds, growth)

    def describe(self) -> str:
        """Say how often it is launched in a slow way, now and before, and what that costs."""
        ways = min(self._draws(quicker=False), key=lambda draw: draw.probability).ways
        times = [seconds for way in ways for seconds in way.now]
        return (
            f"is launched in a slower way in {len(times)} of {format_count(self._processes, 'process', 'processes')}, "
            f"and in {sum(len(way.before) for way in ways)} of {self._recorded} of the baseline: "
            f"{format_seconds(statistics.fmean(times))} per call, where the baseline takes "
            f"{format_seconds(self._usual)} on average"
        )

    def _draws(self, *, quicker: bool) -> list[_Draw]:
        """Return for each way taken now how often it, or a slower one, was drawn; or a quicker one."""
        if len(self._ways) < 2:
            return []
        found = []
        for seconds in {way.seconds for way in self._ways.values() if way.now}:
            ways = tuple(
                way for way in self._ways.values() if way.seconds == seconds or (way.seconds < seconds) is quicker
            )
            drawn, drawn_before = sum(len(way.now) for way in ways), sum(len(way.before) for way in ways)
            probability = choice_probability(drawn, self._processes, drawn_before, self._recorded)
            found.append(_Draw(probability, ways))
        return found


def _by_launch(records: Sequence[KernelRecord | None]) -> Mapping[str, Sequence[float]]:
    """Return the seconds of a kernel's records by how it was launched, of those of which that is known."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record is not None and record.launch is not None:
            found[record.launch].append(record.seconds)
    return found
