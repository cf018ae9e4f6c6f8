"""From evidence, baseline and limits to a verdict: pure functions, one for each check.

Whoever measures asks ``undecided`` whether further processes are wanted, and ``judge`` for the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.files import short_path
from pytest_nnopt.growth import check_compile_time, check_device_time, check_memory, decide_device_time
from pytest_nnopt.model import Check, CheckName, CompileFacts, CompileStatus, Interval, Outcome, Verdict
from pytest_nnopt.numerics import describe_comparison, describe_not_compared, describe_problem
from pytest_nnopt.statistics.decision import decide_minimum, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.units import format_percent

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, Evidence, MemoryRecord, ProcessRecord
    from pytest_nnopt.config import CaseConfig
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.prior import VariancePrior
    from pytest_nnopt.statistics.sequential import SequentialPlan

DEFAULT_LATENCY_LIMITS = {"cpu": 0.10, "cuda": 0.05}
_SHOWN_LINES = 5


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a case; a part that was not asked for is None or empty.

    Attributes:
        compile: how the candidate was compiled.
        numerics: how far its numbers are from the reference's.
        timing: what each process measured.
        timing_problem: why timing ended early: a process that died, hung or refused. It fails the checks of times.
        memory: peak bytes per call of both sides.
        cold_seconds: wall time of the candidate's first call, when it was compiled from nothing.
    """

    compile: CompileFacts
    numerics: NumericsComparison | None = None
    timing: tuple[ProcessRecord, ...] = ()
    timing_problem: str | None = None
    memory: MemoryRecord | None = None
    cold_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a case is asked, and against what.

    Attributes:
        case_id: id of the case.
        config: the case's limits and tolerances.
        device: type of the device as torch names it, such as ``cpu`` or ``cuda``.
        asked: the checks to answer.
        prior: what is believed about the variance between processes.
        plan: when the timing decisions look at the evidence, and how rarely they may err.
        recorded_processes: how many processes a recording is to hold; 0 where nothing is recorded.
        is_comparing: whether a baseline is to be compared with.
        is_updating: whether the evidence is to become part of the baseline.
        baseline: the level to compare with; None where there is none.
        missing_reason: why there is no baseline, with the remedy.
        is_recording_missing: whether a missing baseline is recorded now instead of failing the case.
    """

    case_id: str
    config: CaseConfig
    device: str
    asked: frozenset[CheckName]
    prior: VariancePrior
    plan: SequentialPlan
    recorded_processes: int = 0
    is_comparing: bool = False
    is_updating: bool = False
    baseline: Evidence | None = None
    missing_reason: str = ""
    is_recording_missing: bool = False

    @property
    def latency_limit(self) -> float:
        """The declared tolerated slowdown, or the device's default; that of the CPU where a device has none."""
        declared = self.config.limits.latency
        default = DEFAULT_LATENCY_LIMITS.get(self.device, DEFAULT_LATENCY_LIMITS["cpu"])
        return default if declared is None else declared

    @property
    def wants_timing(self) -> bool:
        """Whether times are needed: for a declared speedup, a comparison of latency, or a recording."""
        return (CheckName.SPEEDUP in self.asked and self.config.speedup.min is not None) or (
            self._is_comparing_times and (self.is_comparing or self.is_updating)
        )

    @property
    def wants_memory(self) -> bool:
        """Whether memory is to be measured: for a comparison or a recording."""
        return CheckName.MEMORY in self.asked and (self.is_comparing or self.is_updating)

    @property
    def _is_comparing_times(self) -> bool:
        is_on_gpu = CheckName.DEVICE_TIME in self.asked and self.device == "cuda"
        return CheckName.LATENCY in self.asked or is_on_gpu


