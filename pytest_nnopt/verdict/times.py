"""Checks of times, which are decided over several processes: speedup, latency, and how many processes they want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Interval, Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN, Reason, decide_minimum, decide_regression
from pytest_nnopt.statistics.shift import NO_SHIFT, Shift
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict.absolute import (
    absolute_estimates,
    confirming_look,
    decide_absolute,
    describe_absolute,
    describe_shared_slowdown,
    host_shift,
)
from pytest_nnopt.verdict.choices import advise_recording, describe_choices
from pytest_nnopt.verdict.compile import wanted_compilations
from pytest_nnopt.verdict.device_time import compare_launches, decide_device_time
from pytest_nnopt.verdict.estimates import estimate_of, shift_since
from pytest_nnopt.verdict.imported import describe_imported
from pytest_nnopt.verdict.launched import with_kernels
from pytest_nnopt.verdict.question import without_baseline
from pytest_nnopt.verdict.revisions import (
    check_revisions,
    decide_revisions,
    has_other_inputs,
    is_beside_base,
    processes_of_base,
)
from pytest_nnopt.verdict.ways import Ways
from pytest_nnopt.verdict.wording import (
    could_be_chance,
    describe_as_measured,
    describe_shift,
    how_sure,
    matters,
    name_shift,
    relation_to_limit,
)

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.prior import VariancePrior
    from pytest_nnopt.statistics.sequential import SequentialPlan
    from pytest_nnopt.verdict.question import Question
    from pytest_nnopt.verdict.ways import Even


_SHOWN_OPERATORS = 4


def looks_by_check(question: Question, timing: Sequence[ProcessRecord]) -> Mapping[CheckName, int]:
    """Return after how many processes each timing decision looks next; without those that want no more.

    Decisions look only when that many are there. To look in between would spend what is set aside for the next look.
    """
    absolute = None if is_beside_base(timing) else decide_absolute(question, timing)
    bare = len(timing) - len(absolute_estimates(timing))
    latency = _next_look(absolute) + bare if question.changed_work else _next_look(_decide_latency(question, timing))
    looks = {
        CheckName.SPEEDUP: _next_look(_decide_speedup(question, timing)),
        CheckName.LATENCY: max(latency, confirming_look(absolute) + bare),
        CheckName.DEVICE_TIME: _device_look(question, timing) + len(timing) - len(with_kernels(timing)),
    }
    return _above(looks, len(timing), question.plan)


def chances_by_check(question: Question, timing: Sequence[ProcessRecord]) -> Mapping[CheckName, int]:
    """Return how many processes would tell changed kernels from chance, for each check that is left open by that.

    That can be asked after every process: a single one with the kernels of before settles it.
    """
    compilations = wanted_compilations(question, timing)
    chances = {
        CheckName.COMPILE: compilations,
        CheckName.MEMORY: compilations,
        CheckName.DEVICE_TIME: _launching_look(question, timing),
    }
    return _above(chances, len(timing), question.plan)


def _above(wanted: Mapping[CheckName, int], done: int, plan: SequentialPlan) -> Mapping[CheckName, int]:
    """Leave out what wants no more processes than there are, and cut the rest to the plan."""
    cut = {name: min(processes, plan.max_processes) for name, processes in wanted.items()}
    return {name: processes for name, processes in cut.items() if processes > done}


def _launching_look(question: Question, timing: Sequence[ProcessRecord]) -> int:
    """Return how many processes would tell more launches from chance; 0 where that is settled, or does not matter."""
    here, there = _kernels_of(question, timing)
    if not here or not there:
        return 0
    enough = compare_launches(here, there, question.plan, is_stored=question.base is None).enough
    is_look = len(here) in question.plan.looks
    if enough is None or (is_look and _decide_device(question, here, there).outcome is Outcome.FAILED):
        return 0  # slower kernels fail the check whatever their number
    return enough + len(timing) - len(here)


def _next_look(decision: Decision | None) -> int:
    """Return how many processes that took part a decision wants; 0 where it wants no more."""
    return 0 if decision is None else decision.next_look or 0


def check_speedup(question: Question, timing: Sequence[ProcessRecord]) -> Check:
    """Hold the ratio of eager to candidate time against the declared minimum."""
    minimum = question.config.speedup.min
    decision = _decide_speedup(question, timing)
    assert minimum is not None
    if decision is None:
        return Check(CheckName.SPEEDUP, Outcome.INCONCLUSIVE, "speedup was not measured", limit=minimum)
    speedup, interval = 1 + decision.change, _shifted(decision.interval)
    is_unconfirmed = decision.reason is Reason.UNCONFIRMED
    relation = {
        Outcome.PASSED: "above",
        Outcome.FAILED: "below",
    }.get(decision.outcome, "below" if is_unconfirmed else "not clearly on either side of")
    reason = (
        f"speedup {speedup:.2f}x [{interval.low:.2f}, {interval.high:.2f}] is {relation} the minimum of {minimum:g}x"
        f"{f', but {could_be_chance(decision)}' if is_unconfirmed else ''}"
    )
    return Check(
        CheckName.SPEEDUP,
        decision.outcome,
        reason,
        value=speedup,
        limit=minimum,
        interval=interval,
        details=how_sure(decision),
        certainty=decision.certainty,
    )


def check_latency(question: Question, timing: Sequence[ProcessRecord]) -> Check:
    """Hold the candidate's time against the baseline's, relative to eager's and to a fixed workload's beside it."""
    limit = question.latency_limit
    if is_beside_base(timing):
        return check_revisions(question, timing)
    if question.baseline is None:
        answer = without_baseline(question, CheckName.LATENCY, limit)
        return replace(answer, details=describe_imported(question.imported, timing))
    if not question.baseline.timing:
        reason = "the baseline holds no times; record them with pytest --nnopt-update"
        return Check(CheckName.LATENCY, Outcome.NO_BASELINE, reason, limit=limit)
    decision, absolute = _decide_latency(question, timing), decide_absolute(question, timing)
    if question.changed_work:
        return _latency_of_another_model(question, absolute, host_shift(question, timing))
    if decision is None:
        return Check(CheckName.LATENCY, Outcome.INCONCLUSIVE, "latency was not measured", limit=limit)
    shift = moved_machine(question, timing)
    # how kernels were launched, the fixed workload does not see
    leaves_open = decision.outcome is not Outcome.FAILED and decision.reason is not Reason.CHOSEN_OTHERWISE
    if absolute is not None and absolute.outcome is Outcome.FAILED and leaves_open:
        return _latency(
            question,
            absolute,
            describe_shared_slowdown(absolute, decision, limit),
            (_describe_latency(decision, limit, question.level_name), *describe_shift(shift)),
        )
    details = (
        *describe_shift(shift),
        *_describe_ways(question, timing, question.baseline.timing, decision),
        *describe_as_measured(decision),
        *([] if absolute is None else [describe_absolute(absolute)]),
    )
    reason = _describe_latency(decision, limit, question.level_name) + _named_where_open(decision, shift)
    return _latency(question, decision, reason, details)


def _describe_ways(
    question: Question, now: Sequence[ProcessRecord], before: Sequence[ProcessRecord], decision: Decision
) -> Sequence[str]:
    """Say what the compiler's choices among ways to launch kernels have to do with a decision."""
    if decision.reason is Reason.CHOSEN_OTHERWISE:
        advice = advise_recording(len(with_kernels(before))) if question.base is None else ()
        return (*Ways(now, before, question.plan).describe(), *advice)
    if decision.outcome is Outcome.INCONCLUSIVE:
        return describe_choices(before, question.latency_limit)
    return []


