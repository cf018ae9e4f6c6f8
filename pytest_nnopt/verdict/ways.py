"""Ways to launch a kernel: the compiler chooses among them by timing, and what chance alone makes of times by that."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_nnopt.model import Outcome, Variant
from pytest_nnopt.statistics.decision import Reason
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.strays import choice_probability
from pytest_nnopt.units import format_count, format_percent, format_seconds
from pytest_nnopt.verdict.choices import CHANCE_ALARM_SHARE
from pytest_nnopt.verdict.estimates import estimate_of

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.sequential import SequentialPlan

_LARGEST_FACTOR = 1.25
"""Ways nearer than this to what their kernel takes on average are compared without asking how often they are taken. It
bounds what a change that makes one of them certain can hide."""

_LARGEST_FACTOR_OF_ONE = 1.1
"""The same for a way that a single process of the baseline knows, and may have measured while it was disturbed."""

_LARGEST_FACTOR_BY_CHANCE = 2.0
"""A way that is further than this from what its kernel takes on average is no choice of a compiler that times them. The
furthest seen took 1.46 times as long as the usual one."""

_ALL_OF_A_CALL = 1.02
"""Kernels that take more than this times the call's own time overlap: their times do not add up to it."""

SAME_GROWTH = 0.001
"""Difference between a growth as measured and that of kernels launched alike that is not worth a word."""

_SHOWN_KERNELS = 3

_WITHIN = (Outcome.PASSED, Outcome.IMPROVED)

Split = tuple[list[ProcessEstimate], list[ProcessEstimate]]
"""Estimates of this run's processes and of the baseline's."""


