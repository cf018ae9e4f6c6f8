"""Which recordings of a case may be compared with here and now, and the level they make together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.schema import Evidence

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CaseBaseline, Recording
    from pytest_nnopt.baseline.source import BaselineSource
    from pytest_nnopt.environment import Environment

MOST_PROCESSES = 20
"""Most processes that a level holds, the newest ones; more would outweigh what changed since."""


def comparable_recordings(
    store: BaselineSource, case_id: str, environment: Environment
) -> tuple[tuple[Recording, ...], str]:
    """Return the recordings made under the same conditions, or none and why there is none, with the remedy.

    Raises:
        BaselineError: the case's baseline cannot be relied upon.
    """
    baseline = store.read(environment.name, case_id)
    if baseline is None:
        return (), _explain_missing(store, case_id, environment)
    usable = tuple(recording for recording in baseline.recordings if recording.environment == environment.digest)
    return usable, "" if usable else _explain_foreign(store, baseline, environment)


def level_of(recordings: Sequence[Recording]) -> Evidence | None:
    """Join recordings of one level: the evidence of the last one, with the times of all; None of no recordings."""
    if not recordings:
        return None
    timing = tuple(process for recording in recordings for process in recording.evidence.timing)
    return recordings[-1].evidence.model_copy(update={"timing": timing[-MOST_PROCESSES:]})


def levels_of(baseline: CaseBaseline) -> list[Evidence]:
    """Return the level of each environment that a case has recordings of."""
    grouped: dict[str, list[Recording]] = {}
    for recording in baseline.recordings:
        grouped.setdefault(recording.environment, []).append(recording)
    return [level for recordings in grouped.values() if (level := level_of(recordings)) is not None]


def with_recording(before: Sequence[Recording], new: Recording, *, replaces: bool) -> tuple[Recording, ...]:
    """Return a case's recordings once another has been accepted.

    What the new one did not measure is taken from the level there was, so that a partial update loses nothing.
    Recordings of other environments stay as they are.

    Args:
        before: the recordings there are, oldest first.
        new: the accepted one.
        replaces: whether it makes a new level instead of joining the one there is.
    """
    same = [recording for recording in before if recording.environment == new.environment]
    completed = new.model_copy(update={"evidence": _completed(new.evidence, same)})
    is_new_level = replaces and bool(new.evidence.timing)
    earlier = [] if is_new_level else _needed(same, MOST_PROCESSES - len(new.evidence.timing))
    others = [recording for recording in before if recording.environment != new.environment]
    keeps_code = not (replaces and new.evidence.compile is not None)
    return (*others, *(_times_alone(recording, keeps_code=keeps_code) for recording in earlier), completed)


def _completed(evidence: Evidence, earlier: Sequence[Recording]) -> Evidence:
    """Take what was not measured from the newest recording that has it; times stay with their own recordings."""
    parts = [name for name in Evidence.model_fields if name != "timing"]
    for recording in reversed(earlier):
        absent = {name: getattr(recording.evidence, name) for name in parts if not getattr(evidence, name)}
        evidence = evidence.model_copy(update=absent)
    return evidence


def _needed(recordings: Sequence[Recording], processes: int) -> list[Recording]:
    """Return the newest recordings that make up so many processes; one without times is not needed."""
    needed: list[Recording] = []
    for recording in reversed(recordings):
        if processes > 0 and recording.evidence.timing:
            needed.insert(0, recording)
            processes -= len(recording.evidence.timing)
    return needed


def _times_alone(recording: Recording, *, keeps_code: bool) -> Recording:
    """Return a recording with nothing but its times, and what was compiled to be timed unless that is another code."""
    timing = recording.evidence.timing
    if not keeps_code:
        timing = tuple(process.model_copy(update={"code": {}}) for process in timing)
    return recording.model_copy(update={"evidence": Evidence(timing=timing)})


def unused_recordings(store: BaselineSource, case_id: str, environment: Environment) -> str:
    """Say which recordings of a case there are that are not compared with, and why; empty where there are none.

    Raises:
        BaselineError: a baseline of the case cannot be relied upon.
    """
    baseline = store.read(environment.name, case_id)
    if baseline is not None:
        return f"what is there was recorded under other conditions ({_conditions(store, baseline, environment)})"
    elsewhere = [_name_differences(store, name, case_id, environment) for name in store.environments_with(case_id)]
    return f"there are baselines for {', '.join(elsewhere)}" if elsewhere else ""


def _explain_missing(store: BaselineSource, case_id: str, environment: Environment) -> str:
    unused = unused_recordings(store, case_id, environment)
    known = f" ({unused})" if unused else ""
    return f"no baseline for {case_id!r} on {environment.name!r}{known}; {store.remedy}"


def _name_differences(store: BaselineSource, name: str, case_id: str, environment: Environment) -> str:
    """Name an environment in which a case has a baseline, with what its newest recording depends on that differs."""
    baseline = store.read(name, case_id)
    recorded = None if baseline is None else store.fingerprint(name, baseline.recordings[-1].environment)
    differences = [] if recorded is None else environment.differences(recorded)
    return f"{name!r} ({'; '.join(differences)})" if differences else repr(name)


def _explain_foreign(store: BaselineSource, baseline: CaseBaseline, environment: Environment) -> str:
    return (
        f"the baseline of {baseline.case!r} on {environment.name!r} was recorded under other conditions "
        f"({_conditions(store, baseline, environment)}); restore them or {store.remedy}"
    )


def _conditions(store: BaselineSource, baseline: CaseBaseline, environment: Environment) -> str:
    """Name what the newest recording depends on that differs here, with both values."""
    recorded = store.fingerprint(environment.name, baseline.recordings[-1].environment)
    differences = environment.differences(recorded) if recorded is not None else []
    return "; ".join(differences) or "its fingerprint is missing from environment.json"
