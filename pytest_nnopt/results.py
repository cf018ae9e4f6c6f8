"""The form in which results travel: from the measuring process to the one that reports, and into result files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from pytest_nnopt.baseline.schema import (
    CaseId,
    Count,
    Evidence,
    Finite,
    Integer,
    Moment,
    NotNegative,
    ProcessRecord,
    Ratio,
    Reason,
    Record,
    Revision,
)
from pytest_nnopt.environment import Environment, FieldValue
from pytest_nnopt.model import Certainty, Check, CheckName, Interval, Outcome, Verdict


class IntervalRecord(Record):
    """A confidence interval in the unit of its value."""

    low: Finite
    high: Finite
    confidence: Finite


class CheckRecord(Record):
    """One question with its answer; see ``model.Check``."""

    name: CheckName
    outcome: Outcome
    reason: str
    value: Finite | None = None
    baseline: Finite | None = None
    limit: Finite | None = None
    interval: IntervalRecord | None = None
    details: tuple[str, ...] = ()
    remedy: str | None = None
    certainty: Certainty | None = None

    @classmethod
    def of(cls, check: Check) -> CheckRecord:
        """Copy a check into its recorded form."""
        interval = check.interval
        return cls(
            name=check.name,
            outcome=check.outcome,
            reason=check.reason,
            value=check.value,
            baseline=check.baseline,
            limit=check.limit,
            interval=IntervalRecord(low=interval.low, high=interval.high, confidence=interval.confidence)
            if interval
            else None,
            details=check.details,
            remedy=check.remedy,
            certainty=check.certainty,
        )

    def to_check(self) -> Check:
        """Return the check that this is the record of."""
        interval = self.interval
        return Check(
            name=self.name,
            outcome=self.outcome,
            reason=self.reason,
            value=self.value,
            baseline=self.baseline,
            limit=self.limit,
            interval=Interval(interval.low, interval.high, interval.confidence) if interval else None,
            details=self.details,
            remedy=self.remedy,
            certainty=self.certainty,
        )


class LeafResult(Record):
    """How one compared leaf stands against its limits; relative errors as of ``baseline.schema.LeafRecord``.

    Attributes:
        path: how the leaf is reached.
        kind: what it is to the model.
        dtype: name of the element type.
        shape: extent of each dimension.
        lane: what it was held against.
        problem: what is wrong, as one clause; None if nothing is.
        excess: the worst error as a multiple of its limit; None where that is not finite, as for a misplaced NaN.
        candidate_nrmse: candidate's root-mean-square error; None where errors were not measured.
        candidate_max: candidate's largest error.
        reference_nrmse: the same for the reference.
        reference_max: the same for the reference.
        limit_nrmse: the largest root-mean-square error that the candidate may have.
        limit_max: the largest error that it may have.
        note: what else there is to know.
    """

    path: str
    kind: str
    dtype: str
    shape: tuple[Count, ...]
    lane: str
    problem: str | None = None
    excess: NotNegative | None = None
    candidate_nrmse: NotNegative | None = None
    candidate_max: NotNegative | None = None
    reference_nrmse: NotNegative | None = None
    reference_max: NotNegative | None = None
    limit_nrmse: NotNegative | None = None
    limit_max: NotNegative | None = None
    note: str | None = None


class RatioSummary(Record):
    """Candidate's time over the reference's, over processes.

    Attributes:
        ratio: the estimate; below 1 the candidate is faster.
        low: lower bound of its interval.
        high: upper bound of its interval.
        confidence: how often such an interval holds the truth.
        processes: how many processes it rests on.
    """

    ratio: Ratio
    low: Ratio
    high: Ratio
    confidence: Ratio
    processes: Count


class HistoryRecord(Record):
    """The times of one recording in brief.

    Attributes:
        recorded: when it was accepted.
        revision: commit of the measured code, where there is one.
        times: candidate's time over the reference's.
    """

    recorded: Moment
    revision: str | None = None
    times: RatioSummary


class CaseContext(Record):
    """What readers of a report want to see beside verdict and evidence; no baseline keeps it.

    Attributes:
        environment: full fingerprint of the process that judged the case.
        baseline_environment: fingerprint of the newest recording that may be compared with, else of the newest one;
            None where there is none.
        leaves: every compared leaf with its limits.
        seeds: seed of the numerics' runs by the name of their inputs, that of the pair's own under ``own``.
        times: candidate's time over the reference's in this run.
        level: what the case was compared with.
        level_times: the level's times.
        history: the recordings that may be compared with, oldest first.
    """

    environment: dict[str, FieldValue]
    baseline_environment: dict[str, FieldValue] | None = None
    leaves: tuple[LeafResult, ...] = ()
    seeds: dict[str, Integer] = Field(default_factory=dict)
    times: RatioSummary | None = None
    level: Evidence | None = None
    level_times: RatioSummary | None = None
    history: tuple[HistoryRecord, ...] = ()


class CaseResult(Evidence):
    """What became of one case: the verdict and the evidence behind it.

    Attributes:
        id: id of the case.
        outcome: the worst of its checks.
        checks: the questions with their answers.
        context: what else a reader wants to see; None in files written before there was such a thing.
        has_passed: whether the whole test passed, teardown included; None where that is not known.
    """

    id: CaseId
    outcome: Outcome
    checks: tuple[CheckRecord, ...] = ()
    context: CaseContext | None = None
    has_passed: bool | None = None

    @model_validator(mode="after")
    def _is_the_worst_of_its_checks(self) -> CaseResult:
        if self.outcome is not self.verdict.outcome:
            raise ValueError(
                f"the outcome {self.outcome.value!r} is not the worst of the checks, {self.verdict.outcome.value!r}"
            )
        return self

    @classmethod
    def of(cls, verdict: Verdict, evidence: Evidence, context: CaseContext | None = None) -> CaseResult:
        """Join a verdict with its evidence."""
        return cls(
            id=verdict.case_id,
            outcome=verdict.outcome,
            checks=tuple(CheckRecord.of(check) for check in verdict.checks),
            context=context,
            **{name: getattr(evidence, name) for name in Evidence.model_fields},
        )

    @property
    def speedup(self) -> float | None:
        """Reference time over candidate time, the geometric mean over processes; None where it was not measured."""
        return speedup_of(self.timing)

    @property
    def verdict(self) -> Verdict:
        """The verdict that this is the record of."""
        return Verdict(self.id, tuple(check.to_check() for check in self.checks))

    @property
    def evidence(self) -> Evidence:
        """The evidence alone, as a baseline keeps it."""
        return Evidence(**{name: getattr(self, name) for name in Evidence.model_fields})


def speedup_of(timing: Sequence[ProcessRecord]) -> float | None:
    """Return reference time over candidate time, the geometric mean over processes; None of no processes."""
    if not timing:
        return None
    return math.exp(-fmean(process.candidate_to_reference.log_ratio for process in timing))


class CaseMessage(Record):
    """A case on its way from the process that measured it to the one that reports.

    Attributes:
        result: what became of the case.
        environment: full fingerprint of the measuring process.
        recording: what the run wants done with the evidence once the whole test has passed: ``replace`` makes it the
            baseline's new level, ``append`` adds it to the level there is.
        changes: what an update changes against the baseline before, in words.
        refusal: why evidence that was to be recorded is not; None where it is, or was not to be.
        reason: the user's words for accepting a worse figure; None where no figure is worse.
        starts_anew: whether drift counts from this evidence on.
        proposal: that a better result should become the baseline; None where there is nothing to propose.
    """

    result: CaseResult
    environment: dict[str, FieldValue]
    recording: Literal["replace", "append"] | None = None
    changes: tuple[str, ...] = ()
    refusal: str | None = None
    reason: Reason | None = None
    starts_anew: bool = False
    proposal: str | None = None

    def to_environment(self) -> Environment:
        """Return the fingerprint as the value object it was made from."""
        return Environment(self.environment)


class ShardRecord(Record):
    """Which part of a run that is spread over several jobs.

    Attributes:
        index: its number, counted from 1.
        count: how many there are.
    """

    index: Annotated[int, Field(ge=1, le=10_000)]
    count: Annotated[int, Field(ge=1, le=10_000)]

    @model_validator(mode="after")
    def _is_one_of_them(self) -> ShardRecord:
        if self.index > self.count:
            raise ValueError(f"there is no shard {self.index} of {self.count}")
        return self


class PartRecord(Record):
    """One of the files that a results file was merged from.

    Attributes:
        name: its file name.
        shard: which part of the run it holds, where it says so.
        revision: commit of the measured code, where there is one.
        cases: how many cases it holds.
    """

    name: str
    shard: ShardRecord | None = None
    revision: Revision | None = None
    cases: Count = 0


class RunResults(Record):
    """A results file: every case of a run, or of one shard of it.

    Attributes:
        schema_version: which schema the file follows, written as ``schema``.
        environment: full fingerprint of the first case's process.
        cases: the cases.
        shard: which part of a run it is; None of a whole run.
        revision: commit of the measured code, where there is one.
        parts: the files it was merged from; empty of a file that a run wrote.
        conflicts: what did not fit together when it was merged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    environment: dict[str, FieldValue]
    cases: tuple[CaseResult, ...]
    shard: ShardRecord | None = None
    revision: Revision | None = None
    parts: tuple[PartRecord, ...] = ()
    conflicts: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The worst of its cases' outcomes; failed where evidence is missing or does not fit together."""
        if self.problems:
            return Outcome.FAILED
        return max((case.outcome for case in self.cases), key=lambda o: o.severity, default=Outcome.SKIPPED)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why a merged file is no complete answer, whatever its cases say: first the shards that are missing."""
        return (*_missing_shards(self.parts), *self.conflicts)


def _missing_shards(parts: Sequence[PartRecord]) -> list[str]:
    """Name the shards that no part holds."""
    shards = [part.shard for part in parts if part.shard is not None]
    counts = sorted({shard.count for shard in shards})
    if len(counts) > 1:
        return [f"shards of different runs: the files say that there are {' and '.join(map(str, counts))} of them"]
    found = {shard.index for shard in shards}
    return [
        f"shard {index} of {count} is missing"
        for count in counts
        for index in range(1, count + 1)
        if index not in found
    ]


def case_environment(results: RunResults, index: int) -> Environment:
    """Return where a case of a results file was measured."""
    context = results.cases[index].context
    return Environment(results.environment if context is None else context.environment)