def judge(question: Question, observed: Observed) -> Verdict:
    """Answer every check that was asked, and the compile check unasked where eager would be compared with eager."""
    checks = []
    if CheckName.COMPILE in question.asked or _is_nothing_compiled(observed.compile):
        checks.append(check_compile(question, observed.compile))
    if observed.compile.status is CompileStatus.FAILED:
        return Verdict(question.case_id, (*checks, *_unanswerable(question)))
    if observed.numerics is not None:
        checks.append(check_numerics(observed.numerics))
    if CheckName.SPEEDUP in question.asked and question.config.speedup.min is not None:
        checks.append(_broken(CheckName.SPEEDUP, observed) or check_speedup(question, observed.timing))
    is_broken_recording = question.is_updating and observed.timing_problem is not None
    if CheckName.LATENCY in question.asked and (question.is_comparing or is_broken_recording):
        checks.append(_broken(CheckName.LATENCY, observed) or check_latency(question, observed.timing))
    if question.is_comparing:
        checks.extend(_growth_checks(question, observed))
    return Verdict(question.case_id, tuple(checks))


def _is_nothing_compiled(facts: CompileFacts) -> bool:
    """Whether what was to be compiled is not, so that the answers to all other questions say nothing."""
    has_ended_eager = facts.status is CompileStatus.FELL_BACK and facts.used == "eager"
    return has_ended_eager or facts.status in (CompileStatus.FAILED, CompileStatus.NOTHING_COMPILED)


def keep_exact_failures(verdict: Verdict, earlier: Verdict) -> Verdict:
    """Let a repeated attempt keep the failures of exact checks, asked or not: what was wrong once was wrong.

    Timing checks are not kept; they have decided on the pooled processes of all attempts.
    """
    exact: dict[CheckName, Check] = {
        check.name: check
        for check in earlier.checks
        if check.outcome is Outcome.FAILED and check.name not in (CheckName.SPEEDUP, CheckName.LATENCY)
    }
    kept = tuple(exact.pop(check.name, check) for check in verdict.checks)
    return Verdict(verdict.case_id, (*exact.values(), *kept))


def wanted_processes(question: Question, timing: Sequence[ProcessRecord]) -> int:
    """Return how many processes are wanted in all: for a recording, or for the next look of a timing decision.

    Decisions look only when that many are there. To look in between would spend what is set aside for the next look.
    """
    decisions = (
        _decide_speedup(question, timing),
        _decide_latency(question, timing),
        _decide_device_time(question, timing),
    )
    looks = [decision.next_look or 0 for decision in decisions if decision is not None]
    return max(1, question.recorded_processes, len(timing), *looks)


def check_numerics(comparison: NumericsComparison) -> Check:
    """Turn a comparison of numbers into a check, naming the worst leaf."""
    worst = comparison.worst
    if worst is None:
        return Check(CheckName.NUMERICS, Outcome.FAILED, "the model returned nothing that could be compared")
    value = worst.excess if math.isfinite(worst.excess) else None
    if not comparison.is_within:
        details = describe_comparison(comparison, has_headline=True)
        reason = describe_problem(worst)
        return Check(CheckName.NUMERICS, Outcome.FAILED, reason, value=value, limit=1.0, details=tuple(details))
    count = len(comparison.leaves)
    details = describe_not_compared(comparison)
    reason = f"{count} leaves agree, the worst at {worst.excess:.2g} of its limit ({comparison.lane_reason})"
    return Check(CheckName.NUMERICS, Outcome.PASSED, reason, value=value, limit=1.0, details=tuple(details))


def check_speedup(question: Question, timing: Sequence[ProcessRecord]) -> Check:
    """Hold the ratio of eager to candidate time against the declared minimum."""
    minimum = question.config.speedup.min
    decision = _decide_speedup(question, timing)
    assert minimum is not None
    if decision is None:
        return Check(CheckName.SPEEDUP, Outcome.INCONCLUSIVE, "speedup was not measured", limit=minimum)
    speedup, interval = 1 + decision.change, _shifted(decision.interval)
    relation = {
        Outcome.PASSED: "above",
        Outcome.FAILED: "below",
    }.get(decision.outcome, "not clearly on either side of")
    reason = (
        f"speedup {speedup:.2f}x [{interval.low:.2f}, {interval.high:.2f}] is {relation} the minimum of {minimum:g}x"
    )
    return Check(
        CheckName.SPEEDUP,
        decision.outcome,
        reason,
        value=speedup,
        limit=minimum,
        interval=interval,
        details=_how_sure(decision),
    )


