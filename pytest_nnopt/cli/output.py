"""What all subcommands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pytest_nnopt.plain import plain_line, spell_out

_WIDTH = 400
"""Columns beyond which a cell is broken; below, a terminal wraps the line itself, and an id can be copied whole."""

_STYLES = re.compile(r"(\x1b\[[0-9;]*m)")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(values: object) -> None:
    """Print values as JSON, in ASCII and without what a CI server would take for a command."""
    typer.echo(json.dumps(values, indent=1, allow_nan=False).replace("##[", "##\\u005b"))


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows of the same keys as a table; None is a dash, and a column of nothing else is left out."""
    console = Console(width=_WIDTH)
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if row[name] is None else spell_out(str(row[name]))) for name in names))
    with console.capture() as drawn:
        console.print(table)
    sys.stdout.write("".join(f"{_plain_row(line)}\n" for line in drawn.get().splitlines()))


def print_line(text: str) -> None:
    """Print one line in which nothing steers a terminal or a CI server: names may come from files others wrote."""
    typer.echo(plain_line(text))


def _plain_row(line: str) -> str:
    """Make a line of a table plain but for what a terminal is told about its style; a long cell may start anywhere."""
    return "".join(part if part.startswith("\x1b") else plain_line(part) for part in _STYLES.split(line.rstrip()))
