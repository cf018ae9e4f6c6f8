"""The course of a case's speedup: its points in the shared history, and where it changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pytest_nnopt.environment import Environment
from pytest_nnopt.history.schema import Selection
from pytest_nnopt.units import format_percent

if TYPE_CHECKING:
    from pytest_nnopt.history.store import HistoryStore


@dataclass(frozen=True, slots=True)
class Point:
    """One recording or run of a case.

    Attributes:
        environment: where it was measured.
        recorded: when it was accepted, or judged.
        revision: commit of the measured code, where it is known.
        processes: how many processes were measured.
        speedup: eager time over candidate time.
        digest: of the environment, which may have had several under one name.
        source: ``baseline`` of a recording, ``history`` of a run in the shared history.
        is_sound: whether it may be part of a level; a run that failed may not.
    """

    environment: str
    recorded: datetime
    revision: str | None
    processes: int
    speedup: float
    digest: str = ""
    source: str = "baseline"
    is_sound: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a case's speedup between two points that follow each other.

    Attributes:
        environment: where.
        first: the first point after it.
        last_before: the last point before it.
        before: mean speedup from the change before on.
        after: mean speedup up to the next change.
        p_value: how often points without a change would look so.
    """

    environment: str
    first: Point
    last_before: Point
    before: float
    after: float
    p_value: float

    @property
    def description(self) -> str:
        """The change in one line."""
        change = format_percent(self.after / self.before - 1, signed=True)
        return (
            f"{self.before:.3f}x → {self.after:.3f}x ({change}) between {_moment(self.last_before)} and "
            f"{_moment(self.first)} on {self.environment} (p = {self.p_value:.2g})"
        )


def shared_points(case_id: str, store: HistoryStore, *, branch: str | None, newest: int) -> list[Point]:
    """Return a case's newest runs in the shared history, oldest first; those without times are left out.

    Raises:
        HistoryError: the store does not answer, or an entry cannot be relied upon.
    """
    labels = [label for label in store.labels(case_id, Selection(newest, branch=branch)) if label.log_ratio is not None]
    of_digest = {label.environment: label for label in labels}
    names = {entry.environment: Environment(entry.fields).name for entry in store.read(list(of_digest.values()))}
    return [
        Point(
            environment=names[label.environment],
            recorded=label.recorded,
            revision=label.revision,
            processes=label.processes,
            speedup=math.exp(-(label.log_ratio or 0) / 1e6),
            digest=label.environment,
            source="history",
            is_sound=label.is_sound,
        )
        for label in labels
    ]


def find_steps(points: Iterable[Point]) -> list[Step]:
    """Find where the speedup changed, in each environment by itself, oldest first.

    Runs and recordings are searched apart: a recording is a run that was accepted, and would count twice.
    """
    from pytest_nnopt.statistics.changes import find_changes  # takes a tenth of a second

    series: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.recorded):
        series.setdefault((point.digest, point.source), []).append(point)
    steps = []
    for some in series.values():
        for change in find_changes([math.log(point.speedup) for point in some]):
            steps.append(
                Step(
                    environment=some[0].environment,
                    first=some[change.index],
                    last_before=some[change.index - 1],
                    before=math.exp(change.before),
                    after=math.exp(change.after),
                    p_value=change.p_value,
                )
            )
    return sorted(steps, key=lambda step: step.first.recorded)


def rows_of(points: Sequence[Point], steps: Sequence[Step]) -> list[dict[str, object]]:
    """Return what is printed of each point; the change that begins with it, too."""
    begun: Mapping[int, Step] = {id(step.first): step for step in steps}
    return [_row(point, begun.get(id(point))) for point in points]


def _row(point: Point, step: Step | None) -> dict[str, object]:
    return {
        "environment": point.environment,
        "recorded": point.recorded.date().isoformat(),
        "revision": point.revision,
        "processes": point.processes,
        "speedup": round(point.speedup, 4),
        "source": point.source,
        "sound": point.is_sound,
        "change": None if step is None else round(step.after / step.before - 1, 4),
    }


def _moment(point: Point) -> str:
    when = point.recorded.date().isoformat()
    return when if point.revision is None else f"{point.revision} ({when})"