class Ways:
    """How kernels are launched now and in a baseline, and of which of them chance may have drawn the way.

    Where the baseline knows the way a kernel was launched in, its time is multiplied by what the kernel takes in the
    baseline on average over what it takes launched like this. Of ways that are near each other this is always done. Of
    others, and of ways that the baseline does not know, it can be asked for: they may be what a change did.

    Args:
        now: processes of this run; those without kernels are left out.
        before: processes of the baseline; likewise.
        plan: of the case's timing decisions, whose rate of false alarms it is that counts.
    """

    def __init__(self, now: Sequence[ProcessRecord], before: Sequence[ProcessRecord], plan: SequentialPlan) -> None:
        self._now, self._before = tuple(now), tuple(before)
        self._plan = plan
        names = {name for process in before for name in process.kernels}
        self._kernels = {name: _Kernel(_records(name, now), _records(name, before)) for name in sorted(names)}

    @cached_property
    def by_chance(self) -> frozenset[str]:
        """Kernels that are launched in several ways, of which chance may have drawn as slow ones as there are now."""
        rate = CHANCE_ALARM_SHARE * self._plan.false_alarms
        return frozenset(name for name, kernel in self._kernels.items() if kernel.probability > rate)

    @cached_property
    def as_before(self) -> frozenset[str]:
        """Of these, the ones that a process of this run launched as usual: the code is still what it was."""
        return frozenset(name for name in self.by_chance if self._kernels[name].is_seen_as_usual)

    @property
    def sets_the_pace(self) -> bool:
        """Whether kernels' times are part of a call's in all processes; where a GPU waits for its host they are not."""
        return all(map(_is_paced_by_kernels, (*self._now, *self._before)))

    def device_estimates(self, even: Collection[str] = ()) -> Split:
        """Return the logarithm of each process's kernel seconds per call.

        The spread within a process is far below that between them.

        Args:
            even: kernels whose ways shall make no difference, however far they are from each other.
        """
        now, before = (
            [
                ProcessEstimate(math.log(self._kernel_seconds(process, even)), 0.0, 1)
                for process in processes
                if process.device_seconds
            ]
            for processes in (self._now, self._before)
        )
        return now, before

    def relative_estimates(self, even: Collection[str] = ()) -> Split:
        """Return what each process knows about the candidate's time over the reference's.

        Args:
            even: kernels whose ways shall make no difference.
        """
        now, before = (
            [self._relative(process, even) for process in processes] for processes in (self._now, self._before)
        )
        return now, before

    def decide(self, decide: Callable[[Collection[str]], Decision]) -> tuple[Decision, Collection[str]]:
        """Decide by times as they are, and where they do not pass, heed what chance may have drawn.

        A pass may leave out the ways of kernels that some process of this run launched as usual. A failure needs a
        slowdown without the ways that chance may have drawn, or ways that it would hardly draw as often.

        Args:
            decide: decides, with the ways of some kernels making no difference.

        Returns:
            the decision, and the kernels whose ways make no difference to it.
        """
        as_it_is = decide(())
        if as_it_is.outcome in _WITHIN or not self.by_chance:
            return as_it_is, ()
        if (as_usual := decide(self.as_before)).outcome in _WITHIN:
            return as_usual, self.as_before
        without_chance = decide(self.by_chance)
        if as_it_is.outcome is not Outcome.FAILED:
            is_slower = without_chance.outcome is Outcome.FAILED
            return (without_chance, self.by_chance) if is_slower else (as_it_is, ())
        if without_chance.outcome is Outcome.FAILED:
            return as_it_is, ()
        next_look = self._plan.next_look(len(self._now))
        left_open = replace(as_it_is, outcome=Outcome.INCONCLUSIVE, reason=Reason.CHOSEN_OTHERWISE, next_look=next_look)
        return left_open, ()

    def describe(self) -> tuple[str, ...]:
        """Name the kernels that chance may have launched in a slower way than usual, the costliest first."""
        slowed = {name: self._kernels[name].excess for name in self.by_chance}
        names = sorted((name for name in slowed if slowed[name] > 0), key=lambda name: (-slowed[name], name))
        return tuple(f"kernel {name} {self._kernels[name].describe()}" for name in names[:_SHOWN_KERNELS])

    def _kernel_seconds(self, process: ProcessRecord, even: Collection[str]) -> float:
        return math.fsum(self._seconds(name, record, is_even=name in even) for name, record in process.kernels.items())

    def _seconds(self, name: str, record: KernelRecord, *, is_even: bool) -> float:
        kernel = self._kernels.get(name)
        if kernel is None:
            return record.seconds
        return kernel.even_seconds(record) if is_even else record.seconds * kernel.factors.get(record.launch, 1.0)

    def _relative(self, process: ProcessRecord, even: Collection[str]) -> ProcessEstimate:
        estimate = estimate_of(process)
        excess = math.fsum(
            record.seconds - self._seconds(name, record, is_even=True)
            for name, record in process.kernels.items()
            if name in even
        )
        if not excess:
            return estimate
        share = excess / process.seconds[Variant.CANDIDATE.value]
        return replace(estimate, log_ratio=estimate.log_ratio + math.log1p(-share))


def describe_as_measured(growth: float) -> str:
    """Say what a figure would be without regard to launches."""
    return f"as measured {format_percent(growth, signed=True)}; the figure above compares kernels launched alike"


