"""Result files, written in one step each, and read again."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pytest_nnopt.errors import OutputError, ResultsError
from pytest_nnopt.files import write_text
from pytest_nnopt.untrusted import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_nnopt.results import RunResults

LARGEST_RESULTS_BYTES = 64 * 2**20
"""Largest results file; a case takes some ten kilobytes."""


_LEFT_OUT = ("shard", "revision", "parts", "conflicts")
"""Fields that a whole run's file does without where they say nothing, as files did before there were such fields."""


def write_json(path: Path, results: RunResults) -> None:
    """Write a results file.

    Raises:
        OutputError: the file cannot be written.
    """
    values = results.model_dump(mode="json", by_alias=True)
    values = {name: value for name, value in values.items() if name not in _LEFT_OUT or value}
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_html(path: Path, results: RunResults) -> None:
    """Write the HTML report.

    Raises:
        OutputError: the file cannot be written, or what draws the page is not installed.
    """
    if (missing := missing_for_html()) is not None:
        raise OutputError(missing)
    from pytest_nnopt.report.html.page import render_html  # takes half a second, and needs the extra

    write_text(path, render_html(results))


def missing_for_html() -> str | None:
    """Say what an HTML report lacks and the remedy; None where it lacks nothing."""
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if not missing:
        return None
    return f"an HTML report needs {' and '.join(missing)}; install them with pip install 'pytest-nnopt[report]'"


def read_results(path: Path) -> RunResults:
    """Read a results file.

    Raises:
        ResultsError: it cannot be read, is too large, or is no results file of this version.
    """
    from pydantic import ValidationError

    from pytest_nnopt.results import RunResults

    try:
        return RunResults.model_validate_json(read_bounded(path, LARGEST_RESULTS_BYTES))
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ResultsError(
            f"{path} is no results file that this version can read: {f'{where}: ' if where else ''}{first['msg']}; "
            "write one with pytest --nnopt-json"
        ) from None
