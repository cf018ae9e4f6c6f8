"""Where evidence is found by name: a results file, an environment's baselines, or the baselines of a git revision."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.against.git import find_repository, run_git
from pytest_nnopt.baseline.level import level_of
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.errors import ResultsError, RevisionError
from pytest_nnopt.files import temporary_directory
from pytest_nnopt.report.files import read_results
from pytest_nnopt.results import case_environment

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CaseBaseline, Evidence
    from pytest_nnopt.results import RunResults

_LARGEST_ARCHIVE_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence of some cases, as a name stands for it.

    Attributes:
        name: what the user typed.
        cases: evidence by environment and case.
    """

    name: str
    cases: Mapping[tuple[str, str], Evidence]

    @property
    def environments(self) -> set[str]:
        """The environments it was measured in."""
        return {environment for environment, _ in self.cases}

    def by_case(self) -> dict[tuple[str, str], Evidence]:
        """Return the evidence of the only environment under the case alone."""
        return {("", case): evidence for (_, case), evidence in self.cases.items()}


def find_evidence(name: str, store: BaselineStore) -> Found:
    """Find what a name stands for: a results file, else an environment of the store, else a revision.

    Raises:
        ResultsError: it is a file that is no results file, or it is nothing.
        BaselineError: a baseline it stands for cannot be relied upon.
    """
    path = Path(name)
    if path.is_file():
        return Found(name, _of_results(read_results(path)))
    if name in store.environments():
        return Found(name, _of_environment(store, name))
    return Found(name, _of_revision(store, name))


def _of_results(results: RunResults) -> dict[tuple[str, str], Evidence]:
    return {(case_environment(results, index).name, case.id): case.evidence for index, case in enumerate(results.cases)}


def _of_environment(store: BaselineStore, name: str) -> dict[tuple[str, str], Evidence]:
    return {(name, baseline.case): _newest_level(baseline) for baseline in store.read_all(name)}


def _of_revision(store: BaselineStore, revision: str) -> dict[tuple[str, str], Evidence]:
    try:
        archive = _archived_baselines(store.root, revision)
    except RevisionError:
        known = ", ".join(store.environments()) or "none"
        raise ResultsError(
            f"{revision!r} is no results file, no environment in {store.root} (there are: {known}) and no git revision "
            f"with baselines in {store.root}"
        ) from None
    with temporary_directory() as directory:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            _extract_files(tar, directory)
        past = BaselineStore(directory)
        return {key: level for name in past.environments() for key, level in _of_environment(past, name).items()}


def _archived_baselines(root: Path, revision: str) -> bytes:
    """Return the baseline directory as a revision has it, as a tar archive relative to itself."""
    repository = find_repository(root.parent if root.parent.is_dir() else Path.cwd())
    folder = root.resolve().relative_to(repository.top).as_posix()
    commit = repository.answers("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise RevisionError(f"git knows no revision {revision!r} in {repository.top}")
    tree = f"{commit}:{folder}"
    size = sum(map(_size_of, run_git(repository.top, "ls-tree", "-rl", tree).splitlines()))
    if size > _LARGEST_ARCHIVE_BYTES:
        raise ResultsError(
            f"the baselines of {revision!r} have {size} bytes, and {_LARGEST_ARCHIVE_BYTES} are read at most; "
            f"look for what else is in {folder} there"
        )
    return run_git(repository.top, "archive", "--format=tar", tree)


def _size_of(line: bytes) -> int:
    """Return the size in a line of ``git ls-tree -l``; a submodule has none."""
    size = line.split()[3]
    return int(size) if size.isdigit() else 0


def _extract_files(tar: tarfile.TarFile, directory: Path) -> None:
    """Write out the regular files of an archive that lie inside the directory."""
    for member in tar:
        target = directory / member.name
        source = tar.extractfile(member) if member.isfile() else None
        if source is not None and target.resolve().is_relative_to(directory.resolve()):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read())


def _newest_level(baseline: CaseBaseline) -> Evidence:
    """Return the level that the newest recording belongs to."""
    last = baseline.recordings[-1]
    level = level_of([one for one in baseline.recordings if one.environment == last.environment])
    assert level is not None
    return level
