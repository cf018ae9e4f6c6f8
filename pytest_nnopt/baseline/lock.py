"""One writer at a time for a baseline directory, so that of two updates at once neither loses what the other wrote."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_nnopt.errors import BaselineError

LONGEST_WAIT_SECONDS = 60.0


class DirectoryLock:
    """The lock of a directory among the processes of a user on this host; it can be taken again while it is held.

    The system lets go of it when its process ends, however that ends. The lock's file lies beside the user's
    temporary files, not in the directory, which belongs to the repository.

    Args:
        root: the directory; it need not exist.
        wait_seconds: how long to wait for another process.
    """

    def __init__(self, root: Path, *, wait_seconds: float = LONGEST_WAIT_SECONDS) -> None:
        self._root = root
        self._wait_seconds = wait_seconds
        self._lock: FileLock | None = None

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
            raise BaselineError(
                f"another process has been writing to {self._root} for {self._wait_seconds:.0f} s; wait for it or end "
                "it, then record again"
            ) from None
        except OSError as error:
            raise BaselineError(
                f"cannot lock {self._root}: {error}; let TMPDIR name a directory that is writable"
            ) from None
        with acquired:
            yield

    def _path(self) -> Path:
        directory = Path(tempfile.gettempdir()) / f"pytest-nnopt-{os.getuid()}"
        directory.mkdir(exist_ok=True)
        digest = hashlib.sha256(os.fsencode(self._root.resolve())).hexdigest()[:16]
        return directory / f"baselines-{digest}.lock"
