"""The subcommands together, and what the command answers by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from pytest_nnopt import __version__
from pytest_nnopt.cli.accept import accept
from pytest_nnopt.cli.bisect import bisect
from pytest_nnopt.cli.compare import compare
from pytest_nnopt.cli.configuration import config
from pytest_nnopt.cli.doctor import doctor
from pytest_nnopt.cli.history import history
from pytest_nnopt.cli.importing import import_times
from pytest_nnopt.cli.merge import merge
from pytest_nnopt.cli.prune import prune
from pytest_nnopt.cli.report import report
from pytest_nnopt.cli.send import send
from pytest_nnopt.cli.show import show

_HELP = """Works on baselines and results; bisect alone runs tests.

Call it in the project's root. Each subcommand prints JSON with --json. Status 4 says that something cannot be used as
it is, and standard error says what and why. --install-completion teaches your shell the subcommands and their options.
"""

app = typer.Typer(no_args_is_help=True, help=_HELP)


@app.callback(invoke_without_command=True)
def version(*, show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Answer ``nnopt --version``."""
    if show:
        typer.echo(f"pytest-nnopt {__version__}")
        raise typer.Exit


app.command(short_help="List the stored baselines.")(show)
app.command(short_help="Put two sets of figures side by side.")(compare)
app.command(short_help="Show a case's speedup over time, and where it changed.")(history)
app.command(short_help="Add to the shared history what a run could not add.")(send)
app.command(short_help="Join the results of several jobs.")(merge)
app.command(short_help="Turn a results file into baselines.")(accept)
app.command(short_help="Find the commit that made a case regress.", context_settings={"ignore_unknown_options": True})(
    bisect
)
app.command("import", short_help="Take times from pytest-benchmark.")(import_times)
app.command(short_help="Delete baselines whose test is gone.")(prune)
app.command(short_help="Turn a results file into one HTML page.")(report)
app.command(short_help="Say whether this machine is fit to measure.")(doctor)
app.command(short_help="Print the settings in effect.")(config)
