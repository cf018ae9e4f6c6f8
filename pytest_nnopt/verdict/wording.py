"""How a timing decision is put into words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import Reason
from pytest_nnopt.units import format_percent

if TYPE_CHECKING:
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.shift import Shift

_SHOWN_SHIFT_ERROR = 0.005


def relation_to_limit(decision: Decision, limit: float) -> str:
    """Say where a change lies, to be put behind its figures and "is"."""
    if decision.reason is Reason.NOT_WITHIN_LIMIT:
        return f"a slowdown, and not shown to be within the limit of {format_percent(limit)}"
    if decision.reason is Reason.UNCONFIRMED:
        where = "beyond" if decision.change > limit else "a slowdown, and not shown to be within"
        return f"{where} the limit of {format_percent(limit)}, but {could_be_chance(decision)}"
    if decision.reason is Reason.CHOSEN_OTHERWISE:
        where = "beyond" if decision.change > limit else "a slowdown, and not shown to be within"
        why = "the ways in which kernels are launched, which the compiler chooses by timing, could explain it"
        return f"{where} the limit of {format_percent(limit)}, but {why}"
    if decision.reason is Reason.COULD_BE_LUCK:
        return f"within the limit of {format_percent(limit)}, but may be as fast by chance as some of the baseline's"
    relations = {Outcome.FAILED: "beyond", Outcome.INCONCLUSIVE: "not clearly on either side of"}
    return f"{relations.get(decision.outcome, 'within')} the limit of {format_percent(limit)}"


def describe_as_measured(decision: Decision) -> tuple[str, ...]:
    """Say what the figure is without regard to how kernels were launched; nothing where it is the same."""
    if decision.measured_change is None:
        return ()
    measured = format_percent(decision.measured_change, signed=True)
    return (f"as measured {measured}; the figure above compares kernels launched alike",)


def could_be_chance(decision: Decision) -> str:
    """Say what could explain a slowdown that is certain but for stray processes."""
    return "one stray process could explain it" if decision.certainty.processes == 1 else "strays could explain it"


def matters(shift: Shift) -> bool:
    """Return whether the machine's change makes a figure clearly less certain."""
    return shift.error >= _SHOWN_SHIFT_ERROR


def name_shift(shift: Shift) -> str:
    """Say how the machine is not as it was."""
    machine, workload = ("host that leads the GPU", "loop") if shift.is_of_host else ("machine", "workload")
    pace, change = "slower" if shift.log_ratio > 0 else "faster", math.expm1(shift.log_ratio)
    time = f"a fixed {workload}'s time {format_percent(change, signed=True)}"
    return f"the {machine} is {pace} than in the baseline, {time}"


def describe_shift(shift: Shift) -> tuple[str, ...]:
    """Say what the machine's change leaves open, and what to do; nothing where it hardly matters."""
    if not matters(shift):
        return ()
    as_it_was = "as many of its cores are free as then" if shift.is_of_host else "it is as it was"
    why = "eager and the candidate may feel that differently" if shift.share < 1 else "one side alone feels that"
    return (
        f"{name_shift(shift)}: {why}, which adds a standard error of {format_percent(shift.error)}; compare again when "
        f"{as_it_was}, or with the other revision in one run, by --nnopt-against",
    )


def how_sure(decision: Decision, level: str = "the baseline") -> tuple[str, ...]:
    """Say what the decision rests on, and what it could have seen.

    Args:
        decision: what is put into words.
        level: what the case is compared with, in words.
    """
    known = decision.certainty
    against = f" against {known.baseline_processes} in {level}" if known.baseline_processes else ""
    there = (
        f", one of those {known.baseline_processes} by {format_percent(known.baseline_sd)}"
        if known.baseline_sd is not None
        else ""
    )
    strays = f"{known.baseline_strays} of the processes in {level} went astray, so that more must agree on a slowdown"
    return (
        f"{known.processes} process{'es' if known.processes > 1 else ''}{against}; one process varies by "
        f"{format_percent(known.process_sd)} ({format_percent(known.within_sd)} from its own blocks){there}",
        *([strays] if known.baseline_strays else []),
        f"the smallest change this evidence would find in 95 % of runs is "
        f"{format_percent(known.minimum_detectable_effect)}",
    )
