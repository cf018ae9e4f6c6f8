"""Whether a run's evidence becomes part of a baseline, and what it changes there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from pytest_nnopt.baseline.anchor import anchors_with
from pytest_nnopt.baseline.compilation import generated_code
from pytest_nnopt.baseline.level import with_recording
from pytest_nnopt.baseline.numbers import NumericsLevel
from pytest_nnopt.baseline.schema import EARLIEST, LATEST, CaseBaseline, Recording
from pytest_nnopt.errors import BaselineError
from pytest_nnopt.model import CODE_COUNTERS, CheckName, Outcome
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict.device_time import decide_device_time
from pytest_nnopt.verdict.drift import find_drift
from pytest_nnopt.verdict.fitness import find_noise, find_unsoundness
from pytest_nnopt.verdict.imported import describe_new
from pytest_nnopt.verdict.launched import with_kernels
from pytest_nnopt.verdict.times import compare_times

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_nnopt.baseline.schema import Evidence, MemoryRecord
    from pytest_nnopt.baseline.store import BaselineStore
    from pytest_nnopt.results import CaseMessage, CaseResult, CheckRecord
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.verdict import Question

_STEP_SHARE = 0.1
"""Of the limit for memory: growth by less than this is no step."""

HowToRecord = Literal["replace", "append"]


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """What becomes of a run's evidence.

    Attributes:
        how: ``replace`` makes it the baseline's new level, ``append`` adds it to that there is, None leaves it out.
        changes: what that changes, in words.
        refusal: why evidence that was to be recorded is not; None where it is, or was not to be.
        reason: the user's words for accepting a worse figure; None where no figure is worse.
        starts_anew: whether drift counts from this level on: it is faster, of another model, or accepted as worse.
    """

    how: HowToRecord | None = None
    changes: tuple[str, ...] = ()
    refusal: str | None = None
    reason: str | None = None
    starts_anew: bool = False


@dataclass(frozen=True, slots=True)
class _Changes:
    """How new evidence differs from the level: in words, what is worse, and whether it is another level of speed."""

    texts: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    starts_anew: bool = False


def plan_recording(
    question: Question, result: CaseResult, *, worse: Sequence[str] = (), reason: str | None = None
) -> RecordingPlan:
    """Decide whether a result is recorded, and how.

    Evidence that agrees with the level there is joins it, so that updates of unchanged code make the baseline surer of
    its own variance; evidence that differs replaces it. What is wrong, unsound, too noisy for the gate, or worse
    without a reason is refused.

    Args:
        question: what the case was asked.
        result: what became of it.
        worse: figures that the gate would not let pass against the accepted level.
        reason: why worse figures are accepted.
    """
    level = None if question.foreign_times is not None else question.baseline
    is_missing = level is None
    is_wanted = question.is_updating or (question.is_comparing and question.is_recording_missing and is_missing)
    if not is_wanted:
        return RecordingPlan()
    refusal = _refusal(question, result)
    if refusal is not None:
        return RecordingPlan(refusal=refusal)
    if level is None:
        changed = (describe_new(question.imported, result.timing), question.unused)
        return RecordingPlan("replace", tuple(filter(None, changed)), starts_anew=True)
    changes = _changes(question, level, result)
    worse = (*worse, *changes.worse)
    if worse and reason is None:
        return RecordingPlan(
            refusal=f"it is worse than what was accepted: {worse[0]}; if that is intended, say why with "
            "--nnopt-reason TEXT"
        )
    return RecordingPlan(
        "replace" if changes.texts or worse else "append",
        changes.texts or worse[:1],
        reason=reason if worse else None,
        starts_anew=changes.starts_anew or bool(worse),
    )


def _refusal(question: Question, result: CaseResult) -> str | None:
    """Say why a result can be no baseline, whatever it is compared with; None where it can."""
    failed = [check.name.value for check in result.checks if check.outcome is Outcome.FAILED]
    missing = [check.name.value for check in result.checks if check.outcome is Outcome.NO_BASELINE]
    if failed or missing:
        return f"its checks do not pass ({', '.join(failed or missing)}); mend what they name first"
    unsoundness = find_unsoundness(result.timing)
    if unsoundness is not None:
        return f"its times are unsound: {unsoundness}"
    return find_noise(question, result.timing)


def propose_refresh(question: Question, result: CaseResult) -> str | None:
    """Propose to record a result that is better than its baseline each time it was measured; it never fails a case.

    What is not recorded could be lost again unseen. Times count where every one of several processes is faster than
    the baseline is on average; bytes repeat by themselves.
    """
    if not question.is_comparing or question.baseline is None or question.base is not None:
        return None
    better = [check.reason for check in result.checks if _is_repeatedly_better(question.baseline, result, check)]
    if not better:
        return None
    return f"{result.id} is better than its baseline: {'; '.join(better)}; keep that with pytest --nnopt-update"


def _is_repeatedly_better(level: Evidence, result: CaseResult, check: CheckRecord) -> bool:
    if check.outcome is not Outcome.IMPROVED:
        return False
    if check.name is not CheckName.LATENCY:
        return check.name in (CheckName.MEMORY, CheckName.DEVICE_TIME)
    before = fmean(process.candidate_to_reference.log_ratio for process in level.timing)
    now = [process.candidate_to_reference.log_ratio for process in result.timing]
    return len(now) > 1 and max(now) < before


def commit(store: BaselineStore, message: CaseMessage, *, revision: str | None = None) -> Path:
    """Write a recorded case into the store and return its file; of two at once, the second sees what the first wrote.

    Raises:
        BaselineError: the store cannot be read, or another process does not let go of it.
        OutputError: the store cannot be written; what was there is untouched.
    """
    environment = message.to_environment()
    with store.exclusive():
        baseline = store.read(environment.name, message.result.id)
        before = baseline.recordings if baseline is not None else ()
        recording = Recording(
            recorded=_moment_after(before),
            environment=environment.digest,
            revision=revision,
            reason=message.reason,
            evidence=message.result.evidence,
        )
        recordings = with_recording(before, recording, replaces=message.recording == "replace")
        anchors = anchors_with(baseline, recording, starts_anew=message.starts_anew)
        after = CaseBaseline(case=message.result.id, recordings=recordings, anchors=anchors)
        path = store.write(environment, after)
        store.replace_imported(message.result.id)
    return path


def _moment_after(before: Sequence[Recording]) -> datetime:
    """Return now, but later than any recording before: a clock that was set back must not turn the history round.

    Raises:
        BaselineError: the clock is far off.
    """
    now = datetime.now(timezone.utc).replace(microsecond=0)
    moment = max([now, *(recording.recorded + timedelta(seconds=1) for recording in before)])
    if not EARLIEST <= moment < LATEST:
        raise BaselineError(
            f"the clock says {now.isoformat()}, and a recording would be of {moment.isoformat()}; set the clock, "
            "remove recordings of such a time, then record again"
        )
    return moment


def _compile_changes(before: Evidence, now: CaseResult) -> list[str]:
    """Name the judged figures of a compilation that differ, those of generated code where both know them.

    Where the compiler chose by timing what it generated, they differ if no compilation of one side is like any of the
    other's.
    """
    if before.compile is None or now.compile is None:
        return []
    names = ("graphs", "graph_breaks", "recompiles", "eager_frames")
    pairs = {name: (getattr(before.compile, name), getattr(now.compile, name)) for name in names}
    for name in ("cudagraph_skips", *CODE_COUNTERS):
        old, new = (
            [code[name] for code in (record.counters, *generated_code(timing)) if name in code]
            for record, timing in ((before.compile, before.timing), (now.compile, now.timing))
        )
        if old and new and (max(old) < min(new) or max(new) < min(old)):
            pairs[name] = (old[0], new[0])
    return [f"{name.replace('_', ' ')} {old} → {new}" for name, (old, new) in pairs.items() if old != new]


def _numerics_changes(question: Question, before: Evidence, now: CaseResult) -> _Changes:
    """Say whether the reference is another one, or the candidate's error larger."""
    drift = find_drift(
        NumericsLevel(now.numerics, now.origin),
        NumericsLevel(before.numerics, before.origin),
        growth=question.config.limits.error_growth,
    )
    if drift.why_not_told is not None:
        return _Changes(("other numbers",), starts_anew=True)
    grown = tuple(f"the candidate's error: {what}" for what in drift.grown[:1])
    changed = tuple(f"the reference: {what}" for what in drift.changed[:1])
    return _Changes((*changed, *grown), worse=grown, starts_anew=bool(changed))


