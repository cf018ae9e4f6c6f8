"""The command ``nnopt``: works on baselines and results without running tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_nnopt import __version__
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.errors import NnoptError
from pytest_nnopt.report.files import read_results, write_html
from pytest_nnopt.results import speedup_of
from pytest_nnopt.units import format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CaseBaseline

app = typer.Typer(no_args_is_help=True, help="Works on baselines and results without running tests.")

BaselineDirectory = Annotated[Path, typer.Option("--baseline-dir", help="Where baselines live.")]


def main() -> None:
    """Run the command; an error that a user can mend ends it with status 4 and one line."""
    try:
        app()
    except NnoptError as error:
        Console(stderr=True).print(f"nnopt: {error}", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(4) from None


@app.callback(invoke_without_command=True)
def version(*, show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Answer ``nnopt --version``."""
    if show:
        typer.echo(f"pytest-nnopt {__version__}")
        raise typer.Exit


@app.command()
def show(
    baseline_dir: BaselineDirectory = Path("baselines"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the stored baselines: one line for each case and environment."""
    store = BaselineStore(baseline_dir)
    rows = [_row(name, baseline) for name in store.environments() for baseline in store.read_all(name)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        typer.echo(f"no baselines in {baseline_dir}; record some with pytest --nnopt-update")
        return
    table = Table(*rows[0], box=None)
    for row in rows:
        table.add_row(*(Text("-" if value is None else str(value)) for value in row.values()))
    Console().print(table)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="What pytest --nnopt-json wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("nnopt.html"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a line.")] = False,
) -> None:
    """Turn a results file into one HTML page that needs nothing else."""
    write_html(output, read_results(results))
    typer.echo(json.dumps({"html": str(output)}) if as_json else f"wrote {output}")


def _row(environment: str, baseline: CaseBaseline) -> dict[str, object]:
    last = baseline.recordings[-1]
    timing = [process for recording in baseline.recordings for process in recording.evidence.timing]
    seconds = timing[-1].seconds.get("candidate") if timing else None
    speedup = speedup_of(timing)
    return {
        "case": baseline.case,
        "environment": environment,
        "recorded": last.recorded.date().isoformat(),
        "revision": last.revision,
        "processes": len(timing),
        "candidate": None if seconds is None else format_seconds(seconds),
        "speedup": None if speedup is None else f"{speedup:.2f}x",
    }
