from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_nnopt.errors import OutputError
from pytest_nnopt.files import (
    private_directory,
    remove_file,
    remove_what_came_back,
    short_path,
    temporary_directory,
    write_text,
)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_writes_text_and_makes_directories(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.json"
    write_text(path, "größe\n")
    assert path.read_text(encoding="utf-8") == "größe\n"
    assert names_in(path.parent) == ["file.json"]


def test_replaces_what_was_there_and_lets_others_read_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old, and longer than the new text")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("function", ["tempfile.NamedTemporaryFile", "os.fsync", "pathlib.Path.replace"])
def test_a_failing_write_leaves_the_old_text_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(function, fail)
    with pytest.raises(OutputError, match=f"cannot write {path}: No space left on device; free space there"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "file", "new")
    assert names_in(tmp_path) == []


def test_a_file_in_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*; make its directory writable or choose another"):
        write_text(tmp_path / "file" / "below", "text")


def test_a_directory_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "directory", "text")
    assert names_in(tmp_path) == ["directory"]


def test_a_link_to_a_file_is_replaced_as_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").read_text() == "new"


@pytest.mark.parametrize("has_link", [False, True])
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path, has_link: bool) -> None:
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if has_link:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(path, "größe\n")
    assert os.read(reader, 100).decode() == "größe\n"
    os.close(reader)
    assert pipe.is_fifo()
    assert path.is_symlink() is has_link


def test_standard_output_that_goes_to_a_file_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "output"
    with path.open("w") as file:
        file.write("before\n")
        file.flush()
        before = path.stat().st_ino
        write_text(Path(f"/proc/self/fd/{file.fileno()}"), "text\n")
    assert path.read_text() == "before\ntext\n"
    assert path.stat().st_ino == before


def test_a_pipe_that_nobody_reads_any_more_is_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(OutputError, match=r"cannot write /proc/self/fd/.*: Broken pipe"):
        write_text(Path(f"/proc/self/fd/{writer}"), "text")
    os.close(writer)


def test_a_file_in_shared_memory_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_nnopt.files._DESCRIPTORS", (tmp_path,))
    path = tmp_path / "file"
    path.write_text("old")
    before = path.stat().st_ino
    write_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_ino != before


def test_paths_below_the_working_directory_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_path(str(tmp_path / "a" / "b.py")) == "a/b.py"
    assert short_path("/elsewhere/b.py") == "/elsewhere/b.py"
    assert short_path("<string>") == "<string>"


def test_a_file_is_removed_if_there_is_one_and_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for _ in range(2):
        remove_file(tmp_path / "file")
    assert names_in(tmp_path) == []
    with pytest.raises(OutputError, match=r"cannot delete .*; make its directory writable, or delete it by hand"):
        remove_file(tmp_path)


def test_a_temporary_directory_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_directory() as directory:
        assert directory.is_dir()
        assert directory.parent == tmp_path
    assert names_in(tmp_path) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with (
        pytest.raises(OutputError, match=r"no temporary directory can be made: .*; let TMPDIR name"),
        temporary_directory(),
    ):
        pass


def test_a_temporary_directory_that_was_made_anew_is_gone_with_the_process(tmp_path: Path) -> None:
    script = (
        "import atexit\n"
        "from pytest_nnopt.files import temporary_directory\n"
        "atexit.register(lambda: (directory.mkdir(), (directory / 'late').touch()))\n"
        "with temporary_directory() as directory: pass\n"
    )
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)}, check=True)
    assert names_in(tmp_path) == []


def test_what_came_back_can_be_removed_before_that() -> None:
    with temporary_directory() as directory:
        pass
    (directory / "made" / "anew").mkdir(parents=True)
    remove_what_came_back()
    assert not directory.exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_directory_that_may_be_anybodys_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    private = private_directory()
    assert private.stat().st_mode & 0o777 == 0o700
    assert private_directory() == private
    private.rmdir()
    if kind == "link":
        (tmp_path / "others").mkdir()
        private.symlink_to(tmp_path / "others")
    else:
        private.write_text("in the way")
    with pytest.raises(OSError, match=r"is a link or belongs to another user|File exists"):
        private_directory()


@pytest.mark.parametrize(("code", "is_told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_sync_a_directory_is_no_error_and_a_failing_disk_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_told: bool
) -> None:
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match="cannot write") if is_told else contextlib.nullcontext():
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
