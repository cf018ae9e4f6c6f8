"""A pytest plugin of its own, loaded with ``-p``: it writes down which tests there are and ends before they run.

It imports pluggy alone, and what it finds goes to the file that ``NNOPT_COLLECTED`` names. Tests count that a plugin
or ``-m`` deselects afterwards; modules that skip themselves are named, because what is in them is not known.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pluggy

VARIABLE = "NNOPT_COLLECTED"

_hookimpl = pluggy.HookimplMarker("pytest")
_skipped: list[str] = []


@_hookimpl
def pytest_collectreport(report: Any) -> None:
    """Note a module that skips itself."""
    if report.skipped:
        _skipped.append(report.nodeid)


@_hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Write down the tests that ask for ``model_pair``, before anything is deselected."""
    tests = [item.nodeid for item in items if "model_pair" in getattr(item, "fixturenames", ())]
    text = json.dumps({"tests": tests, "skipped": _skipped})
    Path(os.environ[VARIABLE]).write_text(text, encoding="utf-8")
