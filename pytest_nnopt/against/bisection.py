"""Search a range of commits for the first bad one with ``git bisect run``, in the user's own working tree.

In place, because only there every way to install the project finds the commit's own code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from pytest_nnopt.against.ending import raised_on_termination
from pytest_nnopt.against.git import git_environment
from pytest_nnopt.errors import RevisionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_nnopt.against.git import Repository

GOOD, BAD, CANNOT_RUN = 0, 1, 125
"""What the command of ``git bisect run`` exits with."""

_ENDING_SECONDS = 60.0
_ONLY_SKIPPED_LEFT = 2


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as people know it."""

    hash: str
    author: str
    date: str
    subject: str

    @property
    def short(self) -> str:
        """The hash, cut to what tells commits apart."""
        return self.hash[:12]


def describe_commit(repository: Repository, revision: str) -> Commit:
    """Return what git knows of a commit.

    Raises:
        RevisionError: there is no such commit.
    """
    return Commit(*repository.run("show", "-s", "--format=%H%x00%an%x00%as%x00%s", revision).split("\0"))


def resolve_range(repository: Repository, good: str, bad: str) -> tuple[str, str]:
    """Return the hashes of both ends of a range of commits.

    Raises:
        RevisionError: an end is unknown, or the good one is not an ancestor of the bad one.
    """
    ends = repository.resolve(good, exact=True).commit, repository.resolve(bad, exact=True).commit
    if ends[0] == ends[1]:
        raise RevisionError(f"{good} and {bad} are the same commit {ends[0][:12]}; there is nothing to search")
    if repository.answers("merge-base", "--is-ancestor", *ends) is None:
        raise RevisionError(f"{good} is not an ancestor of {bad}, so that no first bad commit lies between them")
    return ends


@contextlib.contextmanager
def bisecting(repository: Repository) -> Iterator[None]:
    """Let the body check out commits; what was checked out before is checked out again behind it.

    Raises:
        RevisionError: changes that are not committed would get lost, or a bisection is under way.
    """
    if repository.run("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=untracked"):
        raise RevisionError(
            f"{repository.top} has changes that are not committed, and bisecting checks out other commits there; "
            "commit them or put them aside with git stash"
        )
    if repository.answers("bisect", "log") is not None:
        raise RevisionError(f"a bisection is under way in {repository.top}; end it with git bisect reset")
    before = repository.answers("symbolic-ref", "--quiet", "--short", "HEAD") or repository.run("rev-parse", "HEAD")
    with raised_on_termination(SystemExit(128 + signal.SIGTERM)):
        try:
            yield
        finally:
            repository.answers("bisect", "reset")
            repository.run("checkout", "--quiet", before)


def find_first_bad(repository: Repository, good: str, bad: str, command: Sequence[str]) -> list[str]:
    """Return the hash of the first bad commit, or of all that it may be where some of them cannot run.

    To be called within ``bisecting``.

    Args:
        repository: where to search.
        good: hash of a commit that is known to be good.
        bad: hash of a descendant that is known to be bad.
        command: says of the commit that is checked out what it is, by its exit status.

    Raises:
        RevisionError: git fails, or the command ended in a way that says nothing of the commit.
    """
    repository.run("bisect", "start", bad, good)
    git = ["git", "-c", f"core.hooksPath={os.devnull}", "-C", str(repository.top)]
    status, said = run_apart([*git, "bisect", "run", *command], cwd=repository.top)
    if status == 0:
        return [repository.run("rev-parse", "refs/bisect/bad")]
    if status == _ONLY_SKIPPED_LEFT:
        goods = repository.run("for-each-ref", "--format=%(objectname)", "refs/bisect/good-*").split()
        return repository.run("rev-list", "refs/bisect/bad", "--not", *goods).split()
    last = said.strip().splitlines()[-1:] or ["it printed nothing"]
    raise RevisionError(f"git bisect run ended with status {status}: {last[0]}")


def run_apart(
    command: Sequence[str], *, cwd: Path, output: IO[bytes] | None = None, environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run a command in a session of its own, so that an interrupt reaches it once and it has time to clean up.

    Args:
        command: what to run.
        cwd: where.
        output: takes what it prints on both streams; None returns what it prints, errors go to this process's.
        environment: variables in place of this process's.

    Returns:
        its exit status, and what it printed.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=git_environment() if environment is None else environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if output is None else output,
        stderr=None if output is None else subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        _end(process)
        raise
    return process.returncode, (said or b"").decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process and all that it has started; kill what does not end."""
    for reason, seconds in ((signal.SIGINT, _ENDING_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, reason)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
