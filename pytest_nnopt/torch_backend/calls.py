"""Count the function calls that a piece of work makes: a measure of work that repeats where its time does not."""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Callable
from threading import get_ident
from typing import Any

COUNTS_PYTHON_ALONE = sys.version_info >= (3, 12)
"""Whether calls of functions written in C are left out: ``sys.monitoring`` tells of the others without a profiler."""


def count_calls(work: Callable[[], object]) -> int | None:
    """Do something and count the function calls that it makes.

    Returns:
        How many in this thread: up to Python 3.11 without recursion; later those of Python's own functions, recursion
        included. None where others hold what is needed to count, and then nothing was done.
    """
    return _count_by_events(work, sys.monitoring) if COUNTS_PYTHON_ALONE else _count_by_profile(work)  # type: ignore[attr-defined,unused-ignore]


def _count_by_profile(work: Callable[[], object]) -> int | None:
    if sys.getprofile() is not None:
        return None
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        work()
    finally:
        profiler.disable()
    return int(pstats.Stats(profiler).prim_calls)  # type: ignore[attr-defined]


def _count_by_events(work: Callable[[], object], monitoring: Any) -> int | None:
    """Count by the events of ``sys.monitoring``, of which several tools may be told at once."""
    tool = next((number for number in (4, 3) if monitoring.get_tool(number) is None), None)  # those free for any use
    if tool is None:
        return None
    count, own = 0, get_ident()

    def add_one(_code: object, _offset: int) -> None:
        nonlocal count
        if get_ident() == own:
            count += 1

    started = monitoring.events.PY_START
    monitoring.use_tool_id(tool, "pytest-nnopt")
    try:
        monitoring.register_callback(tool, started, add_one)
        monitoring.set_events(tool, started)
        work()
    finally:
        monitoring.set_events(tool, monitoring.events.NO_EVENTS)
        monitoring.register_callback(tool, started, None)
        monitoring.free_tool_id(tool)
    return count
