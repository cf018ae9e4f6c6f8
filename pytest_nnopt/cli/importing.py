"""``nnopt import``: what pytest-benchmark recorded, to look at until there are baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.baseline.imported import newest_times
from pytest_nnopt.cli.output import AsJson, print_json, print_line
from pytest_nnopt.cli.project import BaselineDirectory, open_store
from pytest_nnopt.errors import ResultsError
from pytest_nnopt.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_nnopt.baseline.imported import ImportedTime
    from pytest_nnopt.baseline.store import BaselineStore


def import_times(
    storage: Annotated[
        Path, typer.Argument(help="pytest-benchmark's storage, or a file that --benchmark-json wrote.")
    ] = Path(".benchmarks"),
    baseline_dir: BaselineDirectory = None,
    case: Annotated[list[str] | None, typer.Option(help="Take only tests with this in their id; repeatable.")] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take over the newest time of each test from pytest-benchmark, as advice.

    Imported times are shown beside a case that has no baseline yet. They never pass or fail it, and go as soon as
    pytest --nnopt-update records it. Tests that have a baseline are left out.
    """
    store = open_store(baseline_dir)
    found, left_out = newest_times(storage)
    wanted = {name: found[name] for name in sorted(found) if case is None or any(part in name for part in case)}
    if not wanted:
        raise ResultsError(_describe_nothing(storage, case, left_out))
    taken = {name: time for name, time in wanted.items() if not store.environments_with(name)}
    if taken and not dry_run:
        with store.exclusive():
            store.write_imported({**store.imported(), **taken})
    if as_json:
        print_json(_summary(wanted, taken, left_out, is_trial=dry_run))
    else:
        _print_summary(store, wanted, taken, left_out, is_trial=dry_run)


def _describe_nothing(storage: Path, case: list[str] | None, left_out: list[str]) -> str:
    which = "" if case is None else f" of a test with {' or '.join(case)} in its id"
    return "\n".join([f"{storage} holds no time{which}", *(f"left out: {one}" for one in left_out)])


def _summary(
    wanted: Mapping[str, ImportedTime], taken: Mapping[str, ImportedTime], left_out: list[str], *, is_trial: bool
) -> dict[str, object]:
    cases = [
        {"case": name, "is_imported": name in taken and not is_trial, **time.model_dump(mode="json")}
        for name, time in wanted.items()
    ]
    return {"cases": cases, "left_out": left_out}


def _print_summary(
    store: BaselineStore,
    wanted: Mapping[str, ImportedTime],
    taken: Mapping[str, ImportedTime],
    left_out: list[str],
    *,
    is_trial: bool,
) -> None:
    verb = "would be imported" if is_trial else "imported"
    for name, time in wanted.items():
        what = f"{verb}, {format_seconds(time.seconds)} from {time.source}" if name in taken else "has a baseline"
        print_line(f"{name}: {what}")
    for one in left_out:
        print_line(f"left out: {one}")
    if taken and not is_trial:
        print_line(
            f"{len(taken)} in {store.root / 'imported.json'}: advice that decides nothing; "
            "record baselines with pytest --nnopt-update"
        )