def check_latency(question: Question, timing: Sequence[ProcessRecord]) -> Check:
    """Hold the candidate's time, relative to eager's in the same process, against the baseline's."""
    limit = question.latency_limit
    if question.baseline is None:
        return _without_baseline(question, CheckName.LATENCY, limit)
    if not question.baseline.timing:
        reason = "the baseline holds no times; record them with pytest --nnopt-update"
        return Check(CheckName.LATENCY, Outcome.NO_BASELINE, reason, limit=limit)
    decision = _decide_latency(question, timing)
    if decision is None:
        return Check(CheckName.LATENCY, Outcome.INCONCLUSIVE, "latency was not measured", limit=limit)
    interval = decision.interval
    relation = {
        Outcome.FAILED: "beyond",
        Outcome.INCONCLUSIVE: "not clearly on either side of",
    }.get(decision.outcome, "within")
    reason = (
        f"latency {format_percent(decision.change, signed=True)} against the baseline "
        f"[{format_percent(interval.low, signed=True)}, {format_percent(interval.high, signed=True)}] "
        f"is {relation} the limit of {format_percent(limit)}"
    )
    return Check(
        CheckName.LATENCY,
        decision.outcome,
        reason,
        value=decision.change,
        baseline=0.0,
        limit=limit,
        interval=interval,
        details=_how_sure(decision),
    )


def check_compile(question: Question, facts: CompileFacts) -> Check:
    """Ask whether the candidate is what was asked for, compiled whole, and no worse than the baseline."""
    problems = _compile_problems(question, facts)
    value = None if facts.graph_breaks is None else float(len(facts.graph_breaks))
    if problems:
        summary, *details = problems
        return Check(CheckName.COMPILE, Outcome.FAILED, summary, value=value, details=tuple(details))
    if facts.status is CompileStatus.OWN_CANDIDATE:
        return Check(CheckName.COMPILE, Outcome.SKIPPED, "the test's own candidate is not compiled by torch.compile")
    if _is_nothing_compiled(facts):
        reason = "nothing is compiled: the test's fallback chain ended at eager, as its marker allows"
        return Check(CheckName.COMPILE, Outcome.SKIPPED, reason, details=_attempts(facts))
    passed = Check(CheckName.COMPILE, Outcome.PASSED, _describe_compilation(facts), value, details=_attempts(facts))
    unanswered = filter(None, (_compile_without_baseline(question), _uncounted(question, facts)))
    return max(unanswered, key=lambda check: check.outcome.severity, default=passed)


def _compile_without_baseline(question: Question) -> Check | None:
    """Return the answer where there should be a recorded compilation and is none, None where there is or need not."""
    if not question.is_comparing:
        return None
    if question.baseline is None:
        return _without_baseline(question, CheckName.COMPILE, None)
    if question.baseline.compile is None:
        reason = "the baseline holds no compilation; record it with pytest --nnopt-update"
        return Check(CheckName.COMPILE, Outcome.NO_BASELINE, reason)
    return None


def _uncounted(question: Question, facts: CompileFacts) -> Check | None:
    """Return the answer where a limit is declared for what could not be counted, None where all limits were checked."""
    limits = question.config.limits
    counted = (
        ("graph breaks", facts.graph_breaks, limits.graph_breaks),
        ("recompiles", facts.recompiles, limits.recompiles),
    )
    unknown = [f"{name} (limit {limit})" for name, found, limit in counted if found is None and limit is not None]
    if not unknown:
        return None
    reason = f"this version of torch cannot tell how many {' and '.join(unknown)} there are"
    return Check(CheckName.COMPILE, Outcome.INCONCLUSIVE, reason, details=_attempts(facts))


