"""Writing files in one step, so that a reader sees the old text or the new, never half of one."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pytest_nnopt.errors import OutputError

_DESCRIPTORS = (Path("/dev"), Path("/proc"))
"""Folders whose links stand for open files, such as ``/dev/stdout``."""


_TEMPORARY = ".nnopt-"
"""How the names of files begin that are being written."""

_made_directories: list[str] = []
"""Every temporary directory of this process."""


@atexit.register
def remove_what_came_back() -> None:
    """Remove what was made anew; registered on import, so that it comes after what is registered later.

    Among that is torch's waiting for its compiling processes, whose last one may still make its directory.
    """
    for name in _made_directories:
        shutil.rmtree(name, ignore_errors=True)


def short_path(path: str) -> str:
    """Return a path relative to the working directory where it lies below it, for messages and for what is kept."""
    absolute = Path(path)
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else path


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically and durably, making its directories; a terminal or pipe is written to as it is.

    Raises:
        OutputError: it cannot be written; what was there before is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _is_replaceable(path):
            _replace(path, text)
        else:
            _append(path, text)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; {_remedy(error)}") from None


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free space there or choose another place, then run again"
    return "make its directory writable or choose another"


@contextlib.contextmanager
def temporary_directory(prefix: str = "nnopt-") -> Iterator[Path]:
    """Make a directory that is gone after the body.

    What a compiler's helpers make anew when the body has ended is removed when this process exits.

    Raises:
        OutputError: none can be made.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(
            f"no temporary directory can be made: {error}; let TMPDIR name a place that is writable and has space"
        ) from None
    _made_directories.append(made.name)
    with made as name:
        yield Path(name)


def remove_file(path: Path) -> None:
    """Remove a file, if there is one.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot delete {path}: {error.strerror or error}; make its directory writable, or delete it by hand"
        ) from None


def private_directory() -> Path:
    """Return a directory below the temporary one that all of the user's processes on this host share, and nobody else.

    Raises:
        OSError: it cannot be made, or somebody else was there first: what is in it could be anything.
    """
    directory = Path(tempfile.gettempdir()) / f"pytest-nnopt-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise OSError(errno.EPERM, f"{directory} is a link or belongs to another user")
    return directory


def remove_abandoned(folder: Path) -> None:
    """Remove what a process left in a folder that was killed while it wrote; no other may be writing there."""
    for leftover in folder.glob(f"{_TEMPORARY}*.tmp"):
        leftover.unlink(missing_ok=True)


def _is_replaceable(path: Path) -> bool:
    """Whether a new file may take the path's name: not that of a device, a pipe or an open file's descriptor."""
    if path.is_symlink() and any(path.parent.resolve().is_relative_to(folder) for folder in _DESCRIPTORS):
        return False
    return path.is_file() or not path.exists()


def _append(path: Path, text: str) -> None:
    """Write behind what is there, which for a terminal or pipe is all that can be done."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _replace(path: Path, text: str) -> None:
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=_TEMPORARY, suffix=".tmp", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync_directory(path.parent)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _sync_directory(folder: Path) -> None:
    """Let a new name survive a loss of power, where the file system can be asked to."""
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
