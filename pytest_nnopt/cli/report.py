"""``nnopt report``: a results file as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_nnopt.cli.output import AsJson, print_json, print_line
from pytest_nnopt.report.files import read_results, write_html


def report(
    results: Annotated[Path, typer.Argument(help="What pytest --nnopt-json wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("nnopt.html"),
    *,
    as_json: AsJson = False,
) -> None:
    """Turn a results file into one HTML page that needs nothing else."""
    write_html(output, read_results(results))
    if as_json:
        print_json({"html": str(output)})
    else:
        print_line(f"wrote {output}")
