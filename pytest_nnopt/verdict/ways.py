"""Ways to launch a kernel: the compiler chooses among them by timing, and what chance alone makes of times by that."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_nnopt.model import Outcome, Variant
from pytest_nnopt.statistics.decision import DEFAULT_PLAN, Reason
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.strays import choice_probability
from pytest_nnopt.units import format_count, format_percent, format_seconds
from pytest_nnopt.verdict.choices import CHANCE_ALARM_SHARE
from pytest_nnopt.verdict.estimates import estimate_of, estimate_of_ratio

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord, RatioRecord
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.sequential import SequentialPlan

_LARGEST_FACTOR = 1.25
"""Ways nearer than this to what their kernel takes on average are compared without asking how often they are taken. It
bounds what a change that makes one of them certain can hide."""

_LARGEST_FACTOR_OF_ONE = 1.1
"""The same for a way that a single process of the baseline knows, and may have measured while it was disturbed."""

_LARGEST_FACTOR_BY_CHANCE = 2.0
"""A way that is further than this from what its kernel takes on average is no choice of a compiler that times them. The
furthest seen took 1.46 times as long as the usual one, and 1.8 times of kernels of 1.5 µs."""

_LIKELY = 0.1
"""A pass that leaves ways out needs chance to draw as slow ones as often as now at least this often. What makes a slow
way frequent and not certain would else pass as soon as one process launches as usual."""

_ALL_OF_A_CALL = 1.02
"""Kernels that take more than this times the call's own time overlap: their times do not add up to it."""

SAME_GROWTH = 0.001
"""Difference between a growth as measured and that of kernels launched alike that is not worth a word."""

_LEAST_RECORDED = 3
"""Recorded processes of which fewer say too little about ways that none of them drew."""