def _named_where_open(decision: Decision, shift: Shift) -> str:
    return f"; {name_shift(shift)}" if decision.outcome is Outcome.INCONCLUSIVE and matters(shift) else ""


def _latency_of_another_model(question: Question, absolute: Decision | None, shift: Shift) -> Check:
    """Answer where eager does other work than in the baseline, so that its time tells nothing about the machine."""
    limit, changes = question.latency_limit, question.changed_work
    shown = ", ".join(changes[:_SHOWN_OPERATORS]) + (", …" if len(changes) > _SHOWN_OPERATORS else "")
    why = f"the model itself changed ({shown}), so eager's time is no measure"
    accept = "accept it with pytest --nnopt-update"
    beside = "compare with the other revision in one run, by --nnopt-against, or "
    to_tell = (beside if question.is_comparable_beside else "") + accept
    if absolute is None:
        reason = f"{why}, and no time against a fixed workload was recorded here"
        return Check(CheckName.LATENCY, Outcome.INCONCLUSIVE, reason, limit=limit, details=(to_tell,))
    reason = _describe_latency(absolute, limit, question.level_name)
    if absolute.outcome is not Outcome.INCONCLUSIVE:
        return _latency(question, absolute, reason, (f"{why}: {accept}", *describe_shift(shift)))
    reason += f"; {why}{_named_where_open(absolute, shift)}"
    return _latency(question, absolute, reason, (to_tell, *describe_shift(shift)))


