"""The terminal section: every case in one table, failures first, and what was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.units import format_percent

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult

_HEADS = ("case", "speedup", "latency", "numerics", "compile", "outcome")
_WIDEST_CASE = 42
_MARKS = {
    Outcome.PASSED: "ok",
    Outcome.IMPROVED: "better",
    Outcome.FAILED: "FAILED",
    Outcome.INCONCLUSIVE: "unsure",
    Outcome.NO_BASELINE: "none",
    Outcome.SKIPPED: "-",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the section and the outcome that colours it; None for plain text."""

    text: str
    outcome: Outcome | None = None


def render_table(results: Iterable[CaseResult]) -> list[Line]:
    """Lay the cases out in one table, worst first, at most 100 columns wide."""
    ordered = sorted(results, key=lambda result: (-result.outcome.severity, result.id))
    rows = [_row(result) for result in ordered]
    widths = [max(len(cell) for cell in column) for column in zip(_HEADS, *rows, strict=True)]
    lines = [Line(_align(_HEADS, widths))]
    lines += [Line(_align(row, widths), result.outcome) for row, result in zip(rows, ordered, strict=True)]
    return lines + _open_questions(ordered) + _machine_concerns(ordered)


def _row(result: CaseResult) -> tuple[str, ...]:
    outcomes = {check.name: check.outcome for check in result.checks}
    return (
        _shorten(result.id),
        _speedup(result),
        _latency(result),
        _mark(outcomes.get(CheckName.NUMERICS)),
        _mark(outcomes.get(CheckName.COMPILE)),
        result.outcome.value,
    )


def _speedup(result: CaseResult) -> str:
    speedup = result.speedup
    return "-" if speedup is None else f"{speedup:.2f}x"


def _latency(result: CaseResult) -> str:
    for check in result.checks:
        if check.name is CheckName.LATENCY:
            return _mark(check.outcome) if check.value is None else format_percent(check.value, signed=True)
    return "-"


def _open_questions(results: Sequence[CaseResult]) -> list[Line]:
    """Say aloud what could not be told, since an inconclusive case does not fail its test."""
    return [
        Line(f"could not tell: {result.id}: {check.reason}", Outcome.INCONCLUSIVE)
        for result in results
        for check in result.checks
        if check.outcome is Outcome.INCONCLUSIVE
    ]


def _machine_concerns(results: Sequence[CaseResult]) -> list[Line]:
    """Say what spoke against timing on this machine: of each kind an example, and how many processes saw it."""
    processes = [process for result in results for process in result.timing]
    seen = Counter(kind for process in processes for kind in process.concerns)
    examples = {kind: text for process in processes for kind, text in process.concerns.items()}
    return [
        Line(f"machine, in {count} of {len(processes)} processes: {examples[kind]}", Outcome.INCONCLUSIVE)
        for kind, count in seen.most_common()
    ]


def _mark(outcome: Outcome | None) -> str:
    return "-" if outcome is None else _MARKS[outcome]


def _shorten(case_id: str) -> str:
    """Keep the end of a long id, where it differs from its neighbours."""
    return case_id if len(case_id) <= _WIDEST_CASE else "…" + case_id[-_WIDEST_CASE + 1 :]


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first, *rest]).rstrip()
