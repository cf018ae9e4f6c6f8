"""A case against what was once accepted: small steps since the best level added up, and what an update makes worse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome, Verdict
from pytest_nnopt.verdict import times
from pytest_nnopt.verdict.judge import judge
from pytest_nnopt.verdict.wording import matters, name_shift

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import Recording
    from pytest_nnopt.verdict.question import Observed, Question

_DRIFTING = (CheckName.LATENCY, CheckName.DEVICE_TIME, CheckName.MEMORY)
"""Checks that tolerate a small growth, so that many of them add up."""

_ACCEPT = "accept it with pytest --nnopt-update --nnopt-reason TEXT"

_DRIFT_SHARE = 0.1
"""The part of the rate of false alarms that the comparison with the best level may cost on top."""


def judge_drift_since_best(question: Question, observed: Observed, verdict: Verdict) -> Verdict:
    """Let a check fail that keeps its limit against the present level, but not against the best accepted one."""
    anchor = question.anchor
    if anchor is None or not question.is_comparing:
        return verdict
    since_best = judge(_since(question, anchor), observed)
    failed = {check.name: check for check in since_best.checks if check.outcome is Outcome.FAILED}
    checks = tuple(
        _drifted(check, failed[check.name])
        if check.name in _DRIFTING and check.name in failed and not (check.outcome.is_failure or _is_open_memory(check))
        else check
        for check in verdict.checks
    )
    return Verdict(verdict.case_id, checks)


def _is_open_memory(check: Check) -> bool:
    """Whether memory grew with code that the compiler chose by timing, which the best level does not keep."""
    return check.name is CheckName.MEMORY and check.outcome is Outcome.INCONCLUSIVE


def best_level(question: Question) -> Question | None:
    """Return the question against the best accepted level; None where there is no other than the present one."""
    is_compared = question.is_comparing and not question.is_updating
    return _since(question, question.anchor) if is_compared and question.anchor is not None else None


def _since(question: Question, anchor: Recording) -> Question:
    plan = replace(question.plan, false_alarms=question.plan.false_alarms * _DRIFT_SHARE)
    best = f"the best level, accepted on {anchor.recorded.date().isoformat()}"
    work = None if question.baseline is None else question.baseline.work  # a level of another model has no anchor yet
    evidence = anchor.evidence.model_copy(update={"work": work})
    return replace(question, baseline=evidence, plan=plan, best=best)


def _drifted(near: Check, far: Check) -> Check:
    return replace(
        far,
        reason=f"small steps added up: {far.reason}",
        details=(near.reason, *far.details, *([] if far.remedy else [_ACCEPT])),
    )


def find_worsening(question: Question, observed: Observed, verdict: Verdict) -> tuple[str, ...]:
    """Say what an update would make worse than it was accepted: what the gate would fail with these figures.

    Numbers are left out: what changed of them is named by the recording itself. A machine that has moved is no excuse
    for a slower time, but named: it may be the reason. Nor is chance one for more memory, for which kernels
    several compilations generated, or how they are launched.
    """
    if not question.is_updating or question.baseline is None:
        return ()
    compared = replace(question, is_comparing=True, is_updating=False, takes_no_excuse=True)
    against = judge_drift_since_best(compared, observed, judge(compared, observed))
    standing = {check.name for check in verdict.checks if check.outcome.is_failure}
    shift = times.moved_machine(question, observed.timing)
    moved = f"; {name_shift(shift)}" if matters(shift) else ""
    return tuple(
        check.reason + (moved if check.name is CheckName.LATENCY else "")
        for check in against.checks
        if check.outcome is Outcome.FAILED or _is_open_memory(check)
        if check.name not in standing and check.name is not CheckName.NUMERICS
    )