def _latency(question: Question, decision: Decision, reason: str, details: tuple[str, ...]) -> Check:
    return Check(
        CheckName.LATENCY,
        decision.outcome,
        reason,
        value=decision.change,
        baseline=0.0,
        limit=question.latency_limit,
        interval=decision.interval,
        details=(*how_sure(decision, question.level_name), *details),
        certainty=decision.certainty,
    )


def _describe_latency(decision: Decision, limit: float, level: str) -> str:
    interval = decision.interval
    return (
        f"latency {format_percent(decision.change, signed=True)} against {level} "
        f"[{format_percent(interval.low, signed=True)}, {format_percent(interval.high, signed=True)}] "
        f"is {relation_to_limit(decision, limit)}"
    )


def _decide_speedup(question: Question, timing: Sequence[ProcessRecord]) -> Decision | None:
    minimum = question.config.speedup.min
    if minimum is None or not timing or CheckName.SPEEDUP not in question.asked:
        return None
    estimates = [estimate_of(process).inverse for process in timing]
    return decide_minimum(estimates, minimum=minimum, prior=question.prior, plan=question.plan)


def _decide_latency(question: Question, timing: Sequence[ProcessRecord]) -> Decision | None:
    baseline = question.baseline
    if CheckName.LATENCY in question.asked and is_beside_base(timing):
        return None if has_other_inputs(timing) else decide_revisions(question, timing)
    if baseline is None or not baseline.timing or not timing or CheckName.LATENCY not in question.asked:
        return None
    return compare_times(question, timing, baseline.timing, moved_machine(question, timing))


def moved_machine(question: Question, timing: Sequence[ProcessRecord]) -> Shift:
    """Return how far the machine has moved since the baseline, where that leaves something open."""
    if question.baseline is None or not question.heeds_shift:
        return NO_SHIFT
    return shift_since(timing, question.baseline.timing)


def compare_times(
    question: Question, now: Sequence[ProcessRecord], before: Sequence[ProcessRecord], shift: Shift = NO_SHIFT
) -> Decision:
    """Decide whether the candidate's time over eager's has grown, on a machine that may have moved."""
    return decide_times(
        now,
        before,
        limit=question.latency_limit,
        prior=question.prior,
        plan=question.plan,
        shift_error=shift.error,
        is_strict=question.takes_no_excuse,
    )


def decide_times(
    now: Sequence[ProcessRecord],
    before: Sequence[ProcessRecord],
    *,
    limit: float,
    prior: VariancePrior,
    plan: SequentialPlan = DEFAULT_PLAN,
    shift_error: float = 0.0,
    is_strict: bool = False,
) -> Decision:
    """Decide whether the candidate's time over eager's has grown by more than a limit.

    Where a GPU sets the pace, how the compiler chose to launch kernels is heeded as it is for their own time.

    Args:
        now: processes of this run.
        before: processes of the baseline.
        limit: the tolerated relative slowdown, 0.05 for 5 %.
        prior: what other cases teach about the variance of one process.
        plan: when evidence is looked at, and what errors may cost.
        shift_error: standard error that the machine's own change since the baseline adds.
        is_strict: whether chance in that is no excuse for a slowdown.
    """
    ways = Ways(now, before, plan, is_strict=is_strict)

    def decide(even: Even) -> Decision:
        here, there = ways.relative_estimates(even)
        return decide_regression(here, there, limit=limit, prior=prior, plan=plan, shift_error=shift_error)

    return ways.decide(decide)


def _device_look(question: Question, timing: Sequence[ProcessRecord]) -> int:
    """Return how many processes with kernels their time wants; 0 where it is settled."""
    kernels, before = _kernels_of(question, timing)
    if not kernels or not before:
        return 0
    return _next_look(_decide_device(question, kernels, before))


def _decide_device(question: Question, now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]) -> Decision:
    return decide_device_time(now, before, question.config.limits.device_time, question.plan)


def _kernels_of(question: Question, timing: Sequence[ProcessRecord]) -> tuple[list[ProcessRecord], list[ProcessRecord]]:
    """Return the processes with kernels of both sides, where these are asked about; else none."""
    if not question.is_comparing or CheckName.DEVICE_TIME not in question.asked or has_other_inputs(timing):
        return [], []
    if is_beside_base(timing):
        return with_kernels(timing), with_kernels(processes_of_base(timing))
    return with_kernels(timing), with_kernels(() if question.baseline is None else question.baseline.timing)


def _shifted(interval: Interval) -> Interval:
    """Turn an interval of a relative change into one of the ratio."""
    return Interval(1 + interval.low, 1 + interval.high, interval.confidence)
