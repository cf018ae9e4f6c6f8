"""What the page shows of a run: results turned into short texts and pictures, every length bounded.

Results may come from anybody's pull request. Their texts are cut and made printable here, and escaped by the template.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.environment import DECISIVE_FIELDS, Environment, FieldValue
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.failure import remedy_for
from pytest_nnopt.report.html.changes import (
    Change,
    changed_code,
    changed_events,
    changed_figures,
    changed_kernels,
    describe_events,
)
from pytest_nnopt.report.html.figures import FigureRow, LeafRow, list_figures, list_leaves, worst_leaves
from pytest_nnopt.report.html.pictures import Picture, draw_pictures
from pytest_nnopt.report.html.text import clip
from pytest_nnopt.units import format_percent

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, ProcessRecord
    from pytest_nnopt.results import CaseContext, CaseResult, CheckRecord, RunResults

MOST_CASES = 1000
"""Cases on the page, the worst ones; more would make it slow to open."""

MOST_DRAWN = 60
"""Cases with pictures, the worst ones; each takes about a tenth of a second to draw."""

_MOST_LINES = 40
_MOST_REASONS = 4
_OUTCOMES = tuple(sorted(Outcome, key=lambda outcome: -outcome.severity))
_SYMBOLS = {
    Outcome.PASSED: "✓",
    Outcome.IMPROVED: "▲",
    Outcome.FAILED: "✗",
    Outcome.INCONCLUSIVE: "?",
    Outcome.NO_BASELINE: "∅",
    Outcome.SKIPPED: "·",
}


@dataclass(frozen=True, slots=True)
class Badge:
    """An outcome as a class for the style, a symbol and words."""

    name: str
    symbol: str
    words: str

    @classmethod
    def of(cls, outcome: Outcome) -> Badge:
        """Return the badge of an outcome."""
        return cls(outcome.value, _SYMBOLS[outcome], outcome.value.replace("_", " "))


@dataclass(frozen=True, slots=True)
class Choice:
    """One outcome to filter by, with how many cases have it."""

    badge: Badge
    count: int


@dataclass(frozen=True, slots=True)
class CheckView:
    """One check of a case."""

    badge: Badge
    name: str
    reason: str
    details: tuple[str, ...]
    remedy: str | None


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """One fact of both environments; ``is_decisive`` if figures of different values may not be compared."""

    name: str
    baseline: str
    here: str
    is_different: bool
    is_decisive: bool


@dataclass(frozen=True, slots=True)
class CaseView:
    """Everything the page shows of one case.

    Attributes:
        anchor: id of its element, the same in every report of the case.
        place: the test's file.
        name: the rest of the case's id.
        badge: its outcome.
        reasons: why it did not simply pass: checks with another outcome.
        speedup: eager's time over the candidate's, as text; None where it was not measured.
        change: latency against the baseline, as text; None where there is no such figure.
        checks: all checks, worst first.
        pictures: its figures as SVG.
        figures: rows of exact figures.
        leaves: rows of numerics, worst first.
        hidden_leaves: how many more there are.
        changes: the diff against the level.
        events: graph breaks and the like, where there is no level to compare with.
        environment: rows of both environments, differences first.
        has_baseline: whether there is a baseline's environment.
        concerns: what spoke against timing.
    """

    anchor: str
    place: str
    name: str
    badge: Badge
    reasons: tuple[CheckView, ...]
    speedup: str | None
    change: str | None
    checks: tuple[CheckView, ...]
    pictures: tuple[Picture, ...]
    figures: tuple[FigureRow, ...]
    leaves: tuple[LeafRow, ...]
    hidden_leaves: int
    changes: tuple[Change, ...]
    events: tuple[str, ...]
    environment: tuple[EnvironmentRow, ...]
    has_baseline: bool
    concerns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageView:
    """Everything the page shows.

    Attributes:
        headline: the answer in one line.
        mood: class of the headline: ``failed``, ``inconclusive``, ``passed`` or ``skipped``.
        environment: name of the environment.
        facts: a few of its facts.
        choices: the outcomes that occur, worst first.
        cases: the cases, worst first.
        notes: what was left out.
    """

    headline: str
    mood: str
    environment: str
    facts: tuple[str, ...]
    choices: tuple[Choice, ...]
    cases: tuple[CaseView, ...]
    notes: tuple[str, ...]


def view_run(results: RunResults) -> PageView:
    """Turn a run's results into what the page shows, failures first."""
    ordered = sorted(results.cases, key=lambda case: (-case.outcome.severity, case.id))
    shown = ordered[:MOST_CASES]
    counts = Counter(case.outcome for case in ordered)
    return PageView(
        headline="The results are not complete" if results.problems else _headline(counts),
        mood="failed" if results.problems else _mood(counts),
        environment=clip(Environment(results.environment).name) if results.environment else "",
        facts=_facts(results.environment),
        choices=tuple(Choice(Badge.of(outcome), counts[outcome]) for outcome in _OUTCOMES if counts[outcome]),
        cases=tuple(
            view_case(case, is_drawn=index < MOST_DRAWN, turn=[one.id for one in shown[:index]].count(case.id))
            for index, case in enumerate(shown)
        ),
        notes=(*_bounded(results.problems), *_notes(len(ordered))),
    )


