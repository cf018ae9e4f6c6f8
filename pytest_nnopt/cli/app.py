"""The subcommands together, and what the command answers by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from pytest_nnopt import __version__
from pytest_nnopt.cli.accept import accept
from pytest_nnopt.cli.compare import compare
from pytest_nnopt.cli.configuration import config
from pytest_nnopt.cli.doctor import doctor
from pytest_nnopt.cli.history import history
from pytest_nnopt.cli.merge import merge
from pytest_nnopt.cli.prune import prune
from pytest_nnopt.cli.report import report
from pytest_nnopt.cli.show import show

app = typer.Typer(no_args_is_help=True, help="Works on baselines and results without running tests.")


@app.callback(invoke_without_command=True)
def version(*, show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Answer ``nnopt --version``."""
    if show:
        typer.echo(f"pytest-nnopt {__version__}")
        raise typer.Exit


app.command()(show)
app.command()(compare)
app.command()(history)
app.command()(merge)
app.command()(accept)
app.command()(prune)
app.command()(report)
app.command()(doctor)
app.command()(config)