_TELLING_PROCESSES = 10
"""Recorded processes of which fewer are said to know few ways."""

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
        now: processes of this run.
        before: processes of the baseline.
        plan: of the case's timing decisions, whose rate of false alarms it is that counts.
        is_strict: whether chance is no excuse: no slowdown passes or stays open for ways that it may have drawn.
    """

    def __init__(
        self,
        now: Sequence[ProcessRecord],
        before: Sequence[ProcessRecord],
        plan: SequentialPlan,
        *,
        is_strict: bool = False,
    ) -> None:
        self._now, self._before = tuple(now), tuple(before)
        self._plan, self._is_strict = plan, is_strict
        names = {name for process in before for name in process.kernels}
        self._kernels = {name: _Kernel(_records(name, now), _records(name, before)) for name in sorted(names)}

    @cached_property
    def by_chance(self) -> frozenset[str]:
        """Kernels that are launched in several ways, and of which chance may have drawn those of this run.

        That all processes of the plan drew what none of three or more recorded ones did is no chance, however many
        cases there are: small baselines would else leave it open for ever.
        """
        rate, most = CHANCE_ALARM_SHARE * self._plan.false_alarms, self._plan.max_processes
        recorded = sum(1 for process in self._before if process.kernels)
        if recorded >= _LEAST_RECORDED:
            rate = max(rate, choice_probability(most, most, 0, recorded))
        return frozenset(
            name
            for name, kernel in self._kernels.items()
            if min(kernel.slow_probability, kernel.quick_probability) > rate
        )

    @cached_property
    def as_before(self) -> frozenset[str]:
        """Of these, the ones of which chance draws such ways easily, and one process at least drew a usual way.

        So their code is still what it was.
        """
        return frozenset(
            name
            for name in self.by_chance
            if self._kernels[name].slow_probability >= _LIKELY and self._kernels[name].is_seen_as_usual
        )

    @cached_property
    def _has_same_kernels(self) -> bool:
        """Whether all processes launch the same kernels, in one way or another."""
        return len({frozenset(process.kernels) for process in (*self._now, *self._before) if process.kernels}) < 2

    def device_estimates(self, even: Collection[str] = ()) -> Split:
        """Return the logarithm of each process's kernel seconds per call; processes without kernels are left out.

        The spread within a process is far below that between them.

        Args:
            even: kernels whose ways shall make no difference, however far they are from each other.
        """
        now, before = (
            [
                ProcessEstimate(math.log(math.fsum(self._seconds(process.kernels, even, is_now=is_now))), 0.0, 1)
                for process in processes
                if process.device_seconds
            ]
            for processes, is_now in self._sides
        )
        return now, before

    def relative_estimates(self, even: Collection[str] = ()) -> Split:
        """Return what each process knows about the candidate's time over the reference's.

        Args:
            even: kernels whose ways shall make no difference, where their times are part of a call's.
        """
        now, before = (
            [_shifted(estimate_of(process), self._excess(process, even, is_now=is_now)) for process in processes]
            for processes, is_now in self._sides
        )
        return now, before

    def ratio_estimates(self, ratios: Sequence[RatioRecord], even: Collection[str] = ()) -> list[ProcessEstimate]:
        """Return what each process of this run knows about its time over that of the baseline's process beside it.

        Args:
            ratios: of the candidates' times, one for each process.
            even: as of ``relative_estimates``.
        """
        return [
            _shifted(
                estimate_of_ratio(ratio),
                self._excess(here, even, is_now=True) - self._excess(there, even, is_now=False),
            )
            for ratio, here, there in zip(ratios, self._now, self._before, strict=True)
        ]

    def decide(self, decide: Callable[[Collection[str]], Decision]) -> tuple[Decision, Collection[str]]:
        """Decide by times as they are, and heed what chance may have drawn.

        A pass stays open where it rests on quick ways that chance may have drawn. A failure needs a slowdown without
        the ways that chance may have drawn, or ways that it would hardly draw as often. What is open otherwise passes
        without the ways of kernels that are launched as before, and fails without those that chance may have drawn.

        Args:
            decide: decides, with the ways of some kernels making no difference.

        Returns:
            the decision, and the kernels whose ways make no difference to it.
        """
        as_it_is = decide(())
        if not self.by_chance:
            return as_it_is, ()
        without_chance = decide(self.by_chance)
        if as_it_is.outcome in _WITHIN:
            is_within = without_chance.outcome in _WITHIN
            return as_it_is if is_within else self._left_open(as_it_is, Reason.COULD_BE_LUCK), ()
        if without_chance.outcome is Outcome.FAILED:
            is_shown = as_it_is.outcome is not Outcome.FAILED and self._has_same_kernels
            return (without_chance, self.by_chance) if is_shown else (as_it_is, ())
        if self._is_strict:
            return as_it_is, ()
        if self.as_before and (as_usual := decide(self.as_before)).outcome in _WITHIN:
            return replace(as_usual, outcome=Outcome.PASSED, reason=Reason.WITHIN_LIMIT), self.as_before
        is_failed = as_it_is.outcome is Outcome.FAILED
        return self._left_open(as_it_is, Reason.CHOSEN_OTHERWISE) if is_failed else as_it_is, ()

    def _left_open(self, decision: Decision, reason: Reason) -> Decision:
        next_look = self._plan.next_look(len(self._now))
        return replace(decision, outcome=Outcome.INCONCLUSIVE, reason=reason, next_look=next_look)

    def describe(self) -> tuple[str, ...]:
        """Name the kernels that chance may have launched in a slower way than usual, the costliest first."""
        slowed = {name: self._kernels[name].excess for name in self.by_chance}
        names = sorted((name for name in slowed if slowed[name] > 0), key=lambda name: (-slowed[name], name))
        shown = tuple(f"kernel {name} {self._kernels[name].describe()}" for name in names[:_SHOWN_KERNELS])
        recorded = sum(1 for process in self._before if process.kernels)
        if recorded >= _TELLING_PROCESSES or any(process.base is not None for process in self._now):
            return shown
        return (
            *shown,
            f"the baseline's {format_count(recorded, 'process', 'processes')} may not know all ways: record ten",
        )

    @property
    def _sides(self) -> tuple[tuple[Sequence[ProcessRecord], bool], ...]:
        """Each side's processes, and whether they are this run's."""
        return (self._now, True), (self._before, False)

    def _seconds(self, kernels: Mapping[str, KernelRecord], even: Collection[str], *, is_now: bool) -> Iterator[float]:
        """Yield the seconds that each of a process's kernels counts with."""
        for name, record in kernels.items():
            kernel = self._kernels.get(name)
            if kernel is None:
                yield record.seconds
            elif name in even:
                yield kernel.even_seconds(record, growth=kernel.growth if is_now else 1.0)
            else:
                yield record.seconds * kernel.factors.get(record.launch, 1.0)

    def _excess(self, process: ProcessRecord, even: Collection[str], *, is_now: bool) -> float:
        """Return by how much the logarithm of a call's time is larger for the ways that were drawn."""
        if not even or not _is_paced_by_kernels(process):
            return 0.0
        chosen = {name: record for name, record in process.kernels.items() if name in even}
        counted = math.fsum(self._seconds(chosen, even, is_now=is_now))
        excess = math.fsum(record.seconds for record in chosen.values()) - counted
        return -math.log1p(-excess / process.seconds[Variant.CANDIDATE.value])


