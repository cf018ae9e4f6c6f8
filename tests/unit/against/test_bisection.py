"""Searching for the first bad commit, on a real repository whose commits say what they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_nnopt.against.bisection import bisecting, describe_commit, find_first_bad, resolve_range, run_apart
from pytest_nnopt.against.ending import raised_on_termination
from pytest_nnopt.against.git import Repository, find_repository
from pytest_nnopt.errors import RevisionError


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Commits 0 to 5 on main, each tagged and with its number in a file."""
    git(tmp_path, "init", "-q", "-b", "main")
    for number in range(6):
        (tmp_path / "number").write_text(str(number))
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-qm", f"number {number}")
        git(tmp_path, "tag", f"v{number}")
    return find_repository(tmp_path)


def statuses(*by_number: int) -> list[str]:
    """Return a command that exits with the status of the commit that is checked out."""
    return [sys.executable, "-c", f"import sys; sys.exit({by_number}[int(open('number').read())])"]


def search(repository: Repository, command: list[str]) -> list[str]:
    good, bad = resolve_range(repository, "v0", "v5")
    with bisecting(repository):
        found = find_first_bad(repository, good, bad, command)
    return [describe_commit(repository, commit).subject for commit in found]


def test_the_first_bad_commit_is_found_and_the_branch_put_back(repository: Repository) -> None:
    assert search(repository, statuses(0, 0, 0, 1, 1, 1)) == ["number 3"]
    assert git(repository.top, "symbolic-ref", "--short", "HEAD") == "main"
    assert repository.answers("bisect", "log") is None


def test_commits_that_cannot_run_leave_several_suspects(repository: Repository) -> None:
    git(repository.top, "checkout", "-q", "v5")
    assert search(repository, statuses(0, 0, 125, 125, 1, 1)) == ["number 4", "number 3", "number 2"]
    assert git(repository.top, "rev-parse", "HEAD") == git(repository.top, "rev-parse", "v5")


def test_a_command_that_breaks_ends_it(repository: Repository) -> None:
    with pytest.raises(RevisionError, match="git bisect run ended with status"):
        search(repository, statuses(0, 200, 200, 200, 200, 1))
    assert git(repository.top, "symbolic-ref", "--short", "HEAD") == "main"


def test_changes_that_are_not_committed_are_not_risked(repository: Repository) -> None:
    (repository.top / "number").write_text("mine")
    with pytest.raises(RevisionError, match=r"changes that are not committed.*git stash"), bisecting(repository):
        pass
    assert (repository.top / "number").read_text() == "mine"


def test_another_bisection_is_not_disturbed(repository: Repository) -> None:
    git(repository.top, "bisect", "start", "v5", "v0")
    with pytest.raises(RevisionError, match="a bisection is under way"), bisecting(repository):
        pass
    assert "git bisect start" in git(repository.top, "bisect", "log")


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with raised_on_termination(SystemExit()):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def end_while_bisecting(repository: Repository) -> None:
    with bisecting(repository):
        git(repository.top, "checkout", "-q", "v2")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


def test_a_request_to_end_puts_the_branch_back(repository: Repository) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        end_while_bisecting(repository)
    assert git(repository.top, "symbolic-ref", "--short", "HEAD") == "main"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (("v5", "v0"), "v5 is not an ancestor of v0"),
        (("v5", "main"), "are the same commit"),
        (("v0", "nowhere"), "git knows no revision 'nowhere'"),
    ],
)
def test_impossible_ranges_are_named(repository: Repository, ends: tuple[str, str], message: str) -> None:
    with pytest.raises(RevisionError, match=message):
        resolve_range(repository, *ends)


def test_an_interrupt_reaches_the_command_which_may_clean_up(tmp_path: Path) -> None:
    script = "import pathlib, time\ntry:\n  pathlib.Path('up').touch(); time.sleep(60)\n"
    script += "except KeyboardInterrupt:\n  pathlib.Path('cleaned').touch()\n"
    caller = (
        "import sys, pathlib\nfrom pytest_nnopt.against.bisection import run_apart\n"
        f"run_apart([sys.executable, '-c', {script!r}], cwd=pathlib.Path.cwd())"
    )
    process = subprocess.Popen([sys.executable, "-c", caller], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "up").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert (tmp_path / "cleaned").exists()


def test_what_a_command_prints_is_returned(tmp_path: Path) -> None:
    assert run_apart([sys.executable, "-c", "print('said'); raise SystemExit(7)"], cwd=tmp_path) == (7, "said\n")
