"""What all subcommands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_IN_FILES = 400

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(values: object) -> None:
    """Print values as JSON."""
    typer.echo(json.dumps(values, indent=1, allow_nan=False))


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows of the same keys as a table; None is a dash. Nothing is cut off; a file has wide lines instead."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_IN_FILES)
    table = Table(box=None)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if value is None else printable(str(value))) for value in row.values()))
    console.print(table)


def printable(text: str) -> str:
    """Spell out what would steer a terminal: ids and names may come from files that others wrote."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
