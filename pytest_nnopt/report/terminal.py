"""The terminal section: every case in one table, failures first, what was open, and how noisy it was."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.model import Outcome
from pytest_nnopt.report.figures import describe_evidence
from pytest_nnopt.report.noise import describe_noise
from pytest_nnopt.report.rows import NO_FIGURE, Row, in_words, rows_of

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult

WIDTH = 80
_HEADS = ("case", "speedup", "latency", "passed", "outcome")
_GAP = "  "
_NARROWEST_CASE = 16
_WIDEST_OUTCOME = 26
"""Columns of an outcome with its checks, unless every id leaves it more."""
_UNBREAKABLE = "\u00a0%"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the section and the outcome that colours it; None for plain text."""

    text: str
    outcome: Outcome | None = None


def render_section(results: Iterable[CaseResult], *, width: int = WIDTH, is_verbose: bool = False) -> list[Line]:
    """Say everything about the cases of a run.

    Args:
        results: the cases.
        width: columns of the terminal.
        is_verbose: whether every figure is said, too.
    """
    rows = rows_of(results)
    ordered = [row.result for row in rows]
    lines = render_table(rows, width=width)
    if is_verbose:
        lines += [line for result in ordered for line in _all_figures(result, width)] + [Line("")]
    else:
        lines += _open_questions(ordered, width)
    noise = describe_noise(ordered)
    if noise is not None:
        lines += _wrapped(f"noise: {noise}", width)
    return lines + _machine_concerns(ordered, width)


def render_table(rows: Sequence[Row], *, width: int = WIDTH) -> list[Line]:
    """Lay the cases out in one table that fits into ``width`` columns; a column without a figure is left out."""
    cells = [(row.case_id, row.speedup, row.latency, row.passed, _outcome(row)) for row in rows]
    columns = [
        (head, *column)
        for head, *column in zip(_HEADS, *cells, strict=True)
        if head == _HEADS[0] or any(cell != NO_FIGURE for cell in column)
    ]
    if rows:
        columns[-1] = _fit_outcomes(columns, width)
    others = sum(len(_GAP) + max(map(len, column)) for column in columns[1:])
    room = max(width - others, _NARROWEST_CASE)
    columns[0] = tuple(_cut_start(cell, room) for cell in columns[0])
    widths = [max(map(len, column)) for column in columns]
    head, *body = [_align(cells, widths) for cells in zip(*columns, strict=True)]
    return [Line(head), *(Line(text, row.result.outcome) for text, row in zip(body, rows, strict=True))]


def _fit_outcomes(columns: Sequence[tuple[str, ...]], width: int) -> tuple[str, ...]:
    """Cut the last column where the others, ids in full length, leave no room for it."""
    *others, outcomes = columns
    left = width - sum(max(map(len, column)) + len(_GAP) for column in others)
    return tuple(_cut_end(cell, max(left, _WIDEST_OUTCOME)) for cell in outcomes)


def _outcome(row: Row) -> str:
    return f"{row.outcome}: {row.because}" if row.because else row.outcome


def _all_figures(result: CaseResult, width: int) -> list[Line]:
    lines = ["", f"{result.id}: {in_words(result.outcome)}"]
    for check in sorted(result.checks, key=lambda check: -check.outcome.severity):
        lines += _indented(f"{check.name.value} {in_words(check.outcome)}: {check.reason}", width, "  ")
        lines += [line for detail in check.details for line in _indented(detail, width, "    ")]
    for line in describe_evidence(result.evidence):
        lines += _indented(line, width, "  ")
    head, *rest = lines[1:]
    return [Line(""), Line(head, result.outcome), *map(Line, rest)]


def _open_questions(results: Sequence[CaseResult], width: int) -> list[Line]:
    """Say aloud what could not be told, since an inconclusive case does not fail its test."""
    return [
        line
        for result in results
        for check in result.checks
        if result.outcome is check.outcome is Outcome.INCONCLUSIVE
        for line in _wrapped(f"could not tell: {result.id}: {check.reason}", width, Outcome.INCONCLUSIVE)
    ]


def _machine_concerns(results: Sequence[CaseResult], width: int) -> list[Line]:
    """Say what spoke against timing on this machine: of each kind an example, and how many processes saw it."""
    processes = [process for result in results for process in result.timing]
    seen = Counter(kind for process in processes for kind in process.concerns)
    examples = {kind: text for process in processes for kind, text in process.concerns.items()}
    return [
        line
        for kind, count in seen.most_common()
        for line in _wrapped(
            f"machine, in {count} of {len(processes)} processes: {examples[kind]}", width, Outcome.INCONCLUSIVE
        )
    ]


def _wrapped(text: str, width: int, outcome: Outcome | None = None) -> list[Line]:
    return [Line(part, outcome) for part in _indented(text, width, "")]


def _indented(text: str, width: int, indent: str) -> list[str]:
    """Break text at blanks; a line that goes on is indented further, and one that says its own indent keeps it."""
    lines = []
    for line in text.splitlines() or [""]:
        own = indent + line[: len(line) - len(line.lstrip())]
        lines += textwrap.wrap(
            line.strip().replace(" %", _UNBREAKABLE),
            width,
            initial_indent=own,
            subsequent_indent=f"{own}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [line.replace(_UNBREAKABLE, " %") for line in lines]


def _cut_start(text: str, width: int) -> str:
    """Keep the end of a long id, where it differs from its neighbours."""
    return text if len(text) <= width else "…" + text[-width + 1 :]


def _cut_end(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
