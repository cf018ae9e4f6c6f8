"""What is asked of git: which commit a revision means, and files of it in a directory of their own."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from pytest_nnopt.errors import RevisionError

_GIT_SECONDS = 300.0
_PLACES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_NAMESPACE",
)
"""Variables that hooks and ``git rebase --exec`` set for their own repository and index; they would redirect ours."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision as it was asked for, and the commit that stands for it.

    Attributes:
        asked: what the user typed.
        commit: full hash of the commit to compare with.
        is_merge_base: whether that is the merge base of the branch ``asked`` and HEAD instead of the branch's tip.
        is_head: whether that commit is HEAD itself.
    """

    asked: str
    commit: str
    is_merge_base: bool = False
    is_head: bool = False

    @property
    def description(self) -> str:
        """How the revision is named to people."""
        short = self.commit[:12]
        if self.is_merge_base:
            return f"{short}, the merge base of {self.asked} and HEAD"
        return short if self.commit.startswith(self.asked) else f"{self.asked} ({short})"


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository by the top directory of its working tree."""

    top: Path

    def run(self, *arguments: str) -> str:
        """Run git in the working tree and return what it printed, stripped.

        Raises:
            RevisionError: git is missing, takes too long, or fails; the message holds its own.
        """
        return run_git(self.top, *arguments).decode(errors="replace").strip()

    def answers(self, *arguments: str) -> str | None:
        """Return what git printed, None where it failed.

        Raises:
            RevisionError: git is missing or takes too long.
        """
        done = _run(self.top, arguments)
        return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None

    @property
    def is_shallow(self) -> bool:
        """Whether the history is cut off, as CI clones it by default."""
        return self.answers("rev-parse", "--is-shallow-repository") == "true"

    @property
    def is_dirty(self) -> bool:
        """Whether tracked files differ from HEAD, or files are there that git does not know."""
        return bool(self.run("status", "--porcelain"))

    def resolve(self, asked: str, *, exact: bool = False) -> Revision:
        """Find the commit to compare with: a branch stands for its merge base with HEAD, anything else for itself.

        Args:
            asked: a revision as git understands it.
            exact: take the tip of a branch, too.

        Raises:
            RevisionError: it names no commit, or there is no merge base; the message says what to do.
        """
        if not asked or asked.startswith("-"):
            raise RevisionError(f"{asked!r} is no revision; write a branch, a tag or a commit")
        commit = self.answers("rev-parse", "--verify", "--quiet", "--end-of-options", f"{asked}^{{commit}}")
        if commit is None:
            raise RevisionError(self._explain_unknown(asked))
        head = self.run("rev-parse", "HEAD")
        if exact or not self._is_branch(asked):
            return Revision(asked, commit, is_head=commit == head)
        base = self.answers("merge-base", "HEAD", commit)
        if base is None:
            raise RevisionError(self._explain_unrelated(asked))
        return Revision(asked, base, is_merge_base=base != commit, is_head=base == head)

    def _is_branch(self, asked: str) -> bool:
        name = self.answers("rev-parse", "--symbolic-full-name", asked)
        return asked != "HEAD" and name is not None and name.startswith(("refs/heads/", "refs/remotes/"))

    def _explain_unknown(self, asked: str) -> str:
        what = f"git knows no revision {asked!r} in {self.top}"
        remote, _, branch = asked.partition("/")
        if branch and remote in (self.answers("remote") or "").split():
            return f"{what}; fetch it with git fetch {remote} {branch}:refs/remotes/{asked}"
        if self.is_shallow:
            return f"{what}, whose history is cut off (a shallow clone); fetch all of it with git fetch --unshallow"
        return f"{what}; fetch it, or look for its name with git branch --all"

    def _explain_unrelated(self, asked: str) -> str:
        what = f"{asked!r} and HEAD have no merge base in {self.top}"
        if self.is_shallow:
            return (
                f"{what}, because its history is cut off (a shallow clone); fetch all of it with "
                "git fetch --unshallow, or with fetch-depth: 0 where actions/checkout made it"
            )
        return f"{what}: their histories are unrelated; compare with its tip by --nnopt-against-exact"


def find_repository(directory: Path) -> Repository:
    """Return the repository that ``directory`` belongs to.

    Raises:
        RevisionError: there is none, it has no commit, or git is missing.
    """
    done = _run(directory, ("rev-parse", "--show-toplevel"))
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise RevisionError(f"revisions are those of a git repository, and {directory} is in none: {said}")
    repository = Repository(Path(done.stdout.decode().strip()).resolve())
    if repository.answers("rev-parse", "--verify", "--quiet", "HEAD") is None:
        raise RevisionError(f"the repository {repository.top} has no commit yet")
    return repository


def copy_submodules(repository: Repository, commit: str, tree: Path) -> None:
    """Put the files of the submodules that ``commit`` names into its working tree, from what is checked out already.

    Submodules that are not checked out in the repository stay empty in ``tree`` as well.

    Raises:
        RevisionError: a submodule lacks the commit that is named; the message says how to fetch it.
    """
    for line in repository.run("ls-tree", "-r", "-z", "--full-tree", commit).split("\0"):
        facts, _, path = line.partition("\t")
        if not facts.startswith("160000 "):
            continue
        wanted, checked_out = facts.split()[2], repository.top / path
        if not (checked_out / ".git").exists():
            continue
        module = Repository(checked_out)
        if module.answers("cat-file", "-e", f"{wanted}^{{commit}}") is None:
            raise RevisionError(
                f"{commit[:12]} needs commit {wanted[:12]} of the submodule {path}, which is not "
                f"here; fetch it with git -C {path} fetch origin {wanted}"
            )
        _extract(run_git(checked_out, "archive", "--format=tar", wanted), tree / path)
        copy_submodules(module, wanted, tree / path)


def run_git(directory: Path, *arguments: str) -> bytes:
    """Run git and return what it printed.

    Raises:
        RevisionError: git is missing, takes too long, or fails; the message holds its own.
    """
    done = _run(directory, arguments)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise RevisionError(f"git {arguments[0]} failed in {directory}: {said}")
    return done.stdout


def git_environment() -> dict[str, str]:
    """Return this process's variables without those that would lead git to another repository."""
    return {name: value for name, value in os.environ.items() if name not in _PLACES}


def _run(directory: Path, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-c", f"core.hooksPath={os.devnull}", "-C", str(directory), *arguments]
    try:
        return subprocess.run(
            command,
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except ValueError:  # a NUL, which no argument can hold
        raise RevisionError(f"--nnopt-against: git can name nothing with a NUL in it: {arguments[-1]!r}") from None
    except FileNotFoundError:
        raise RevisionError("revisions need git, which is not on the PATH; install it") from None
    except subprocess.TimeoutExpired:
        raise RevisionError(f"git {arguments[0]} took more than {_GIT_SECONDS:.0f} s") from None


def _extract(archive: bytes, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(directory, filter="data")
        else:  # pragma: no cover  # early releases of Python 3.10 and 3.11
            tar.extractall(directory)
