"""The check of compile health: what was asked for, compiled whole, and no worse than the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nnopt.files import short_path
from pytest_nnopt.model import Check, CheckName, CompileFacts, CompileStatus, Outcome
from pytest_nnopt.verdict.question import without_baseline

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord
    from pytest_nnopt.verdict.question import Question

_SHOWN_LINES = 5


def check_compile(question: Question, facts: CompileFacts) -> Check:
    """Ask whether the candidate is what was asked for, compiled whole, and no worse than the baseline."""
    problems = _compile_problems(question, facts)
    value = None if facts.graph_breaks is None else float(len(facts.graph_breaks))
    if problems:
        summary, *details = problems
        return Check(CheckName.COMPILE, Outcome.FAILED, summary, value=value, details=tuple(details))
    if facts.status is CompileStatus.OWN_CANDIDATE:
        return Check(CheckName.COMPILE, Outcome.SKIPPED, "the test's own candidate is not compiled by torch.compile")
    if is_nothing_compiled(facts):
        reason = "nothing is compiled: the test's fallback chain ended at eager, as its marker allows"
        return Check(CheckName.COMPILE, Outcome.SKIPPED, reason, details=_attempts(facts))
    passed = Check(CheckName.COMPILE, Outcome.PASSED, _describe_compilation(facts), value, details=_attempts(facts))
    unanswered = filter(None, (_compile_without_baseline(question), _uncounted(question, facts)))
    return max(unanswered, key=lambda check: check.outcome.severity, default=passed)


def is_nothing_compiled(facts: CompileFacts) -> bool:
    """Whether what was to be compiled is not, so that the answers to all other questions say nothing."""
    has_ended_eager = facts.status is CompileStatus.FELL_BACK and facts.used == "eager"
    return has_ended_eager or facts.status in (CompileStatus.FAILED, CompileStatus.NOTHING_COMPILED)


def _compile_without_baseline(question: Question) -> Check | None:
    """Return the answer where there should be a recorded compilation and is none, None where there is or need not."""
    if not question.is_comparing:
        return None
    if question.baseline is None:
        return without_baseline(question, CheckName.COMPILE, None)
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
