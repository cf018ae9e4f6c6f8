"""Decisions that heed how kernels were launched: the compiler chooses by timing, and chance moves times by that."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_nnopt.model import Outcome, Variant
from pytest_nnopt.statistics.decision import DEFAULT_PLAN, Reason
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.verdict.choices import least_chance
from pytest_nnopt.verdict.estimates import estimate_of, estimate_of_ratio
from pytest_nnopt.verdict.launched import LaunchedKernel, kernel_in_words, with_kernels

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord, RatioRecord
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.sequential import SequentialPlan

_LIKELY = 0.1
"""A pass that leaves ways out needs chance to draw as slow ones as often as now at least this often. What makes a slow
way frequent and not certain would else pass as soon as one process launches as usual."""

_ALL_OF_A_CALL = 1.02
"""Kernels that take more than this times the call's own time overlap: their times do not add up to it."""

_SAME_CHANGE = 0.001
"""Difference between a change as measured and that of kernels launched alike that is not worth a word."""

_SHOWN_KERNELS = 3

_WITHIN = (Outcome.PASSED, Outcome.IMPROVED)

Split = tuple[list[ProcessEstimate], list[ProcessEstimate]]
"""Estimates of this run's processes and of the baseline's."""

Even = Collection[str] | None
"""Names of kernels whose ways shall make no difference; None leaves all times as measured."""


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
        self._kernels = {name: LaunchedKernel.of(name, now, before) for name in sorted(names)}

    @cached_property
    def by_chance(self) -> frozenset[str]:
        """Kernels that are launched in several ways, and of which chance may have drawn those of this run."""
        least = least_chance(len(with_kernels(self._before)), self._plan)
        return frozenset(
            name
            for name, kernel in self._kernels.items()
            if min(kernel.slow_probability, kernel.quick_probability) > least
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

    def device_estimates(self, even: Even = ()) -> Split:
        """Return the logarithm of each process's kernel seconds per call; processes without kernels are left out.

        The spread within a process is far below that between them.

        Args:
            even: kernels whose ways shall make no difference, however far they are from each other; None leaves all
                times as measured.
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

    def relative_estimates(self, even: Even = ()) -> Split:
        """Return what each process knows about the candidate's time over the reference's.

        Args:
            even: kernels whose ways shall make no difference, where their times are part of a call's.
        """
        now, before = (
            [_shifted(estimate_of(process), self._excess(process, even, is_now=is_now)) for process in processes]
            for processes, is_now in self._sides
        )
        return now, before

    def ratio_estimates(self, ratios: Sequence[RatioRecord], even: Even = ()) -> list[ProcessEstimate]:
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

    def decide(self, decide: Callable[[Even], Decision]) -> Decision:
        """Decide by times as they are, and heed what chance may have drawn.

        A pass stays open where it rests on quick ways that chance may have drawn. A failure needs a slowdown without
        the ways that chance may have drawn, or ways that it would hardly draw as often. What is open otherwise passes
        without the ways of kernels that are launched as before, and fails without those that chance may have drawn.

        Args:
            decide: decides, given the kernels whose ways make no difference, or None for times as measured.
        """
        decision, measured = self._decide(decide), decide(None).change
        is_same = abs(measured - decision.change) < _SAME_CHANGE
        return decision if is_same else replace(decision, measured_change=measured)

    def _decide(self, decide: Callable[[Even], Decision]) -> Decision:
        as_it_is = decide(())
        if not self.by_chance:
            return as_it_is
        without_chance = decide(self.by_chance)
        if as_it_is.outcome in _WITHIN:
            is_within = without_chance.outcome in _WITHIN
            return as_it_is if is_within else self._left_open(as_it_is, Reason.COULD_BE_LUCK)
        if without_chance.outcome is Outcome.FAILED:
            is_shown = as_it_is.outcome is not Outcome.FAILED and self._has_same_kernels
            return without_chance if is_shown else as_it_is
        if self._is_strict:
            return as_it_is
        if self.as_before and (as_usual := decide(self.as_before)).outcome in _WITHIN:
            return replace(as_usual, outcome=Outcome.PASSED, reason=Reason.WITHIN_LIMIT)
        is_failed = as_it_is.outcome is Outcome.FAILED
        return self._left_open(as_it_is, Reason.CHOSEN_OTHERWISE) if is_failed else as_it_is

    def _left_open(self, decision: Decision, reason: Reason) -> Decision:
        next_look = self._plan.next_look(len(self._now))
        return replace(decision, outcome=Outcome.INCONCLUSIVE, reason=reason, next_look=next_look)

    def describe(self) -> tuple[str, ...]:
        """Name the kernels that chance may have launched in a slower way than usual, the costliest first."""
        slowed = {name: self._kernels[name].excess for name in self.by_chance}
        names = sorted((name for name in slowed if slowed[name] > 0), key=lambda name: (-slowed[name], name))
        return tuple(
            f"kernel {kernel_in_words(name)} {self._kernels[name].describe()}" for name in names[:_SHOWN_KERNELS]
        )

    @property
    def _sides(self) -> tuple[tuple[Sequence[ProcessRecord], bool], ...]:
        """Each side's processes, and whether they are this run's."""
        return (self._now, True), (self._before, False)

    def _seconds(self, kernels: Mapping[str, KernelRecord], even: Even, *, is_now: bool) -> Iterator[float]:
        """Yield the seconds that each of a process's kernels counts with."""
        for name, record in kernels.items():
            kernel = self._kernels.get(name)
            if kernel is None or even is None:
                yield record.seconds
            elif name in even:
                yield kernel.even_seconds(record, growth=kernel.growth if is_now else 1.0)
            else:
                yield kernel.seconds_alike(record)

    def _excess(self, process: ProcessRecord, even: Even, *, is_now: bool) -> float:
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


def _is_paced_by_kernels(process: ProcessRecord) -> bool:
    """Whether kernels' times are part of a call's: not where a GPU waits for its host, nor where they overlap."""
    call = process.seconds.get(Variant.CANDIDATE.value)
    return (
        call is not None
        and Variant.CANDIDATE.value not in process.waiting
        and 0 < (process.device_seconds or 0) <= _ALL_OF_A_CALL * call
    )
