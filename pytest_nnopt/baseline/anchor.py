"""The best level that was accepted: what a case's level is still held against after many small steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.level import level_of
from pytest_nnopt.baseline.schema import Evidence

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CaseBaseline, ProcessRecord, Recording


def anchor_of(baseline: CaseBaseline | None, digest: str) -> Recording | None:
    """Return the best accepted level of an environment; None where the present level is its best."""
    anchors = () if baseline is None else baseline.anchors
    return next((anchor for anchor in anchors if anchor.environment == digest), None)


def anchors_with(baseline: CaseBaseline | None, recording: Recording, *, starts_anew: bool) -> tuple[Recording, ...]:
    """Return a case's anchors once another recording has been accepted.

    Args:
        baseline: what there was before; None of a new case.
        recording: the accepted one.
        starts_anew: whether drift counts from it on: it is better, of another model, or was accepted as worse.
    """
    if baseline is None:
        return ()
    others = tuple(anchor for anchor in baseline.anchors if anchor.environment != recording.environment)
    if starts_anew:
        return others
    if not (recording.evidence.timing or recording.evidence.memory):
        return baseline.anchors
    anchor = anchor_of(baseline, recording.environment) or _as_anchor(
        [before for before in baseline.recordings if before.environment == recording.environment]
    )
    return others if anchor is None else (*others, anchor)


def _as_anchor(recordings: Sequence[Recording]) -> Recording | None:
    """Join the recordings of a level into one that keeps what drift is seen in; None where that was not measured."""
    level = level_of(recordings)
    if level is None or not (level.timing or level.memory):
        return None
    evidence = Evidence(timing=tuple(map(_without_yardstick, level.timing)), memory=level.memory)
    return recordings[-1].model_copy(update={"evidence": evidence, "reason": None})


def _without_yardstick(process: ProcessRecord) -> ProcessRecord:
    """Drop what moves with the machine's state of the day, and what only a report wants to know."""
    return process.model_copy(update={"candidate_to_yardstick": None, "concerns": {}})