class _Kernel:
    """One kernel in the processes that launched it; seconds are per call, all its launches together.

    Args:
        now: its record in each process of this run.
        before: its record in each process of the baseline, at least one.
    """

    def __init__(self, now: Sequence[KernelRecord], before: Sequence[KernelRecord]) -> None:
        self._now = [record for record in now if record.launch is not None]
        self._before = [record for record in before if record.launch is not None]
        self._usual = statistics.fmean(record.seconds for record in before)
        self._known = _by_launch(self._before)

    @cached_property
    def factors(self) -> Mapping[str | None, float]:
        """What it takes on average over what it takes launched in some way, of known ways near the average."""
        return {
            launch: self._usual / statistics.fmean(some) for launch, some in self._known.items() if self._is_near(some)
        }

    def even_seconds(self, record: KernelRecord) -> float:
        """Return what it would have taken launched as on average, as far as chance may have drawn its way.

        A way that the baseline does not know, or from a single process alone, has no time there to go by. Where the
        kernel took longer in it, it counts as having grown by as much as in the ways that the baseline knows.
        """
        if record.launch is None:
            return record.seconds
        if record.launch in self._level:
            return record.seconds * self._usual / self._level[record.launch]
        grown = self._usual * self._growth
        return min(record.seconds, grown) if self._may_be_chosen(record.seconds) else record.seconds

    @cached_property
    def _level(self) -> Mapping[str, float]:
        """What it takes in the baseline by way, of those whose time there is one to go by."""
        means = {launch: statistics.fmean(some) for launch, some in self._known.items()}
        return {
            launch: mean
            for launch, mean in means.items()
            if launch in self.factors or (len(self._known[launch]) > 1 and self._may_be_chosen(mean))
        }

    @cached_property
    def _growth(self) -> float:
        """What it takes now over what it takes in the baseline, launched alike; 1 where no process shows that."""
        ratios = [
            record.seconds / self._level[record.launch]
            for record in self._now
            if record.launch is not None and record.launch in self._level
        ]
        return statistics.fmean(ratios) if ratios else 1.0

    @cached_property
    def probability(self) -> float:
        """How probable it is that chance draws ways as slow as often as now; 0 where there is one way alone.

        Ways are ordered by what they take. Of each that is taken now it is asked how often it, or a slower one, would
        be; the least probable counts.
        """
        if len({record.launch for record in (*self._now, *self._before)}) < 2 or not self._now:
            return 0.0
        return self._least_probable[0]

    @property
    def is_seen_as_usual(self) -> bool:
        """Whether a process of this run launched it in a way that the baseline knows, and not as one of the slow."""
        return any(
            record.launch in self.factors or (record.launch in self._known and self._time_of(record) <= self._usual)
            for record in self._now
        )

    @property
    def excess(self) -> float:
        """By how many seconds a call is longer, in the mean of this run's processes, for the ways drawn."""
        return statistics.fmean(record.seconds - self.even_seconds(record) for record in self._now)

    def describe(self) -> str:
        """Say how often it is launched in a slow way, now and before, and what that costs."""
        _, slow, slow_before = self._least_probable
        count, seconds = len(slow), statistics.fmean(record.seconds for record in slow)
        return (
            f"is launched in a slower way in {count} of {format_count(len(self._now), 'process', 'processes')}, and in "
            f"{len(slow_before)} of {len(self._before)} of the baseline: {format_seconds(seconds)} per call, where "
            f"the baseline takes {format_seconds(self._usual)} on average"
        )

    @cached_property
    def _least_probable(self) -> tuple[float, list[KernelRecord], list[KernelRecord]]:
        """The least probability, with the records of this run and of the baseline that it speaks of."""
        found = []
        for threshold in sorted({self._time_of(record) for record in self._now}):
            slow, slow_before = (
                [record for record in records if self._time_of(record) >= threshold]
                for records in (self._now, self._before)
            )
            probability = choice_probability(len(slow), len(self._now), len(slow_before), len(self._before))
            found.append((probability, slow, slow_before))
        return min(found, key=lambda one: one[0])

    def _time_of(self, record: KernelRecord) -> float:
        """Return what the way takes that a record was launched in, by the baseline where that knows it."""
        return self._times[record.launch or ""]

    @cached_property
    def _times(self) -> Mapping[str, float]:
        ways = {**_by_launch(self._now), **self._known}
        return {launch: statistics.fmean(some) for launch, some in ways.items()}

    def _is_near(self, some: Sequence[float]) -> bool:
        mean, largest = statistics.fmean(some), _LARGEST_FACTOR if len(some) > 1 else _LARGEST_FACTOR_OF_ONE
        return mean / largest < self._usual < mean * largest

    def _may_be_chosen(self, seconds: float) -> bool:
        return seconds / _LARGEST_FACTOR_BY_CHANCE < self._usual < seconds * _LARGEST_FACTOR_BY_CHANCE


def _records(name: str, processes: Sequence[ProcessRecord]) -> list[KernelRecord]:
    return [process.kernels[name] for process in processes if name in process.kernels]


def _by_launch(records: Sequence[KernelRecord]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.launch is not None:
            found[record.launch].append(record.seconds)
    return dict(found)


def _is_paced_by_kernels(process: ProcessRecord) -> bool:
    call = process.seconds.get(Variant.CANDIDATE.value)
    return (
        call is not None
        and Variant.CANDIDATE.value not in process.waiting
        and 0 < (process.device_seconds or 0) <= _ALL_OF_A_CALL * call
    )
