"""``nnopt history``: how a case's speedup went, over its recordings and the runs in the shared history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.against.git import Repository, find_repository, run_git
from pytest_nnopt.baseline.schema import CaseBaseline, Recording
from pytest_nnopt.baseline.store import LARGEST_FILE_BYTES
from pytest_nnopt.cli.course import Point, Step, find_steps, rows_of, shared_points
from pytest_nnopt.cli.output import AsJson, print_json, print_line, print_table
from pytest_nnopt.cli.project import BaselineDirectory, HistoryUrlOption, open_history, open_store
from pytest_nnopt.errors import BaselineError, OutputError, RevisionError
from pytest_nnopt.history.schema import Selection
from pytest_nnopt.results import speedup_of
from pytest_nnopt.untrusted import parse_json

if TYPE_CHECKING:
    from pytest_nnopt.baseline.store import BaselineStore
    from pytest_nnopt.history.store import HistoryStore

_BARS = "▁▂▃▄▅▆▇█"
_MOST_VERSIONS = 200
"""Versions of a baseline's file that are read from git, the newest ones."""
_MOST_BARS = 60
_MOST_ROWS = 30
_MOST_RUNS = 1000


def history(
    case: Annotated[str, typer.Argument(help="Id of a case, or a part that only one id has.")],
    baseline_dir: BaselineDirectory = None,
    history: HistoryUrlOption = None,
    branch: Annotated[str | None, typer.Option(help="Whose runs to show; by default what pyproject.toml says.")] = None,
    runs: Annotated[int, typer.Option(min=1, max=100_000, help="How many runs to show, the newest ones.")] = _MOST_RUNS,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this SVG or PNG file, too.")] = None,
    *,
    all_branches: Annotated[bool, typer.Option("--all-branches", help="Show the runs of every branch.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a case's speedup over its recordings and over the runs in the shared history, and where it changed.

    Each environment has a line of bars. Changes are found by E-divisive, slow drifts as several.
    """
    store, shared = open_store(baseline_dir), open_history(history)
    case_id = find_case(case, store, shared.store)
    wanted = None if all_branches else branch or shared.branch
    points = [*_points(case_id, store)]
    if shared.store is not None:
        points += shared_points(case_id, shared.store, branch=wanted, newest=runs)
    points.sort(key=lambda point: (point.environment, point.recorded))
    steps = find_steps(points)
    if plot is not None:
        _draw(plot, case_id, points, steps)
    if as_json:
        print_json(rows_of(points, steps))
        return
    print_line(case_id)
    for name in sorted({point.environment for point in points}):
        print_line(_line(name, [point.speedup for point in points if point.environment == name]))
    for step in steps:
        print_line(f"change: {step.description}")
    if len(points) > _MOST_ROWS:
        print_line(f"the newest {_MOST_ROWS} of {len(points)}, which --json prints all:")
    if points:
        newest = sorted(sorted(points, key=lambda point: point.recorded)[-_MOST_ROWS:], key=points.index)
        print_table(rows_of(newest, steps))
    else:
        typer.echo("no recording of it holds times; record some with pytest --nnopt-update")


def find_case(wanted: str, store: BaselineStore, shared: HistoryStore | None = None) -> str:
    """Return the id that is meant.

    Raises:
        BaselineError: no case or several cases have it in their id; they are named.
    """
    if store.environments_with(wanted) or (shared is not None and shared.labels(wanted, Selection(1))):
        return wanted
    recorded = {case for name in store.environments() for case in store.cases(name)}
    known = sorted(recorded.union(() if shared is None else shared.cases()))
    found = [wanted] if wanted in known else [case for case in known if wanted in case]
    if len(found) == 1:
        return found[0]
    if found:
        raise BaselineError(f"{wanted!r} is part of several ids: {', '.join(found)}; write more of one")
    where = f"no baseline in {store.root}" if shared is None else f"no baseline in {store.root} or run in {shared.name}"
    raise BaselineError(f"{where} has {wanted!r} in its case's id; nnopt show lists them")


def sparkline(values: Sequence[float]) -> str:
    """Draw values as bars from the smallest to the largest; equal values are half high."""
    low, high = min(values), max(values)
    if high == low:
        return _BARS[len(_BARS) // 2] * len(values)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in values)


def shortened(values: Sequence[float]) -> list[float]:
    """Return at most sixty values: means of neighbours where there are more."""
    count = min(len(values), _MOST_BARS)
    edges = [len(values) * number // count for number in range(count + 1)]
    return [fmean(values[start:end]) for start, end in pairwise(edges)]


def _line(environment: str, speedups: Sequence[float]) -> str:
    return f"{environment}  {sparkline(shortened(speedups))}  {min(speedups):.2f}x to {max(speedups):.2f}x"


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
                yield Point(name, recording.recorded, recording.revision, len(timing), speedup, recording.environment)


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


def _draw(path: Path, case_id: str, points: Sequence[Point], steps: Sequence[Step]) -> None:
    """Plot the speedups over time, with a line at each change.

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
    for step in steps:
        axes.axvline(date2num(step.first.recorded), color="tab:red", linestyle=":")  # type: ignore[no-untyped-call]
    axes.xaxis_date()
    axes.set_title(case_id, parse_math=False)
    axes.set_ylabel("speedup, eager time over candidate time")
    if points:
        axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}; name a writable file ending in .svg or .png") from None
