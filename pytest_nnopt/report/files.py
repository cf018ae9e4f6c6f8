"""Result files, written in one step each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_nnopt.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_nnopt.results import RunResults


def write_json(path: Path, results: RunResults) -> None:
    """Write a results file.

    Raises:
        OutputError: the file cannot be written.
    """
    values = results.model_dump(mode="json", by_alias=True)
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
