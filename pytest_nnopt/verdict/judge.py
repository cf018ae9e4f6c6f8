"""Every check that was asked, answered: the verdict on a case."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, CompileStatus, Outcome, Verdict
from pytest_nnopt.verdict.compile import check_compile, chosen_otherwise, is_nothing_compiled
from pytest_nnopt.verdict.device_time import check_device_time
from pytest_nnopt.verdict.explanation import explain_slowdown
from pytest_nnopt.verdict.fitness import find_unsoundness
from pytest_nnopt.verdict.growth import check_compile_time, check_memory
from pytest_nnopt.verdict.launched import with_kernels
from pytest_nnopt.verdict.numerics import check_numbers
from pytest_nnopt.verdict.question import without_part
from pytest_nnopt.verdict.revisions import has_other_inputs, leave_open
from pytest_nnopt.verdict.times import check_latency, check_speedup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import MemoryRecord, ProcessRecord
    from pytest_nnopt.model import CompileTime
    from pytest_nnopt.verdict.question import Observed, Question


def judge(question: Question, observed: Observed) -> Verdict:
    """Answer every check that was asked, and the compile check unasked where eager would be compared with eager."""
    checks = []
    if CheckName.COMPILE in question.asked or is_nothing_compiled(observed.compile):
        checks.append(check_compile(question, observed.compile, observed.timing))
    if observed.compile.status is CompileStatus.FAILED:
        return Verdict(question.case_id, (*checks, *_unanswerable(question)))
    if observed.numerics is not None:
        checks.append(check_numbers(question, observed.numerics, observed.recorded))
    if CheckName.SPEEDUP in question.asked and question.config.speedup.min is not None:
        checks.append(
            _broken(CheckName.SPEEDUP, observed) or _sound(check_speedup(question, observed.timing), observed)
        )
    is_broken_recording = question.is_updating and observed.timing_problem is not None
    if CheckName.LATENCY in question.asked and (question.is_comparing or is_broken_recording):
        checks.append(_broken(CheckName.LATENCY, observed) or _sound(_explained_latency(question, observed), observed))
    if question.is_comparing:
        checks.extend(_growth_checks(question, observed))
    if question.base is not None:
        checks = [_allowed_by_a_limit(check) for check in checks]
    return Verdict(question.case_id, tuple(checks))


def keep_exact_failures(verdict: Verdict, earlier: Verdict, *, is_pooled: bool = True) -> Verdict:
    """Let a repeated attempt keep the failures of exact checks, asked or not: what was wrong once was wrong.

    Args:
        verdict: of this attempt.
        earlier: of the one before.
        is_pooled: whether timing checks have decided on the processes of all attempts; if not, theirs are kept as well.
    """
    repeated = (CheckName.SPEEDUP, CheckName.LATENCY) if is_pooled else ()
    exact: dict[CheckName, Check] = {
        check.name: check for check in earlier.checks if check.outcome is Outcome.FAILED and check.name not in repeated
    }
    kept = tuple(exact.pop(check.name, check) for check in verdict.checks)
    return Verdict(verdict.case_id, (*exact.values(), *kept))


def _allowed_by_a_limit(check: Check) -> Check:
    """Say what to do about growth against another revision, which no recording could accept."""
    limit = _GROWTH_LIMITS.get(check.name)
    if check.outcome is not Outcome.FAILED or check.remedy is not None or limit is None:
        return check
    remedy = (
        f"if the new level is intended, allow it with @pytest.mark.nnopt_limits({limit}=...); once it is merged, "
        "it is what later runs compare with"
    )
    return replace(check, remedy=remedy)


_GROWTH_LIMITS = {
    CheckName.LATENCY: "latency",
    CheckName.DEVICE_TIME: "device_time",
    CheckName.MEMORY: "memory",
    CheckName.COMPILE_TIME: "compile_time",
}


def _growth_checks(question: Question, observed: Observed) -> list[Check]:
    """Answer what is asked about figures that may only grow so far against the baseline."""
    level = question.baseline
    kernels = with_kernels(observed.timing)
    kernels_before = with_kernels(level.timing) if level is not None else []
    checks: list[Check | None] = []
    if observed.memory is not None and CheckName.MEMORY in question.asked:
        checks.append(_unless_chosen(_memory_check(question, observed.memory), question, observed))
    if observed.compile_time is not None and CheckName.COMPILE_TIME in question.asked:
        checks.append(_compile_time_check(question, observed.compile_time))
    if kernels and CheckName.DEVICE_TIME in question.asked:
        checks.append(_device_time_check(question, observed, kernels, kernels_before))
    return [check for check in checks if check is not None]


def _device_time_check(
    question: Question, observed: Observed, now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]
) -> Check:
    limit = question.config.limits.device_time
    if has_other_inputs(observed.timing):
        return leave_open(CheckName.DEVICE_TIME, question, observed.timing, limit)
    missing = without_part(question, CheckName.DEVICE_TIME, limit, before or None, "kernels")
    if missing is not None:
        return missing
    check = check_device_time(
        now,
        before,
        limit,
        level=question.level_name,
        plan=question.plan,
        is_stored=question.base is None,
        is_strict=question.takes_no_excuse,
    )
    return _sound(check, observed)


def _memory_check(question: Question, memory: MemoryRecord) -> Check | None:
    limit, level, elsewhere = question.config.limits.memory, question.baseline, question.foreign_memory
    before = None if level is None else level.memory
    if before is None and elsewhere is not None and elsewhere.evidence.memory is not None:
        check = check_memory(memory, elsewhere.evidence.memory, limit)
        return check and replace(check, details=(*check.details, elsewhere.description))
    check = None if before is None else check_memory(memory, before, limit, question.level_name)
    return check or without_part(question, CheckName.MEMORY, limit, None, "memory")


def _unless_chosen(check: Check | None, question: Question, observed: Observed) -> Check | None:
    """Leave a failure open where it is of code that the compiler chose by timing and may not choose again."""
    if check is None or check.outcome is not Outcome.FAILED:
        return check
    changes = chosen_otherwise(question, observed.compile, observed.timing)
    if not changes:
        return check
    why = f"the compiler chose by timing what it generated ({', '.join(changes)}), which could explain it"
    what_to_do = "compare again; where it stays so, the recorded compilation is the odd one: record anew"
    details = (*check.details, what_to_do) if question.base is None else check.details
    return replace(check, outcome=Outcome.INCONCLUSIVE, reason=f"{check.reason}; {why}", details=details)


def _compile_time_check(question: Question, time: CompileTime) -> Check | None:
    limits, level = question.config.limits, question.baseline
    before = None if level is None else level.compile
    check = None
    if before is not None:
        check = check_compile_time(
            time,
            before,
            time_limit=limits.compile_time,
            work_limit=limits.compile_work,
            level=question.level_name,
        )
    return check or without_part(question, CheckName.COMPILE_TIME, limits.compile_time, None, "compile time")


def _explained_latency(question: Question, observed: Observed) -> Check:
    """Answer the question of latency; where it fails, say what else moved."""
    check = check_latency(question, observed.timing)
    if question.foreign_times is not None:
        check = replace(check, details=(*check.details, question.foreign_times.description))
    if check.outcome is not Outcome.FAILED or question.base is not None:  # machine and libraries are the base's, too
        return check
    return replace(check, details=(*check.details, *explain_slowdown(question, observed)))


def _sound(check: Check, observed: Observed) -> Check:
    """Leave the question open where something on the machine made its times worthless."""
    why = find_unsoundness(observed.timing)
    if why is None or check.outcome is Outcome.NO_BASELINE:
        return check
    details = (check.reason, *check.details)
    reason = f"{check.name.value.replace('_', ' ')} is not judged: {why}"
    return replace(check, outcome=Outcome.INCONCLUSIVE, reason=reason, details=details, remedy=None)


def _broken(name: CheckName, observed: Observed) -> Check | None:
    """Return the failure of a check whose evidence could not be gathered, None where it could."""
    if observed.timing_problem is None:
        return None
    summary, *details = observed.timing_problem.splitlines()
    return Check(name, Outcome.FAILED, summary, details=tuple(details), remedy=_RUNS_ANEW)


_RUNS_ANEW = (
    "mend what it says; a measuring process runs the same test anew beside this run, so that memory must suffice for "
    "both, and a port, a file or a setting that one of them holds is not there for the other"
)


def _unanswerable(question: Question) -> list[Check]:
    """Answer the remaining checks of a case that has no candidate."""
    wanted = {
        CheckName.NUMERICS: True,
        CheckName.SPEEDUP: question.config.speedup.min is not None,
        CheckName.LATENCY: question.is_comparing,
    }
    return [
        Check(name, Outcome.INCONCLUSIVE, "there is no candidate to look at")
        for name, is_wanted in wanted.items()
        if is_wanted and name in question.asked
    ]
