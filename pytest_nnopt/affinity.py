"""Which cores this process may run on, whatever OpenMP makes of its first thread."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_BINDING = "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"
"""Variables by which OpenMP binds the thread that loads it to a core or a few, and other threads to the rest."""


def _allowed() -> frozenset[int] | None:
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


_AT_FIRST = _allowed()
"""What was allowed when this was imported: by pytest's loading the plugin, before torch loads OpenMP."""


def affinity() -> frozenset[int] | None:
    """Return the numbers of the cores that this process's threads may run on; None where the system does not tell."""
    is_bound = any(os.environ.get(name, "false").lower() not in ("", "false", "disabled") for name in _BINDING)
    return _AT_FIRST if is_bound else _allowed()


def usable_cores() -> frozenset[int]:
    """Return the numbers of the cores that may be used; on a system that does not tell, of all."""
    allowed = affinity()
    return frozenset(range(os.cpu_count() or 1)) if allowed is None else allowed


@contextlib.contextmanager
def inherited() -> Iterator[None]:
    """Let what this thread starts run on all of the cores that may be used: it inherits what the thread may run on."""
    own, allowed = _allowed(), affinity()
    if own is None or allowed is None or own == allowed:
        yield
        return
    os.sched_setaffinity(0, allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