def _growth_checks(question: Question, observed: Observed) -> list[Check]:
    """Answer what is asked about figures that may only grow so far against the baseline."""
    limits, level = question.config.limits, question.baseline
    peak = observed.memory.candidate_peak_bytes if observed.memory is not None else None
    peak_before = level.memory.candidate_peak_bytes if level is not None and level.memory is not None else None
    cold_before = level.compile.cold_seconds if level is not None and level.compile is not None else None
    kernels = [process for process in observed.timing if process.kernels]
    kernels_before = [process for process in level.timing if process.kernels] if level is not None else []
    checks: list[Check | None] = []
    if peak is not None and CheckName.MEMORY in question.asked:
        missing = _without_part(question, CheckName.MEMORY, limits.memory, peak_before, "memory")
        checks.append(missing or check_memory(peak, peak_before or 0, limits.memory))
    if observed.cold_seconds is not None and CheckName.COMPILE_TIME in question.asked:
        missing = _without_part(question, CheckName.COMPILE_TIME, limits.compile_time, cold_before, "compile time")
        checks.append(missing or check_compile_time(observed.cold_seconds, cold_before or 0, limits.compile_time))
    if kernels and CheckName.DEVICE_TIME in question.asked:
        missing = _without_part(question, CheckName.DEVICE_TIME, limits.device_time, kernels_before or None, "kernels")
        checks.append(missing or check_device_time(kernels, kernels_before, limits.device_time))
    return [check for check in checks if check is not None]


def _without_part(question: Question, name: CheckName, limit: float, part: object, what: str) -> Check | None:
    """Return the check of a figure that the baseline lacks, None where it has it."""
    if question.baseline is None:
        return _without_baseline(question, name, limit)
    if part is None:
        reason = f"the baseline holds no {what}; record it with pytest --nnopt-update"
        return Check(name, Outcome.NO_BASELINE, reason, limit=limit)
    return None


def _broken(name: CheckName, observed: Observed) -> Check | None:
    """Return the failure of a check whose evidence could not be gathered, None where it could."""
    if observed.timing_problem is None:
        return None
    summary, *details = observed.timing_problem.splitlines()
    return Check(name, Outcome.FAILED, summary, details=tuple(details))


def _compile_problems(question: Question, facts: CompileFacts) -> list[str]:
    """Return what is wrong with a compilation, the summary first; empty where nothing is."""
    if facts.status is CompileStatus.FAILED:
        return ["the candidate could not be compiled", *_attempts(facts)]
    if facts.status is CompileStatus.NOTHING_COMPILED:
        reason = f": {facts.explanation}" if facts.explanation else ""
        return [f"nothing was compiled, so eager would be compared with eager{reason}"]
    if facts.status is CompileStatus.FELL_BACK and not question.config.is_fallback_allowed:
        return [
            f"the candidate fell back to {facts.used}",
            *_attempts(facts),
            "allow it for this test with @pytest.mark.nnopt_compile(fallback=...)",
        ]
    baseline = question.baseline.compile if question.is_comparing and question.baseline is not None else None
    return _counted_problems(question, facts, baseline)


def _counted_problems(question: Question, facts: CompileFacts, baseline: CompileRecord | None) -> list[str]:
    limits = question.config.limits
    problems: list[str] = []
    counted = (
        ("graph breaks", facts.graph_breaks, limits.graph_breaks, baseline.graph_breaks if baseline else None),
        ("recompiles", facts.recompiles, limits.recompiles, baseline.recompiles if baseline else None),
    )
    for name, found, limit, before in counted:
        if found is None:
            continue
        if limit is not None and len(found) > limit:
            problems.append(f"{len(found)} {name}, the limit is {limit}")
        elif limit is None and before is not None and len(found) > before:
            problems.append(f"{len(found)} {name}, the baseline has {before}")
        else:
            continue
        problems.extend(_shown([_describe_event(event) for event in found]))
    accepted = 0 if baseline is None else baseline.eager_frames
    if facts.eager_frames is not None and accepted is not None and facts.eager_frames > accepted:
        problems.append(f"{facts.eager_frames} frames run eagerly because they could not be compiled")
    return problems