def view_case(case: CaseResult, *, is_drawn: bool = True, turn: int = 0) -> CaseView:
    """Turn one case into what the page shows of it.

    Args:
        case: the case.
        is_drawn: whether it has pictures.
        turn: how many cases of the same id, measured elsewhere, come before it.
    """
    place, _, name = case.id.rpartition("::")
    anchor = f"case-{hashlib.sha256(case.id.encode(errors='replace')).hexdigest()[:10]}" + (f"-{turn}" if turn else "")
    context, level = case.context, case.context.level if case.context else None
    checks = tuple(_view_check(check) for check in sorted(case.checks, key=lambda check: -check.outcome.severity))
    leaves = worst_leaves(context.leaves) if context else ()
    changes = _changes(case, level.compile if level else None, level.timing if level else ())
    events = [] if level and level.compile else describe_events(case.compile)
    return CaseView(
        anchor=anchor,
        place=clip(place),
        name=clip(name),
        badge=Badge.of(case.outcome),
        reasons=tuple(check for check in checks if _is_telling(check, case.outcome))[:_MOST_REASONS],
        speedup=None if case.speedup is None else f"{case.speedup:.2f}x",
        change=_latency_change(case.checks),
        checks=checks,
        pictures=draw_pictures(case, leaves, name=anchor) if is_drawn else (),
        figures=list_figures(case),
        leaves=list_leaves(leaves),
        hidden_leaves=len(context.leaves) - len(leaves) if context else 0,
        changes=changes,
        events=_bounded(events),
        environment=_environment_rows(context) if context else (),
        has_baseline=context is not None and context.baseline_environment is not None,
        concerns=_concerns(case.timing),
    )


def _headline(counts: Counter[Outcome]) -> str:
    total, failed = counts.total(), sum(counts[outcome] for outcome in Outcome if outcome.is_failure)
    cases = "case" if total == 1 else "cases"
    if not total:
        return "No case was measured"
    if failed:
        return f"{failed} of {total} {cases} failed"
    if unsure := counts[Outcome.INCONCLUSIVE]:
        return f"No case failed, {unsure} of {total} could not be told"
    if counts[Outcome.SKIPPED] == total:
        return f"Nothing was checked in {total} {cases}"
    return f"{'The' if total == 1 else 'All'} {total if total > 1 else ''} {cases} passed".replace("  ", " ")


def _mood(counts: Counter[Outcome]) -> str:
    if any(counts[outcome] for outcome in Outcome if outcome.is_failure):
        return "failed"
    if counts[Outcome.INCONCLUSIVE]:
        return "inconclusive"
    return "passed" if counts[Outcome.PASSED] or counts[Outcome.IMPROVED] else "skipped"


def _facts(environment: dict[str, FieldValue]) -> tuple[str, ...]:
    shown = ("gpu", "cpu", "cores", "threads", "torch", "cuda", "python")
    return tuple(
        f"{name} {clip(str(environment[name]))}" for name in shown if environment.get(name) not in (None, "", False)
    )


def _notes(total: int) -> tuple[str, ...]:
    notes = []
    if total > MOST_CASES:
        notes.append(f"the {MOST_CASES} worst of {total} cases are shown; the results file has all of them")
    if total > MOST_DRAWN:
        notes.append(f"the {MOST_DRAWN} worst cases have pictures")
    return tuple(notes)


def _view_check(check: CheckRecord) -> CheckView:
    name = check.name.value.replace("_", " ")
    return CheckView(
        badge=Badge.of(check.outcome),
        name=name,
        reason=clip(check.reason.removeprefix(f"{name} ")),
        details=_bounded(line for detail in check.details for line in detail.splitlines()),
        remedy=remedy_for(check),
    )


def _is_telling(check: CheckView, outcome: Outcome) -> bool:
    """Whether a check says why the case did not simply pass."""
    return check.badge.name == outcome.value and outcome is not Outcome.PASSED


def _latency_change(checks: Iterable[CheckRecord]) -> str | None:
    values = [check.value for check in checks if check.name is CheckName.LATENCY and check.value is not None]
    return format_percent(values[0], signed=True) if values else None


def _changes(
    case: CaseResult, compile_before: CompileRecord | None, timing_before: Sequence[ProcessRecord]
) -> tuple[Change, ...]:
    changes = [
        *changed_events(case.compile, compile_before),
        *changed_code(case.compile, compile_before),
        *changed_kernels(case.timing, timing_before),
        *changed_figures(case.compile, compile_before),
    ]
    shown = [Change(change.sign, clip(change.text)) for change in changes[:_MOST_LINES]]
    more = len(changes) - len(shown)
    return (*shown, Change("…", f"and {more} more")) if more else tuple(shown)


def _bounded(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the first lines, cut and printable, and how many more there are."""
    every = list(lines)
    shown = tuple(clip(line) for line in every[:_MOST_LINES])
    return (*shown, f"and {len(every) - len(shown)} more lines") if len(every) > len(shown) else shown


def _environment_rows(context: CaseContext) -> tuple[EnvironmentRow, ...]:
    here, recorded = context.environment, context.baseline_environment
    names = list(dict.fromkeys([*DECISIVE_FIELDS, *here, *(recorded or {})]))[:_MOST_LINES]
    rows = [
        EnvironmentRow(
            name=clip(name),
            baseline=_fact(recorded, name),
            here=_fact(here, name),
            is_different=recorded is not None and here.get(name) != recorded.get(name),
            is_decisive=name in DECISIVE_FIELDS,
        )
        for name in names
        if name in here or name in (recorded or {})
    ]
    return tuple(sorted(rows, key=lambda row: not row.is_different))


def _fact(environment: dict[str, FieldValue] | None, name: str) -> str:
    value = (environment or {}).get(name)
    return "-" if value is None or value == "" else clip(str(value))


def _concerns(timing: Sequence[ProcessRecord]) -> tuple[str, ...]:
    """Say what spoke against timing: of each kind an example, and in how many processes it was seen."""
    seen = Counter(kind for process in timing for kind in process.concerns)
    examples = {kind: text for process in timing for kind, text in process.concerns.items()}
    return _bounded(f"in {count} of {len(timing)} processes: {examples[kind]}" for kind, count in seen.most_common())
