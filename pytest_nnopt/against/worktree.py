"""The base's files: a worktree in a temporary directory, which goes away whatever happens to the run."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pytest_nnopt.against.git import copy_submodules
from pytest_nnopt.errors import RevisionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_nnopt.against.git import Repository, Revision

_PREFIX = "nnopt-base-"
_TREE = "tree"
_LOCK = "in-use"
_SHOWN_OUTPUT_LINES = 15


@dataclass(frozen=True, slots=True)
class Trees:
    """Where the two revisions lie, as resolved paths.

    Attributes:
        head: top directory of the repository, with whatever is not committed.
        base: top directory of the worktree.
    """

    head: Path
    base: Path

    def to_base(self, path: Path) -> Path:
        """Return where the base has what the head has at ``path``; a path outside the head stays as it is."""
        return self.base / path.relative_to(self.head) if path.is_relative_to(self.head) else path

    def to_head(self, path: Path) -> Path:
        """Return where the head has what the base has at ``path``; a path outside the base stays as it is."""
        return self.head / path.relative_to(self.base) if path.is_relative_to(self.base) else path


@contextlib.contextmanager
def worktree(repository: Repository, revision: Revision, *, build: str | None = None) -> Iterator[Trees]:
    """Check out ``revision`` beside the repository until the block ends, and remove what killed runs left behind.

    Args:
        repository: the head's.
        revision: the base.
        build: a shell command to run in the worktree, for what must be compiled.

    Raises:
        RevisionError: the files cannot be had, or the command fails; the message holds its last output.
    """
    prune_worktrees(repository)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
    tree = home / _TREE
    lock = FileLock(home / _LOCK)
    try:
        with lock:
            repository.run("worktree", "add", "--detach", "--quiet", str(tree), revision.commit)
            copy_submodules(repository, revision.commit, tree)
            if build is not None:
                _build(build, tree)
            yield Trees(repository.top, tree)
    finally:
        _remove(repository, home)


def prune_worktrees(repository: Repository) -> None:
    """Remove worktrees of runs that are gone: their lock is free, because a process's locks end with it."""
    for line in repository.run("worktree", "list", "--porcelain").splitlines():
        home = Path(line.removeprefix("worktree ")).parent
        if not line.startswith("worktree ") or not home.name.startswith(_PREFIX):
            continue
        if not home.is_dir():
            _remove(repository, home)
            continue
        with contextlib.suppress(Timeout), FileLock(home / _LOCK, timeout=0):
            _remove(repository, home)


def copy_tests(trees: Trees, files: Iterable[Path]) -> None:
    """Put the head's test files, and the conftest files above them, in place of the base's."""
    for file in files:
        source = file.resolve()
        if not source.is_relative_to(trees.head):
            continue
        above = [parent / "conftest.py" for parent in source.parents if parent.is_relative_to(trees.head)]
        for wanted in (source, *(path for path in above if path.is_file())):
            target = trees.to_base(wanted)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(wanted, target)


def _remove(repository: Repository, home: Path) -> None:
    with contextlib.suppress(RevisionError):  # what git cannot remove goes with the directory
        repository.answers("worktree", "remove", "--force", "--force", str(home / _TREE))
    shutil.rmtree(home, ignore_errors=True)


def _build(command: str, tree: Path) -> None:
    done = subprocess.run(
        command, shell=True, cwd=tree, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        last = done.stdout.decode(errors="replace").splitlines()[-_SHOWN_OUTPUT_LINES:]
        what = f"the build {command!r} ended with status {done.returncode} in the base; its last output:"
        raise RevisionError("\n".join([what, *last]))
