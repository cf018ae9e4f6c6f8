"""Which processes belong to this run: those that it started, and those that these started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

RUN = "NNOPT_RUN"
"""The environment variable by which the processes of a run know it: the id of the process that it began with."""


def family_variables(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a process that this one starts, in which its run is named."""
    return {**variables, RUN: _run(variables)}


def is_of_this_run(pid: int, *, variables: Mapping[str, str] = os.environ, proc: Path = Path("/proc")) -> bool:
    """Return whether a process is this one, the one that started it, or another of the same run; False if unknown.

    Args:
        pid: the id of the process.
        variables: this process's environment.
        proc: where the kernel shows the environments that processes were started with.
    """
    run = _run(variables)
    if pid in (os.getpid(), os.getppid()) or str(pid) == run:
        return True
    try:
        told = (proc / str(pid) / "environ").read_bytes()
    except OSError:  # it has ended, or is another user's
        return False
    return f"{RUN}={run}".encode() in told.split(b"\0")


def _run(variables: Mapping[str, str]) -> str:
    return variables.get(RUN, str(os.getpid()))
