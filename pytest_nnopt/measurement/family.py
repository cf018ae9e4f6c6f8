"""Which processes belong to this run, those that it started and those that these started, and that none outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)

RUN = "NNOPT_RUN"
"""The environment variable by which the processes of a run know it: the id of the process that it began with."""


def family_variables(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a process that this one starts, in which its run is named."""
    return {**variables, RUN: _run(variables)}


def end_with_parent() -> None:
    """Have the kernel end this process with the one that started it, even where that is killed; Linux alone can.

    It ends even while it is stopped. What the kernel waits for is the end of the thread that started the process.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended in between
            os._exit(1)


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


def has_ended(pid: int, *, proc: Path = Path("/proc"), send: Callable[[int, int], None] = os.kill) -> bool:
    """Return whether a process is no more, or has given up its memory on its way there; False where nobody can tell.

    Such a process computes nothing, and nothing tells any longer which run it was of.

    Args:
        pid: the id of the process.
        proc: where the kernel shows how much memory a process has.
        send: sends a signal; 0 asks whether there is such a process, since the kernel may hide those of others.
    """
    if sys.platform != "linux":
        return False
    try:
        return (proc / str(pid) / "statm").read_text(encoding="ascii").startswith("0 ")
    except FileNotFoundError:
        pass
    except OSError:
        return False
    try:
        send(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _run(variables: Mapping[str, str]) -> str:
    return variables.get(RUN, str(os.getpid()))