def _time_changes(question: Question, before: Evidence, now: CaseResult) -> _Changes:
    """Say whether the candidate became faster or slower, whether or not that was asked.

    Of a model that changed itself the ratio to eager says nothing.
    """
    decision = compare_times(question, now.timing, before.timing)
    changes = _changes_by(decision, "latency", is_best=_is_best(question, now))
    return replace(changes, worse=()) if question.changed_work else changes


def _device_time_changes(question: Question, before: Evidence, now: CaseResult) -> _Changes:
    """Say whether a GPU's kernels became faster or slower, whether or not that was asked."""
    kernels, kernels_before = with_kernels(now.timing), with_kernels(before.timing)
    if not kernels or not kernels_before:
        return _Changes()
    decision = decide_device_time(kernels, kernels_before, question.config.limits.device_time, question.plan)
    return _changes_by(decision, "device time", is_best=_is_best(question, now))


def _changes_by(decision: Decision, what: str, *, is_best: bool) -> _Changes:
    if decision.outcome not in (Outcome.FAILED, Outcome.IMPROVED):
        return _Changes()
    text = f"{what} {format_percent(decision.change, signed=True)}"
    is_worse = decision.outcome is Outcome.FAILED
    return _Changes((text,), worse=(text,) if is_worse else (), starts_anew=is_best and not is_worse)


