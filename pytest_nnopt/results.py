"""The form in which results travel: from the measuring process to the one that reports, and into result files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from pytest_nnopt.baseline.schema import Evidence, Finite, ProcessRecord, Record
from pytest_nnopt.environment import Environment, FieldValue
from pytest_nnopt.model import Check, CheckName, Interval, Outcome, Verdict


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
        )


class CaseResult(Evidence):
    """What became of one case: the verdict and the evidence behind it.

    Attributes:
        id: id of the case.
        outcome: the worst of its checks.
        checks: the questions with their answers.
    """

    id: str
    outcome: Outcome
    checks: tuple[CheckRecord, ...] = ()

    @classmethod
    def of(cls, verdict: Verdict, evidence: Evidence) -> CaseResult:
        """Join a verdict with its evidence."""
        return cls(
            id=verdict.case_id,
            outcome=verdict.outcome,
            checks=tuple(CheckRecord.of(check) for check in verdict.checks),
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
    """

    result: CaseResult
    environment: dict[str, FieldValue]
    recording: Literal["replace", "append"] | None = None
    changes: tuple[str, ...] = ()

    def to_environment(self) -> Environment:
        """Return the fingerprint as the value object it was made from."""
        return Environment(self.environment)


class RunResults(Record):
    """A results file: every case of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    environment: dict[str, FieldValue]
    cases: tuple[CaseResult, ...]