def _shifted(estimate: ProcessEstimate, excess: float) -> ProcessEstimate:
    return replace(estimate, log_ratio=estimate.log_ratio - excess)


def even_estimates(processes: Sequence[ProcessRecord]) -> list[ProcessEstimate]:
    """Return what recorded processes know about the candidate's time over the reference's, whatever ways were drawn."""
    names = {name for process in processes for name in process.kernels}
    _, estimates = Ways((), processes, DEFAULT_PLAN).relative_estimates(names)
    return estimates


def describe_as_measured(growth: float) -> str:
    """Say what a figure would be without regard to launches."""
    return f"as measured {format_percent(growth, signed=True)}; the figure above compares kernels launched alike"


_Records = Sequence["KernelRecord | None"]
"""Of one kernel, its record in each process with kernels; None in one that does not launch it."""


class _Kernel:
    """One kernel of a case; seconds are per call, all its launches together.

    Args:
        now: its record in each process of this run.
        before: its record in each process of the baseline; one has it at least.
    """

    def __init__(self, now: _Records, before: _Records) -> None:
        self._now, self._before = now, before
        self._usual = statistics.fmean(record.seconds for record in before if record is not None)
        self._known = _by_launch(before)
        self._level = {launch: statistics.fmean(some) for launch, some in self._known.items()}

    @cached_property
    def factors(self) -> Mapping[str | None, float]:
        """What it takes on average over what it takes launched in some way, of known ways near the average."""
        return {launch: self._usual / level for launch, level in self._level.items() if self._is_near(launch)}

    def even_seconds(self, record: KernelRecord, *, growth: float) -> float:
        """Return what it would have taken launched as on average, as far as chance may have drawn its way.

        Args:
            record: of one process.
            growth: how many times as long it takes on that side, launched alike; 1 of the baseline's processes.
        """
        if record.launch is None or not self._may_be_chosen(self._level.get(record.launch, record.seconds)):
            return record.seconds
        if record.launch not in self._level:  # nobody knows what it took in this way before
            return self._usual * growth
        even = record.seconds * self._usual / self._level[record.launch]
        if record.launch in self.factors or len(self._known[record.launch]) > 1:
            return even
        return max(even, min(record.seconds, self._usual * growth))  # the one process may have been disturbed

    @cached_property
    def growth(self) -> float:
        """How many times as long as in the baseline it takes, launched alike, in the way that grew most; at least 1."""
        ratios = (
            statistics.fmean(some) / self._level[launch]
            for launch, some in _by_launch(self._now).items()
            if launch in self._level and self._may_be_chosen(self._level[launch])
        )
        return max((1.0, *ratios))

    @cached_property
    def slow_probability(self) -> float:
        """How probable it is that chance draws ways as slow as often as now; 0 where there is one way alone.

        Ways are ordered by what they take. Of each that is taken now it is asked how often it, or a slower one, would
        be; the least probable counts.
        """
        return min((probability for probability, _, _ in self._slow_draws), default=0.0)

    @cached_property
    def quick_probability(self) -> float:
        """The same of ways as quick as now."""
        return min((probability for probability, _, _ in self._draws(quicker=True)), default=0.0)

    @property
    def is_seen_as_usual(self) -> bool:
        """Whether a process of this run launched it in a way that the baseline knows, near the average or quicker."""
        return any(
            record.launch in self.factors or self._level[record.launch] <= self._usual
            for record in _present(self._now)
            if record.launch in self._level and self._may_be_chosen(self._level[record.launch])
        )

    @property
    def excess(self) -> float:
        """By how many seconds a call is longer, in the mean of the processes that launch it, for the ways drawn."""
        return statistics.fmean(
            record.seconds - self.even_seconds(record, growth=self.growth) for record in _present(self._now)
        )

    def describe(self) -> str:
        """Say how often it is launched in a slow way, now and before, and what that costs."""
        _, slow, slow_before = min(self._slow_draws, key=lambda draw: draw[0])
        seconds = statistics.fmean(record.seconds for record in slow)
        processes = format_count(len(self._now), "process", "processes")
        return (
            f"is launched in a slower way in {len(slow)} of {processes}, and in {len(slow_before)} of "
            f"{len(self._before)} of the baseline: {format_seconds(seconds)} per call, where "
            f"the baseline takes {format_seconds(self._usual)} on average"
        )

    @cached_property
    def _slow_draws(self) -> list[tuple[float, list[KernelRecord], list[KernelRecord]]]:
        return self._draws(quicker=False)

    def _draws(self, *, quicker: bool) -> list[tuple[float, list[KernelRecord], list[KernelRecord]]]:
        """Return way by way how probable it is to draw it, or a slower one, as often as now; or a quicker one.

        With the records of this run and of the baseline that drew such ways. Nothing where there is one way alone.
        """
        if len(self._times) < 2:
            return []
        found = []
        for threshold in {self._times[launch] for launch in _by_launch(self._now)}:
            drawn, drawn_before = (
                [
                    record
                    for record in _present(records)
                    if self._times[record.launch] == threshold or (self._times[record.launch] < threshold) is quicker
                ]
                for records in (self._now, self._before)
            )
            probability = choice_probability(len(drawn), len(self._now), len(drawn_before), len(self._before))
            found.append((probability, drawn, drawn_before))
        return found

    @cached_property
    def _times(self) -> Mapping[str | None, float]:
        """What each way takes, by the baseline where that knows it."""
        times: dict[str | None, float] = {
            launch: statistics.fmean(some) for launch, some in _by_launch(self._now).items()
        }
        times.update(self._level)
        return times

    def _is_near(self, launch: str) -> bool:
        largest = _LARGEST_FACTOR if len(self._known[launch]) > 1 else _LARGEST_FACTOR_OF_ONE
        return self._level[launch] / largest < self._usual < self._level[launch] * largest

    def _may_be_chosen(self, seconds: float) -> bool:
        return seconds / _LARGEST_FACTOR_BY_CHANCE < self._usual < seconds * _LARGEST_FACTOR_BY_CHANCE


def _records(name: str, processes: Sequence[ProcessRecord]) -> _Records:
    return [process.kernels.get(name) for process in processes if process.kernels]


def _present(records: _Records) -> list[KernelRecord]:
    """Return the records of which it is known how the kernel was launched."""
    return [record for record in records if record is not None and record.launch is not None]


def _by_launch(records: _Records) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for record in _present(records):
        assert record.launch is not None
        found[record.launch].append(record.seconds)
    return dict(found)


def _is_paced_by_kernels(process: ProcessRecord) -> bool:
    """Whether kernels' times are part of a call's: not where a GPU waits for its host, nor where they overlap."""
    call = process.seconds.get(Variant.CANDIDATE.value)
    return (
        call is not None
        and Variant.CANDIDATE.value not in process.waiting
        and 0 < (process.device_seconds or 0) <= _ALL_OF_A_CALL * call
    )
