"""The project that the command is called in: its settings and its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.config import load_settings, read_pyproject

BaselineDirectory = Annotated[
    Path | None, typer.Option("--baseline-dir", help="Where baselines live; by default what pyproject.toml says.")
]


def open_store(baseline_dir: Path | None) -> BaselineStore:
    """Open the baselines of the project in the working directory.

    Raises:
        ConfigError: no directory is given, and the project's configuration is wrong.
    """
    return BaselineStore(baseline_dir if baseline_dir is not None else _configured_directory())


def _configured_directory() -> Path:
    return load_settings(read_pyproject(Path("pyproject.toml")), {}).baseline_dir
