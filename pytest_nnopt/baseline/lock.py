"""One writer at a time for a baseline directory, so that of two updates at once neither loses what the other wrote."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_nnopt.errors import BaselineError
from pytest_nnopt.files import private_directory

LONGEST_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.02


class DirectoryLock:
    """The lock of a directory among processes; it can be taken again while it is held.

    The system lets go of it when its process ends, however that ends. The directory itself is locked, so that it does
    not matter whose the processes are and where they keep temporary files. A file beside the user's temporary files is
    locked as well, for file systems that cannot lock a directory; nothing is written into the directory for it.

    Args:
        root: the directory; it is made where it does not exist.
        wait_seconds: how long to wait for another process.
    """

    def __init__(self, root: Path, *, wait_seconds: float = LONGEST_WAIT_SECONDS) -> None:
        self._root = root
        self._wait_seconds = wait_seconds
        self._lock: FileLock | None = None
        self._depth = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock while the body runs.

        Raises:
            BaselineError: another process does not let go of it, or there is no place for its file.
        """
        try:
            self._lock = self._lock or FileLock(self._path(), timeout=self._wait_seconds)
            acquired = self._lock.acquire()
        except Timeout:
            raise self._taken() from None
        except OSError as error:
            raise BaselineError(
                f"cannot lock {self._root}: {error}; let TMPDIR name a directory that is writable"
            ) from None
        with acquired, self._directory() if self._depth == 0 else contextlib.nullcontext():
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def _directory(self) -> Iterator[None]:
        """Hold the directory itself, where there can be one; what is wrong with it, who writes there says."""
        with contextlib.ExitStack() as opened:
            with contextlib.suppress(OSError):
                self._root.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, descriptor)
                self._wait_for(descriptor)
            yield

    def _wait_for(self, descriptor: int) -> None:
        """Wait until the directory is this process's; one that cannot be locked is taken as it is."""
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._taken() from None
                time.sleep(_POLL_SECONDS)

    def _taken(self) -> BaselineError:
        return BaselineError(
            f"another process has been writing to {self._root} for {self._wait_seconds:.0f} s; wait for it or end "
            "it, then record again"
        )

    def _path(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self._root.resolve())).hexdigest()[:16]
        return private_directory() / f"baselines-{digest}.lock"
