"""The subcommands together, each imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class _Room:
    """Where a subcommand is: a function of a module of this package.

    Attributes:
        module: name of the module.
        short_help: what the list of subcommands says of it.
        function: name of the function, where it is not the module's.
        settings: of its context, as click takes them.
    """

    module: str
    short_help: str
    function: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def open(self, name: str) -> Any:
        """Import the subcommand and return it as typer's command."""
        module = importlib.import_module(f"pytest_nnopt.cli.{self.module}")
        alone = typer.Typer(add_completion=False)
        alone.command(name, short_help=self.short_help, context_settings=dict(self.settings))(
            getattr(module, self.function or self.module)
        )
        return typer.main.get_command(alone)


_ROOMS = {
    "show": _Room("show", "List the stored baselines."),
    "compare": _Room("compare", "Put two sets of figures side by side."),
    "history": _Room("history", "Show a case's speedup over time, and where it changed."),
    "send": _Room("send", "Add to the shared history what a run could not add."),
    "merge": _Room("merge", "Join the results of several jobs."),
    "accept": _Room("accept", "Turn a results file into baselines."),
    "bisect": _Room("bisect", "Find the commit that made a case regress.", settings={"ignore_unknown_options": True}),
    "import": _Room("importing", "Take times from pytest-benchmark.", "import_times"),
    "prune": _Room("prune", "Delete baselines whose test is gone."),
    "report": _Room("report", "Turn a results file into one HTML page."),
    "doctor": _Room("doctor", "Say whether this machine is fit to measure."),
    "config": _Room("configuration", "Print the settings in effect.", "config"),
}


class _Subcommands(Mapping[str, Any]):
    """The subcommands by name, each imported when it is asked for."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._open:
            self._open[name] = _ROOMS[name].open(name)
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_ROOMS)

    def __len__(self) -> int:
        return len(_ROOMS)


class Group(TyperGroup):
    """A group of subcommands that are imported one by one."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Subcommands()  # type: ignore[assignment]  # nothing adds to them
