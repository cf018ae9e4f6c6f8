"""What a run adds to the shared history: one entry for each case, and the label by which it is found again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from statistics import fmean
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from pytest_nnopt.baseline.schema import CaseId, Digest, Evidence, Moment, Reason, Record, Recording, Revision
from pytest_nnopt.environment import Environment, FieldValue
from pytest_nnopt.errors import HistoryError
from pytest_nnopt.model import Outcome

LARGEST_ENTRY_BYTES = 4 * 2**20
"""As of a baseline's file."""

_SOUND = (Outcome.PASSED, Outcome.IMPROVED)

RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Branch = Annotated[str, Field(min_length=1, max_length=400)]
_FieldName = Annotated[str, Field(max_length=200)]
_Fields = Annotated[dict[_FieldName, FieldValue], Field(max_length=500)]


class Entry(Record):
    """What one run measured of one case. It is written once and never changed.

    Attributes:
        schema_version: which schema it follows, written as ``schema``.
        run: id of the run, made at random.
        case: id of the case.
        recorded: when the case was judged.
        revision: commit of the measured code, where there is one.
        branch: what was checked out; None where that is unknown. A pull request is never a branch of its target's name.
        environment: digest of the environment.
        fields: its full fingerprint.
        outcome: the worst of the case's checks.
        has_passed: whether the whole test passed, teardown included.
        recording: whether an update accepted the evidence: as a new level, or as more of the one there was.
        starts_anew: whether drift counts from it on.
        reason: why a worse figure was accepted.
        evidence: what was measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    run: RunId
    case: CaseId
    recorded: Moment
    revision: Revision | None = None
    branch: Branch | None = None
    environment: Digest
    fields: _Fields
    outcome: Outcome
    has_passed: bool
    recording: Literal["replace", "append"] | None = None
    starts_anew: bool = False
    reason: Reason | None = None
    evidence: Evidence

    @model_validator(mode="after")
    def _digest_is_of_the_fields(self) -> Entry:
        if Environment(self.fields).digest != self.environment:
            raise ValueError("the environment's digest is not that of its fields")
        return self

    def to_text(self) -> str:
        """Return the one form in which an entry is kept, wherever that is."""
        return self.model_dump_json(by_alias=True, exclude_defaults=False)

    def to_recording(self) -> Recording:
        """Return the entry as a baseline would hold it."""
        return Recording(
            recorded=self.recorded,
            environment=self.environment,
            revision=self.revision,
            reason=self.reason,
            evidence=self.evidence,
        )


@dataclass(frozen=True, slots=True)
class Label:
    """What a store can say of an entry without reading it.

    Attributes:
        case: id of the case.
        recorded: when it was judged.
        run: id of the run.
        environment: digest of the environment.
        branch_key: stands for the branch; see ``branch_key``.
        is_sound: whether it may become part of a level: its test passed, and so did every check or an update took it.
        is_new_level: whether an update accepted it as another level, so that what came before no longer counts.
        revision: the commit's first twelve digits; None where there is none.
        processes: how many processes were measured.
        log_ratio: mean natural logarithm of candidate over reference time, in millionths; None of no processes.
    """

    case: str
    recorded: datetime
    run: str
    environment: str
    branch_key: str
    is_sound: bool
    is_new_level: bool
    revision: str | None
    processes: int
    log_ratio: int | None

    @classmethod
    def of(cls, entry: Entry) -> Label:
        """Return the label of an entry."""
        timing = entry.evidence.timing
        is_accepted = entry.recording is not None or entry.outcome in _SOUND
        return cls(
            case=entry.case,
            recorded=entry.recorded.astimezone(timezone.utc),
            run=entry.run,
            environment=entry.environment,
            branch_key=branch_key(entry.branch),
            is_sound=entry.has_passed and is_accepted and not entry.outcome.is_failure,
            is_new_level=entry.recording == "replace" or bool(entry.recording and entry.starts_anew and timing),
            revision=_short(entry.revision),
            processes=len(timing),
            log_ratio=round(1e6 * fmean(one.candidate_to_reference.log_ratio for one in timing)) if timing else None,
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries of a case are wanted.

    Attributes:
        newest: how many at most, the newest ones.
        branch: of this branch alone; None takes every one.
        is_sound: only those that may become part of a level.
    """

    newest: int
    branch: str | None = None
    is_sound: bool = False

    def takes(self, label: Label) -> bool:
        """Whether an entry is of the wanted kind."""
        is_of_branch = self.branch is None or label.branch_key == branch_key(self.branch)
        return is_of_branch and (label.is_sound or not self.is_sound)


def branch_key(branch: str | None) -> str:
    """Return eight digits that stand for a branch in a label; its name may hold anything. None is ``-``."""
    return "-" if branch is None else hashlib.sha256(branch.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def parse_entry(content: bytes | str, place: str) -> Entry:
    """Read an entry through its schema.

    Args:
        content: its text.
        place: names it in an error.

    Raises:
        HistoryError: it cannot be relied upon.
    """
    if len(content) > LARGEST_ENTRY_BYTES:
        raise HistoryError(f"{place} is larger than {LARGEST_ENTRY_BYTES} bytes; {_REMEDY}")
    try:
        return Entry.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in detail["loc"]) or "entry"
        newer = "; a newer pytest-nnopt may have written it" if where == "schema" else ""
        raise HistoryError(f"{place} is no valid entry: {where}: {detail['msg']}{newer}; {_REMEDY}") from None


def require_label(entry: Entry, label: Label, place: str) -> Entry:
    """Return an entry that is what its label says.

    Raises:
        HistoryError: it is another one, so that it was found by mistake.
    """
    if Label.of(entry) != label:
        raise HistoryError(f"{place} holds something else than its name says ({entry.case!r}); {_REMEDY}")
    return entry


_REMEDY = "remove it from the history, nothing else depends on it"


def _short(revision: str | None) -> str | None:
    digits = "" if revision is None else revision[:12]
    return digits if digits and set(digits) <= set("0123456789abcdef") else None
