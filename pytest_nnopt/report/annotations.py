"""Annotations that GitHub shows on the lines of tests: workflow commands, one a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.model import Outcome
from pytest_nnopt.plain import plain_text
from pytest_nnopt.report.rows import count_outcomes, in_words, rows_of

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult

_MOST = 9
"""GitHub shows ten annotations a kind and step; the tenth says what the nine leave out."""

_LONGEST_MESSAGE = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a test is: a file relative to the checkout, and a line counted from 1."""

    file: str
    line: int


def render_annotations(results: Sequence[CaseResult], places: Mapping[str, Place]) -> list[str]:
    """Return a command for each of the worst cases, and one for the rest of those that are not good.

    Args:
        results: the cases.
        places: where a case's test is, by case id.
    """
    bad = [row.result for row in rows_of(results)]
    bad = [result for result in bad if result.outcome.is_failure or result.outcome is Outcome.INCONCLUSIVE]
    shown, rest = bad[:_MOST], bad[_MOST:]
    commands = [_annotate(result, places.get(result.id)) for result in shown]
    if rest:
        message = f"and {count_outcomes(rest)}; the summary of this step names them"
        commands.append(_command(_kind(rest[0]), {"title": "nnopt"}, message))
    return commands


def _annotate(result: CaseResult, place: Place | None) -> str:
    where = {} if place is None else {"file": place.file, "line": str(place.line)}
    return _command(_kind(result), {**where, "title": f"nnopt: {in_words(result.outcome)}"}, _message(result))


def _kind(result: CaseResult) -> str:
    return "error" if result.outcome.is_failure else "warning"


def _message(result: CaseResult) -> str:
    """Return the case with the reasons of the checks that made it as bad as it is."""
    reasons = [check.reason for check in result.checks if check.outcome is result.outcome]
    message = plain_text("\n".join([result.id, *reasons]))
    return message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"


def _command(kind: str, properties: Mapping[str, str], message: str) -> str:
    told = ",".join(f"{name}={_escape_property(value)}" for name, value in properties.items())
    return f"::{kind} {told}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
