from __future__ import annotations

import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from pytest_nnopt import plugin
from pytest_nnopt.plugin.run import GATE

Begun = list[tuple[str, "str | None", Mapping[str, str]]]


def make_item(name: str, begun: Begun | None) -> Any:
    """Make what pytest calls a test, of a run with a gate or without."""
    stash: dict[Any, Any] = {}
    if begun is not None:
        stash[GATE] = SimpleNamespace(begin_test=lambda *told: begun.append(told))
    return SimpleNamespace(nodeid=name, config=SimpleNamespace(stash=stash))


def test_a_test_and_the_one_after_it_are_announced_before_fixtures() -> None:
    begun: Begun = []
    first, second = make_item("a.py::first", begun), make_item("a.py::second", begun)
    plugin.pytest_runtest_protocol(first, second)
    plugin.pytest_runtest_protocol(second, None)
    assert begun == [("a.py::first", "a.py::second", os.environ), ("a.py::second", None, os.environ)]


def test_a_run_without_cases_has_nothing_to_announce() -> None:
    plugin.pytest_runtest_protocol(make_item("a.py::first", None), None)
