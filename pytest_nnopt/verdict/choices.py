"""What chance decides of a GPU's kernels: the compiler times alternatives, and chooses anew in each process."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from pytest_nnopt.model import Variant
from pytest_nnopt.statistics.strays import choice_probability
from pytest_nnopt.units import format_count, format_percent, format_seconds
from pytest_nnopt.verdict.launched import LaunchedKernel, kernel_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.statistics.sequential import SequentialPlan

CHANCE_ALARM_SHARE = 0.2
"""How often what chance decides may fail a case, as a share of the case's own rate and on top of it."""

TELLING_SHARE = 0.2
"""Of the limit: what a choice makes of a call that is less than this is not worth a word."""

_LEAST_RECORDED = 3
"""Recorded processes of which fewer say too little about what none of them did."""

_ENOUGH_RECORDED = 10
"""Recorded processes of which fewer are said to know little."""

_SHOWN_CHOICES = 3


def least_chance(before: int, plan: SequentialPlan) -> float:
    """Return the probability up to which chance is no explanation of what this run's compilations did.

    That all processes of the plan did what none of three or more recorded ones did is no chance, however many cases
    there are: small baselines would else leave it open for ever.

    Args:
        before: compilations of the baseline.
        plan: of the case's timing decisions, whose rate of false alarms it is that counts.
    """
    rate, most = CHANCE_ALARM_SHARE * plan.false_alarms, plan.max_processes
    return max(rate, choice_probability(most, most, 0, before)) if before >= _LEAST_RECORDED else rate


def is_beyond_chance(now: int, before: int, plan: SequentialPlan) -> bool:
    """Return whether chance would hardly make so many compilations come out as none of those before did.

    Args:
        now: compilations of this run, all of which did.
        before: compilations of the baseline, none of which did.
        plan: of the case's timing decisions.
    """
    return choice_probability(now, now, 0, before) <= least_chance(before, plan)


def processes_to_tell(before: int | None, plan: SequentialPlan, *, own: int = 0) -> int | None:
    """Return after how many processes chance is no reason any more, if all do what no compilation before did.

    No look is spent on the way there: whatever they did before, a single one that does not will do.

    Args:
        before: compilations of the baseline; None where another revision is measured beside this one, as often.
        plan: of the case's timing decisions.
        own: further compilations of this run, and of the other revision.

    Returns:
        the number; None where all processes of the plan are too few.
    """
    counts = range(1, plan.max_processes + 1)
    return next((n for n in counts if is_beyond_chance(n + own, n + own if before is None else before, plan)), None)


def advise_recording(before: int) -> tuple[str, ...]:
    """Say that so few recorded compilations know little of what chance does; nothing where they are enough."""
    if before >= _ENOUGH_RECORDED:
        return ()
    return ("so small a baseline may not know all that the compiler chooses: record ten processes",)


def describe_choices(processes: Sequence[ProcessRecord], limit: float) -> list[str]:
    """Name the kernels that identical code launched in several ways, as far as that matters, the costliest first.

    Where the GPU waits for its host, kernels' times are no part of a call's.

    Args:
        processes: of a baseline or of a recording.
        limit: the tolerated change of a call's time, as a fraction.
    """
    candidate = Variant.CANDIDATE.value
    paced = [one for one in processes if one.kernels and candidate in one.seconds and candidate not in one.waiting]
    if not paced:
        return []
    call = statistics.median(process.seconds[candidate] for process in paced)
    choices = {name: _by_choice(LaunchedKernel.of(name, (), paced)) for name in paced[-1].kernels}
    telling = [name for name, seconds in choices.items() if seconds > TELLING_SHARE * limit * call]
    telling.sort(key=lambda name: choices[name], reverse=True)
    return [
        f"the compiler, which chooses by timing, launched kernel {kernel_in_words(name)} "
        f"in {_describe_ways(name, paced)}; "
        f"chance among them moves a call by {format_percent(choices[name] / call)}"
        for name in telling[:_SHOWN_CHOICES]
    ]


def _by_choice(kernel: LaunchedKernel) -> float:
    """Return by how much a call's time differs between the slowest and the quickest way."""
    times = [way.seconds for way in kernel.ways]
    return max(times) - min(times) if times else 0.0


def _describe_ways(name: str, processes: Sequence[ProcessRecord]) -> str:
    """Say how often a kernel was launched in each way, the commonest first, and what it took."""
    ways = LaunchedKernel.of(name, (), processes).ways
    shown = ", ".join(
        f"{format_seconds(way.seconds)} in {format_count(len(way.before), 'process', 'processes')}" for way in ways
    )
    return f"{len(ways)} ways: {shown}"