def _describe_event(event: object) -> str:
    file, line = getattr(event, "file", None), getattr(event, "line", None)
    place = f"{short_path(file)}:{line}: " if file else ""
    code = getattr(event, "code", None)
    function = getattr(event, "function", None)
    subject = f"{function}: " if function else ""
    reason = getattr(event, "reason", None) or "reason unknown to this version of torch"
    return f"{place}{subject}{reason}" + (f"\n    {code}" if code else "")


def _shown(lines: list[str]) -> list[str]:
    if len(lines) <= _SHOWN_LINES:
        return lines
    return [*lines[:_SHOWN_LINES], f"and {len(lines) - _SHOWN_LINES} more"]


def _attempts(facts: CompileFacts) -> tuple[str, ...]:
    return tuple(f"{attempt.description}: {attempt.error}" for attempt in facts.attempts if attempt.error is not None)


def _describe_compilation(facts: CompileFacts) -> str:
    counts = (
        ("graph", facts.graphs),
        ("graph break", None if facts.graph_breaks is None else len(facts.graph_breaks)),
        ("recompile", None if facts.recompiles is None else len(facts.recompiles)),
    )
    parts = [f"{'unknown' if count is None else count} {name}{'' if count == 1 else 's'}" for name, count in counts]
    used = f" (fell back to {facts.used}, as the marker allows)" if facts.status is CompileStatus.FELL_BACK else ""
    return ", ".join(parts) + used


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


def _without_baseline(question: Question, name: CheckName, limit: float | None) -> Check:
    if question.is_recording_missing:
        reason = "there was no baseline to compare with; this run records it"
        return Check(name, Outcome.SKIPPED, reason, limit=limit)
    return Check(name, Outcome.NO_BASELINE, question.missing_reason, limit=limit)


def _decide_speedup(question: Question, timing: Sequence[ProcessRecord]) -> Decision | None:
    minimum = question.config.speedup.min
    if minimum is None or not timing or CheckName.SPEEDUP not in question.asked:
        return None
    estimates = [estimate_of(process).inverse for process in timing]
    return decide_minimum(estimates, minimum=minimum, prior=question.prior, plan=question.plan)


def _decide_latency(question: Question, timing: Sequence[ProcessRecord]) -> Decision | None:
    baseline = question.baseline
    if baseline is None or not baseline.timing or not timing or CheckName.LATENCY not in question.asked:
        return None
    return decide_regression(
        [estimate_of(process) for process in timing],
        [estimate_of(process) for process in baseline.timing],
        limit=question.latency_limit,
        prior=question.prior,
        plan=question.plan,
    )


def _decide_device_time(question: Question, timing: Sequence[ProcessRecord]) -> Decision | None:
    level = question.baseline
    kernels = [process for process in timing if process.kernels]
    before = [process for process in level.timing if process.kernels] if level is not None else []
    if not kernels or not before or not question.is_comparing or CheckName.DEVICE_TIME not in question.asked:
        return None
    return decide_device_time(kernels, before, question.config.limits.device_time)


def estimate_of(process: ProcessRecord) -> ProcessEstimate:
    """Return what a process knows about the candidate's time over the reference's."""
    ratio = process.candidate_to_reference
    return ProcessEstimate(ratio.log_ratio, ratio.variance, ratio.blocks)


def _how_sure(decision: Decision) -> tuple[str, ...]:
    line = (
        f"{decision.processes} process{'es' if decision.processes > 1 else ''}, one process varies by "
        f"{format_percent(decision.process_sd)}; the smallest change this evidence would find in 95 % of runs is "
        f"{format_percent(decision.minimum_detectable_effect)}"
    )
    return (line,)


def _shifted(interval: Interval) -> Interval:
    """Turn an interval of a relative change into one of the ratio."""
    return Interval(1 + interval.low, 1 + interval.high, interval.confidence)
