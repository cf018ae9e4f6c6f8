from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import SoftFileLock

from pytest_nnopt.baseline.lock import DirectoryLock
from pytest_nnopt.errors import BaselineError

HOLD = """
import sys
from pathlib import Path
from pytest_nnopt.baseline.lock import DirectoryLock
with DirectoryLock(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_waits_and_says_for_whom(tmp_path: Path) -> None:
    root = tmp_path / "baselines"
    command = [sys.executable, "-c", HOLD, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiting = pytest.raises(BaselineError, match=f"has been writing to {root} for 0 s; wait for it or end it")
        with waiting, DirectoryLock(root, wait_seconds=0.05).held():
            pass
        holder.kill()
        holder.wait()
        with DirectoryLock(root, wait_seconds=5).held():
            pass


def test_it_can_be_taken_again_while_it_is_held(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path, wait_seconds=0.05)
    with lock.held(), lock.held():
        pass
    with DirectoryLock(tmp_path, wait_seconds=0.05).held():
        pass


def test_without_a_place_for_its_file_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    refused = pytest.raises(BaselineError, match=r"cannot lock .*; let TMPDIR name a directory that is writable")
    with refused, DirectoryLock(tmp_path).held():
        pass


def test_it_does_not_matter_where_another_process_keeps_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, place = tmp_path / "baselines", tmp_path / "elsewhere"
    place.mkdir()
    command = [sys.executable, "-c", HOLD, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        waiting = pytest.raises(BaselineError, match=f"has been writing to {root} for 0 s; wait for it or end it")
        with waiting, DirectoryLock(root, wait_seconds=0.05).held():
            pass
        holder.kill()
    with DirectoryLock(root, wait_seconds=5).held():
        pass


def test_where_a_directory_cannot_be_locked_the_file_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.EBADF, "of a network file system")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("pytest_nnopt.baseline.lock.FileLock", SoftFileLock)
    with DirectoryLock(tmp_path).held():
        waiting = pytest.raises(BaselineError, match="has been writing to")
        with waiting, DirectoryLock(tmp_path, wait_seconds=0.05).held():
            pass
