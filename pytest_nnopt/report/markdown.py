"""The summary as GitHub's Markdown: one table, then why each case is not good, failures first."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import OutputError
from pytest_nnopt.model import Outcome
from pytest_nnopt.plain import plain_text, spell_out
from pytest_nnopt.report.failure import describe_failure
from pytest_nnopt.report.noise import describe_noise
from pytest_nnopt.report.rows import Row, count_outcomes, rows_of
from pytest_nnopt.units import format_count

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_nnopt.results import CaseResult, RunResults

LARGEST_SUMMARY_BYTES = 2**20
"""GitHub shows a step's summary up to this size, and none of a larger one."""

_NOTE_BYTES = 400
_HEAD = "| case | speedup | latency | passed | outcome | because of |\n|---|---:|---:|---:|---|---|\n"
_MARKUP = str.maketrans({char: f"&#{ord(char)};" for char in "&<>\"'\\`*_[]#|~@$"})
_BLANKS = str.maketrans(dict.fromkeys("\r\n\t", " "))


def render_markdown(results: RunResults, *, limit_bytes: int = LARGEST_SUMMARY_BYTES) -> str:
    """Summarise a run in at most ``limit_bytes`` of UTF-8; what did not fit is counted in a note."""
    rows = rows_of(results.cases)
    head = _head(results)
    room = limit_bytes - _NOTE_BYTES - _size(head)
    shown_rows = _fitting([_row(row) for row in rows], room // 2 - _size(_HEAD))
    table = _HEAD + "".join(shown_rows) if shown_rows else ""
    explanations = [_explain(row.result, room // 4) for row in rows if _wants_explanation(row.result)]
    shown = _fitting(explanations, room - _size(table))
    note = _note(len(rows) - len(shown_rows), len(explanations) - len(shown))
    return "\n".join([head, *([table] if table else []), *shown, *([note] if note else [])])


def append_summary(path: Path, results: RunResults) -> None:
    """Write a run's summary behind what a step's summary holds already, within the size that all of it may have.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        taken = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8") as file:
            file.write(render_markdown(results, limit_bytes=LARGEST_SUMMARY_BYTES - taken))
    except OSError as error:
        raise OutputError(f"cannot append the summary to {path}: {error.strerror or error}") from None


def escape(text: str) -> str:
    """Write text so that Markdown and HTML show it as it is, within one line and one cell of a table."""
    return spell_out(text.translate(_BLANKS)).translate(_MARKUP)


def _head(results: RunResults) -> str:
    if not results.cases:
        return "## nnopt: no case was run\n"
    failed = sum(result.outcome.is_failure for result in results.cases)
    title = (
        f"{failed} of {len(results.cases)} cases failed"
        if failed
        else f"{format_count(len(results.cases), 'case')}, none failed"
    )
    facts = [count_outcomes(results.cases)]
    if results.environment:
        facts.append(f"on {_code(Environment(results.environment).name)}")
    noise = describe_noise(results.cases)
    lines = [
        *(f"**{escape(problem)}**" for problem in results.problems),
        *([f"noise: {escape(noise)}"] if noise else []),
    ]
    return f"## nnopt: {title}\n\n{' '.join(facts)}\n" + "".join(f"\n{line}\n" for line in lines)


def _row(row: Row) -> str:
    outcome = f"**{row.outcome}**" if row.result.outcome.is_failure else row.outcome
    cells = [_code(row.case_id), row.speedup, row.latency, row.passed, outcome, escape(row.because)]
    return f"| {' | '.join(cells)} |\n"


def _wants_explanation(result: CaseResult) -> bool:
    return result.outcome.is_failure or result.outcome is Outcome.INCONCLUSIVE


def _explain(result: CaseResult, most_bytes: int) -> str:
    """Return a section that opens; inside ``<pre>`` nothing but HTML is markup, and of that nothing is left."""
    is_open = " open" if result.outcome.is_failure else ""
    text = html.escape(_reasons(result))
    kept = text.encode()[:most_bytes].decode(errors="ignore")
    if kept != text:
        kept = f"{kept.rpartition(chr(10))[0]}\n… the rest is left out"
    return f"<details{is_open}><summary>{_code(result.id)}</summary>\n\n<pre>{kept}</pre>\n\n</details>\n"


def _reasons(result: CaseResult) -> str:
    if result.outcome.is_failure:
        return describe_failure(result.verdict)
    lines: list[str] = []
    for check in result.checks:
        if check.outcome is Outcome.INCONCLUSIVE:
            lines += [f"{check.name.value}: {check.reason}", *(f"  {detail}" for detail in check.details)]
    return plain_text("\n".join(lines))


def _code(text: str) -> str:
    """Show text as code: there GitHub makes neither mentions nor links of it."""
    return f"<code>{escape(text)}</code>"


def _fitting(parts: Sequence[str], room: int) -> list[str]:
    """Return the first parts that fit into ``room`` bytes."""
    return list(_until_full(parts, room))


def _until_full(parts: Sequence[str], room: int) -> Iterator[str]:
    for part in parts:
        room -= _size(part) + 1
        if room < 0:
            return
        yield part


def _note(rows: int, explanations: int) -> str:
    left_out = [format_count(rows, "case")] if rows else []
    left_out += [format_count(explanations, "explanation")] if explanations else []
    if not left_out:
        return ""
    what = " and ".join(left_out)
    return f"> {what} did not fit here; the results file of `--nnopt-json` holds every one.\n"


def _size(text: str) -> int:
    return len(text.encode())