def _is_best(question: Question, now: CaseResult) -> bool:
    """Return whether a result is as good as the best level was: else that one stays what drift counts from."""
    best = question.baseline if question.anchor is None else question.anchor.evidence
    assert best is not None
    is_slower = bool(best.timing) and compare_times(question, now.timing, best.timing).interval.low > 0
    tolerated = _STEP_SHARE * question.config.limits.memory
    return not is_slower and not (best.memory and now.memory and _needs_more(now.memory, best.memory, tolerated))


def _needs_more(now: MemoryRecord, before: MemoryRecord, tolerated: float) -> bool:
    """Return whether the candidate needs more bytes than before, of whatever kind, by more than a fraction."""
    kinds = [name for name in type(now).model_fields if name.startswith("candidate_")]
    pairs = [(getattr(now, name), getattr(before, name)) for name in kinds]
    return any(is_now > (1 + tolerated) * was for is_now, was in pairs if is_now is not None and was is not None)


def _changes(question: Question, before: Evidence, now: CaseResult) -> _Changes:
    work = tuple(f"the model's work: {what}" for what in question.changed_work[:1])
    found = [_Changes(work, starts_anew=bool(work)), _Changes(tuple(_compile_changes(before, now)))]
    if before.timing and now.timing:
        found.append(_time_changes(question, before, now))
        found.append(_device_time_changes(question, before, now))
    if before.numerics and now.numerics:
        found.append(_numerics_changes(question, before, now))
    return _Changes(
        texts=tuple(text for one in found for text in one.texts),
        worse=tuple(text for one in found for text in one.worse),
        starts_anew=any(one.starts_anew for one in found),
    )
