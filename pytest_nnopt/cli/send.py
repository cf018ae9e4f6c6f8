"""``nnopt send``: add to the shared history what a run could not add."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_nnopt.cli.output import AsJson, print_json, print_line
from pytest_nnopt.cli.project import HistoryUrlOption, require_history
from pytest_nnopt.errors import HistoryError
from pytest_nnopt.history.schema import LARGEST_ENTRY_BYTES, Entry, parse_entry
from pytest_nnopt.session.sharing import UNSENT
from pytest_nnopt.units import format_count


def send(
    files: Annotated[
        list[Path] | None, typer.Argument(help=f"Files that a run left; all of {UNSENT} where none is named.")
    ] = None,
    history: HistoryUrlOption = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Add the results that a run could not add to the shared history, and delete the files that held them."""
    store = require_history(history)
    sent: list[dict[str, object]] = []
    for path in files or sorted(UNSENT.glob("*.jsonl")):
        entries = read_unsent(path)
        store.append(entries)
        path.unlink()
        run = entries[0].run if entries else None
        sent.append({"file": str(path), "run": run, "cases": len(entries)})
        if not as_json:
            print_line(f"added {format_count(len(entries), 'case')} of run {run or '-'} to {store.name}")
    if as_json:
        print_json({"history": store.name, "sent": sent})


def read_unsent(path: Path) -> list[Entry]:
    """Read the entries of a file, one a line.

    Raises:
        HistoryError: it cannot be read, or one of them cannot be relied upon.
    """
    entries: list[Entry] = []
    try:
        with path.open("rb") as file:
            while line := file.readline(LARGEST_ENTRY_BYTES + 2):
                entries.append(parse_entry(line.rstrip(b"\n"), f"line {len(entries) + 1} of {path}"))
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror}") from None
    return entries
