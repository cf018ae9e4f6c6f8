"""The project that the command is called in: its settings, its baselines and its shared history."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.config import load_settings, read_pyproject
from pytest_nnopt.errors import ConfigError
from pytest_nnopt.session.sharing import open_shared_history

if TYPE_CHECKING:
    from pytest_nnopt.config import Settings
    from pytest_nnopt.history.store import HistoryStore

BaselineDirectory = Annotated[
    Path | None, typer.Option("--baseline-dir", help="Where baselines live; by default what pyproject.toml says.")
]
HistoryUrlOption = Annotated[
    str | None,
    typer.Option("--history", metavar="URL", help="Where the shared history is; by default what pyproject.toml says."),
]


@dataclass(frozen=True, slots=True)
class SharedHistory:
    """A project's shared history.

    Attributes:
        store: where it is; None where there is none.
        branch: whose runs make a level.
    """

    store: HistoryStore | None
    branch: str


def open_store(baseline_dir: Path | None) -> BaselineStore:
    """Open the baselines of the project in the working directory.

    Raises:
        ConfigError: no directory is given, and the project's configuration is wrong.
    """
    return BaselineStore(baseline_dir if baseline_dir is not None else _settings().baseline_dir)


def open_history(url: str | None) -> SharedHistory:
    """Open the shared history of the project in the working directory, or the one that is named.

    Raises:
        ConfigError: the URL is none of a history, or the project's configuration is wrong.
        HistoryError: a library is missing.
    """
    settings = _settings(url)
    return SharedHistory(open_shared_history(settings), settings.history_branch)


def require_history(url: str | None) -> HistoryStore:
    """Open the shared history as ``open_history`` does.

    Raises:
        ConfigError: there is none.
    """
    store = open_history(url).store
    if store is None:
        raise ConfigError("there is no shared history; give its URL with --history or in [tool.nnopt]")
    return store


def _settings(history: str | None = None) -> Settings:
    return load_settings(read_pyproject(Path("pyproject.toml")), {"history": history})
