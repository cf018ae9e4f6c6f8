"""How many processes a case wants, for which of its checks, and what it says where time ended before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, Outcome, Verdict
from pytest_nnopt.units import format_count
from pytest_nnopt.verdict.accepted import best_level
from pytest_nnopt.verdict.fitness import find_unsoundness, processes_to_record
from pytest_nnopt.verdict.times import chances_by_check, looks_by_check

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.verdict.question import Observed, Question


def wanted_processes(question: Question, timing: Sequence[ProcessRecord]) -> int:
    """Return how many processes are wanted in all, for whatever reason."""
    return max(wanted_by_looks(question, timing), wanted_by_chance(question, timing))


def wanted_by_looks(question: Question, timing: Sequence[ProcessRecord]) -> int:
    """Return how many processes times want: against the present level and the best one, and for a recording.

    To be asked when as many are there as it said before: to look in between would spend errors not set aside for it.
    """
    looks = [look for level in _levels(question) for look in looks_by_check(level, timing).values()]
    return max(1, len(timing), processes_to_record(question, timing), *looks)


def wanted_by_chance(question: Question, timing: Sequence[ProcessRecord]) -> int:
    """Return how many processes would tell changed kernels from chance; 0 where that is settled. Ask when you like."""
    chances = (wanted for level in _levels(question) for wanted in chances_by_check(level, timing).values())
    return max(chances, default=0)


def _levels(question: Question) -> Sequence[Question]:
    """Return the question against the present level, and against the best one where that is another."""
    best = best_level(question)
    return [question] if best is None else [question, best]


def name_spent_budget(question: Question, observed: Observed, verdict: Verdict) -> Verdict:
    """Say of what stays open whether a budget ended before the processes that could have answered it."""
    if observed.spent_budget is None or find_unsoundness(observed.timing) is not None:
        return verdict
    wanted = [look(question, observed.timing) for look in (looks_by_check, chances_by_check)]
    checks = (
        _cut_short(check, observed, max(processes.get(check.name, 0) for processes in wanted))
        for check in verdict.checks
    )
    return replace(verdict, checks=tuple(checks))


def _cut_short(check: Check, observed: Observed, wanted: int) -> Check:
    if check.outcome is not Outcome.INCONCLUSIVE or not wanted:
        return check
    done = format_count(len(observed.timing), "process", "processes")
    return replace(
        check, reason=f"{check.reason}; {observed.spent_budget} ended after {done}, and {wanted} were wanted next"
    )
