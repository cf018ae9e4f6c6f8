"""Which processes belong to a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_nnopt.measurement.family import RUN, family_variables, has_ended, is_of_this_run


def test_what_a_run_starts_knows_the_run() -> None:
    first = family_variables({"A": "1"})
    assert first == {"A": "1", RUN: str(os.getpid())}
    assert family_variables({**first, RUN: "7"})[RUN] == "7"  # what that one starts belongs to the same run


@pytest.mark.parametrize(
    ("environ", "is_own"), [(b"A=1\0NNOPT_RUN=7\0", True), (b"A=1\0NNOPT_RUN=70\0", False), (None, False)]
)
def test_a_process_is_known_by_its_environment(tmp_path: Path, environ: bytes | None, is_own: bool) -> None:
    if environ is not None:
        (tmp_path / "0").mkdir()
        (tmp_path / "0" / "environ").write_bytes(environ)
    assert is_of_this_run(0, variables={RUN: "7"}, proc=tmp_path) is is_own


def test_this_process_its_parent_and_the_first_belong_to_the_run(tmp_path: Path) -> None:
    for pid in (os.getpid(), os.getppid(), 7):
        assert is_of_this_run(pid, variables={RUN: "7"}, proc=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_kernel_shows_a_relative() -> None:
    wait = [sys.executable, "-c", "print('here', flush=True); input()"]
    for variables, is_own in ((family_variables(), True), ({**os.environ, RUN: "1"}, False)):
        with subprocess.Popen(wait, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline()  # it runs, so that the kernel knows its environment
            assert is_of_this_run(process.pid) is is_own
            process.communicate(b"\n")


@pytest.mark.parametrize(("statm", "is_over"), [("2800 1371 900 1 0 300 0\n", False), ("0 0 0 0 0 0 0\n", True)])
def test_a_process_without_memory_has_ended(tmp_path: Path, statm: str, is_over: bool) -> None:
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "statm").write_text(statm)
    assert has_ended(9, proc=tmp_path) is is_over


@pytest.mark.parametrize(("answer", "is_over"), [(None, False), (PermissionError, False), (ProcessLookupError, True)])
def test_one_that_the_kernel_hides_has_not_ended(tmp_path: Path, answer: type[OSError] | None, is_over: bool) -> None:
    def send(pid: int, signal: int) -> None:
        assert (pid, signal) == (9, 0)
        if answer is not None:
            raise answer

    assert has_ended(9, proc=tmp_path, send=send) is is_over


def test_one_of_which_nothing_can_be_read_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "9" / "statm").mkdir(parents=True)  # cannot be read
    assert not has_ended(9, proc=tmp_path)


def test_elsewhere_nobody_can_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not has_ended(9, proc=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_kernel_shows_an_end() -> None:
    wait = [sys.executable, "-c", "input()"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE, env={}) as process:  # without an environment it lives, too
        assert not has_ended(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert has_ended(process.pid)
    assert has_ended(process.pid)
