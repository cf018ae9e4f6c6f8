"""What every overview says of a case, in words, worst case first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.units import format_percent

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult

NO_FIGURE = "-"
_GOOD = (Outcome.PASSED, Outcome.IMPROVED)


@dataclass(frozen=True, slots=True)
class Row:
    """One case of an overview.

    Attributes:
        result: what the row is about.
        speedup: reference time over candidate time.
        latency: change against the baseline.
        passed: how many of the answered checks passed.
        outcome: the verdict.
        because: the checks that made it so, where it is not good.
    """

    result: CaseResult
    speedup: str
    latency: str
    passed: str
    outcome: str
    because: str

    @property
    def case_id(self) -> str:
        """Id of the case."""
        return self.result.id


def rows_of(results: Iterable[CaseResult]) -> list[Row]:
    """Return the rows of an overview, worst first, then by id."""
    ordered = sorted(results, key=lambda result: (-result.outcome.severity, result.id))
    return [_row(result) for result in ordered]


def count_outcomes(results: Iterable[CaseResult]) -> str:
    """Say how many cases ended how, worst first: ``1 failed, 3 passed``."""
    outcomes = [result.outcome for result in results]
    counted = sorted(set(outcomes), key=lambda outcome: -outcome.severity)
    return ", ".join(f"{outcomes.count(outcome)} {in_words(outcome)}" for outcome in counted)


def in_words(outcome: Outcome) -> str:
    """Return an outcome as people read it."""
    return outcome.value.replace("_", " ")


def _row(result: CaseResult) -> Row:
    answered = [check for check in result.checks if check.outcome is not Outcome.SKIPPED]
    passed = [check for check in answered if check.outcome in _GOOD]
    because = [check.name.value for check in answered if check.outcome is result.outcome and check not in passed]
    speedup = result.speedup
    return Row(
        result=result,
        speedup=NO_FIGURE if speedup is None else f"{speedup:.2f}x",
        latency=_latency(result),
        passed=f"{len(passed)}/{len(answered)}",
        outcome=in_words(result.outcome),
        because=", ".join(because),
    )


def _latency(result: CaseResult) -> str:
    values = [check.value for check in result.checks if check.name is CheckName.LATENCY and check.value is not None]
    return format_percent(values[0], signed=True) if values else NO_FIGURE
