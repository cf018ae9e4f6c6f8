"""Whether a run's evidence becomes part of a baseline, and what it changes there."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from pytest_nnopt.baseline.level import with_recording
from pytest_nnopt.baseline.numbers import NumericsLevel
from pytest_nnopt.baseline.schema import CaseBaseline, Recording
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import decide_regression
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict import estimate_of
from pytest_nnopt.verdict.counters import CODE_COUNTERS
from pytest_nnopt.verdict.drift import find_drift

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_nnopt.baseline.schema import CompileRecord, Evidence
    from pytest_nnopt.baseline.store import BaselineStore
    from pytest_nnopt.results import CaseMessage, CaseResult
    from pytest_nnopt.verdict import Question

HowToRecord = Literal["replace", "append"]


def plan_recording(question: Question, result: CaseResult) -> tuple[HowToRecord | None, tuple[str, ...]]:
    """Decide whether a result is recorded, and how.

    Evidence that agrees with the level there is joins it, so that updates of unchanged code make the baseline surer of
    its own variance; evidence that differs replaces it.

    Returns:
        how to record (None: not at all), and what that changes, in words.
    """
    is_missing = question.baseline is None
    is_wanted = question.is_updating or (question.is_comparing and question.is_recording_missing and is_missing)
    if not is_wanted or result.outcome.is_failure:
        return None, ()
    if question.baseline is None:
        return "replace", ("new",)
    changes = _changes(question, question.baseline, result)
    return ("replace" if changes else "append"), changes


def commit(store: BaselineStore, message: CaseMessage, *, revision: str | None = None) -> Path:
    """Write a recorded case into the store and return its file.

    Raises:
        BaselineError: the store cannot be read.
        OutputError: the store cannot be written; what was there is untouched.
    """
    environment = message.to_environment()
    recording = Recording(
        recorded=datetime.now(timezone.utc).replace(microsecond=0),
        environment=environment.digest,
        revision=revision,
        evidence=message.result.evidence,
    )
    baseline = store.read(environment.name, message.result.id)
    before = baseline.recordings if baseline is not None else ()
    recordings = with_recording(before, recording, replaces=message.recording == "replace")
    return store.write(environment, CaseBaseline(case=message.result.id, recordings=recordings))


def _compile_changes(before: CompileRecord, now: CompileRecord) -> list[str]:
    """Name the judged figures of a compilation that differ, those of generated code where both know them."""
    names = ("graphs", "graph_breaks", "recompiles", "eager_frames")
    pairs = {name: (getattr(before, name), getattr(now, name)) for name in names}
    for name in ("cudagraph_skips", *CODE_COUNTERS):
        if name in before.counters and name in now.counters:
            pairs[name] = (before.counters[name], now.counters[name])
    return [f"{name.replace('_', ' ')} {old} → {new}" for name, (old, new) in pairs.items() if old != new]


def _numerics_changes(question: Question, before: Evidence, now: CaseResult) -> list[str]:
    """Say whether the reference is another one, or the candidate's error larger."""
    drift = find_drift(
        NumericsLevel(now.numerics, now.origin),
        NumericsLevel(before.numerics, before.origin),
        growth=question.config.limits.error_growth,
    )
    if drift.why_not_told is not None:
        return ["other numbers"]
    changed = [f"the reference: {drift.changed[0]}"] if drift.changed else []
    return changed + [f"the candidate's error: {what}" for what in drift.grown[:1]]


def _changes(question: Question, before: Evidence, now: CaseResult) -> tuple[str, ...]:
    changes = [f"the model's work: {what}" for what in question.changed_work[:1]]
    if before.compile is not None and now.compile is not None:
        changes += _compile_changes(before.compile, now.compile)
    if before.timing and now.timing:
        decision = decide_regression(
            [estimate_of(process) for process in now.timing],
            [estimate_of(process) for process in before.timing],
            limit=question.latency_limit,
            prior=question.prior,
            plan=question.plan,
        )
        if decision.outcome in (Outcome.FAILED, Outcome.IMPROVED):
            changes.append(f"latency {format_percent(decision.change, signed=True)}")
    if before.numerics and now.numerics:
        changes += _numerics_changes(question, before, now)
    return tuple(changes)
