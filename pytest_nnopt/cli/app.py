"""The command, and what it answers by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from pytest_nnopt import __version__
from pytest_nnopt.cli.rooms import Group

_HELP = """Works on baselines and results; bisect alone runs tests.

Call it in the project's root. Each subcommand prints JSON with --json. Status 4 says that something cannot be used as
it is, and standard error says what and why. --install-completion teaches your shell the subcommands and their options.
"""

app = typer.Typer(cls=Group, no_args_is_help=True, help=_HELP)


@app.callback(invoke_without_command=True)
def version(*, show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Answer ``nnopt --version``."""
    if show:
        typer.echo(f"pytest-nnopt {__version__}")
        raise typer.Exit
