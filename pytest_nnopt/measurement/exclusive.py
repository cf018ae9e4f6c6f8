"""One timing process at a time on each device, across all processes of a user on this host."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.files import private_directory

LONGEST_WAIT_SECONDS = 1800.0


@contextlib.contextmanager
def exclusive(
    device: str, *, directory: Path | None = None, wait_seconds: float = LONGEST_WAIT_SECONDS
) -> Iterator[None]:
    """Hold the lock of a device while the body runs.

    Args:
        device: names what is contended for: ``cpu`` for the host, a GPU's UUID.
        directory: where lock files live; None is a directory of the user's below the temporary one.
        wait_seconds: how long to wait for the process that holds it.

    Raises:
        MeasurementError: the lock was not to be had in time.
    """
    path = (directory or _lock_directory()) / f"{re.sub(r'[^A-Za-z0-9-]', '_', device)}.lock"
    try:
        with FileLock(path, timeout=wait_seconds):
            yield
    except Timeout:
        raise MeasurementError(
            f"another process has been timing on {device!r} for {wait_seconds:.0f} s (it holds {path}); "
            "wait for it or end it, then run again"
        ) from None


def _lock_directory() -> Path:
    """Return a directory that all of the user's processes on this host share."""
    try:
        return private_directory()
    except OSError as error:
        raise MeasurementError(f"there is no place for lock files: {error}; set TMPDIR") from None
