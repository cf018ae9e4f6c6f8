"""``nnopt history``: how a case's speedup went from recording to recording, those in git's history included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.against.git import Repository, find_repository, run_git
from pytest_nnopt.baseline.schema import CaseBaseline, Recording
from pytest_nnopt.baseline.store import LARGEST_FILE_BYTES
from pytest_nnopt.cli.output import AsJson, print_json, print_line, print_table
from pytest_nnopt.cli.project import BaselineDirectory, open_store
from pytest_nnopt.errors import BaselineError, OutputError, RevisionError
from pytest_nnopt.results import speedup_of
from pytest_nnopt.untrusted import parse_json

if TYPE_CHECKING:
    from pytest_nnopt.baseline.store import BaselineStore

_BARS = "▁▂▃▄▅▆▇█"
_MOST_VERSIONS = 200
"""Versions of a baseline's file that are read from git, the newest ones."""


@dataclass(frozen=True, slots=True)
class Point:
    """One recording of a case.

    Attributes:
        environment: where it was measured.
        recorded: when it was accepted.
        revision: commit of the measured code, where it is known.
        processes: how many processes were measured.
        speedup: eager time over candidate time.
    """

    environment: str
    recorded: datetime
    revision: str | None
    processes: int
    speedup: float


def history(
    case: Annotated[str, typer.Argument(help="Id of a case, or a part that only one id has.")],
    baseline_dir: BaselineDirectory = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this SVG or PNG file, too.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show a case's speedup over its recordings, as a line of bars for each environment."""
    store = open_store(baseline_dir)
    case_id = find_case(case, store)
    points = sorted(_points(case_id, store), key=lambda point: (point.environment, point.recorded))
    if plot is not None:
        _draw(plot, case_id, points)
    if as_json:
        print_json([_row(point) for point in points])
        return
    print_line(case_id)
    for name in sorted({point.environment for point in points}):
        print_line(_line(name, [point.speedup for point in points if point.environment == name]))
    if points:
        print_table([_row(point) for point in points])
    else:
        typer.echo("no recording of it holds times; record some with pytest --nnopt-update")


def find_case(wanted: str, store: BaselineStore) -> str:
    """Return the id that is meant.

    Raises:
        BaselineError: no case or several cases have it in their id; they are named.
    """
    known = sorted({baseline.case for name in store.environments() for baseline in store.read_all(name)})
    found = [wanted] if wanted in known else [case for case in known if wanted in case]
    if len(found) == 1:
        return found[0]
    if found:
        raise BaselineError(f"{wanted!r} is part of several ids: {', '.join(found)}; write more of one")
    raise BaselineError(f"no baseline in {store.root} has {wanted!r} in its case's id; nnopt show lists them")


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars from the smallest to the largest; equal values are half high."""
    low, high = min(values), max(values)
    if high == low:
        return _BARS[len(_BARS) // 2] * len(values)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in values)


def _line(environment: str, speedups: Sequence[float]) -> str:
    return f"{environment}  {sparkline(speedups)}  {min(speedups):.2f}x to {max(speedups):.2f}x"


def _points(case_id: str, store: BaselineStore) -> Iterator[Point]:
    """Return every recording that the file holds or held, each once."""
    for name in store.environments_with(case_id):
        stored = store.read(name, case_id)
        versions = [] if stored is None else [stored]
        seen: set[tuple[datetime, str]] = set()
        for recording in _recordings([*versions, *_committed(store.path(name, case_id))]):
            speedup = speedup_of(recording.evidence.timing)
            key = (recording.recorded, recording.environment)
            if speedup is not None and key not in seen:
                seen.add(key)
                timing = recording.evidence.timing
                yield Point(name, recording.recorded, recording.revision, len(timing), speedup)


def _recordings(versions: Iterable[CaseBaseline]) -> Iterator[Recording]:
    for version in versions:
        yield from version.recordings


def _committed(path: Path) -> Iterator[CaseBaseline]:
    """Read the versions of a file that git keeps, newest first; what is no baseline any more is left out."""
    try:
        repository = find_repository(path.parent)
        relative = path.resolve().relative_to(repository.top).as_posix()
        commits = repository.run("log", f"-{_MOST_VERSIONS}", "--format=%H", "--", relative).split()
    except RevisionError:
        return
    for commit in commits:
        baseline = _parse(repository, f"{commit}:{relative}")
        if baseline is not None:
            yield baseline


def _parse(repository: Repository, name: str) -> CaseBaseline | None:
    size = repository.answers("cat-file", "-s", name)
    if size is None or int(size) > LARGEST_FILE_BYTES:
        return None
    try:
        return CaseBaseline.model_validate(parse_json(run_git(repository.top, "cat-file", "blob", name)))
    except (ValueError, RevisionError):  # pydantic's error is a ValueError
        return None


def _row(point: Point) -> dict[str, object]:
    return {
        "environment": point.environment,
        "recorded": point.recorded.date().isoformat(),
        "revision": point.revision,
        "processes": point.processes,
        "speedup": round(point.speedup, 4),
    }


def _draw(path: Path, case_id: str, points: Sequence[Point]) -> None:
    """Plot the speedups over time.

    Raises:
        OutputError: the plotting library is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.dates import date2num  # takes half a second, and needs the extra
        from matplotlib.figure import Figure
    except ImportError:
        raise OutputError("--plot needs matplotlib; install it with pip install 'pytest-nnopt[report]'") from None
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name in sorted({point.environment for point in points}):
        of_name = [point for point in points if point.environment == name]
        days = date2num([p.recorded for p in of_name])  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
        axes.plot(days, [p.speedup for p in of_name], marker="o", label=name)
    axes.xaxis_date()
    axes.set_title(case_id, parse_math=False)
    axes.set_ylabel("speedup, eager time over candidate time")
    if points:
        axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}; name a writable file ending in .svg or .png") from None
