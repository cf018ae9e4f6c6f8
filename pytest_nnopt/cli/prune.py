"""``nnopt prune``: baselines whose test is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.cli.collected import VARIABLE
from pytest_nnopt.cli.output import AsJson, print_json, print_line
from pytest_nnopt.cli.project import BaselineDirectory, open_store
from pytest_nnopt.errors import BaselineError
from pytest_nnopt.files import remove_file, temporary_directory

if TYPE_CHECKING:
    from pytest_nnopt.baseline.store import BaselineStore

_COLLECT_SECONDS = 600.0
_LAST_LINES = 15
_NO_TESTS = 5
"""Pytest's exit status where nothing was collected."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What pytest found.

    Attributes:
        tests: ids of the tests that ask for ``model_pair``.
        skipped: modules that skipped themselves; whether their tests exist is not known.
    """

    tests: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()

    def may_have(self, case_id: str) -> bool:
        """Return whether the case's test exists, or may exist; the name of a pair is known only when it runs."""
        ends = [index for index, character in enumerate(case_id) if character == "#"]
        names = {case_id, *(case_id[:end] for end in ends)}
        return not names.isdisjoint(self.tests) or case_id.partition("::")[0] in self.skipped


def prune(
    baseline_dir: BaselineDirectory = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete baselines whose test is gone; pytest is asked which tests there are.

    Called in the project's root. With --json nothing is deleted unless --yes is given, too.
    """
    store = open_store(baseline_dir)
    gone = find_gone(store)
    is_wanted = yes or bool(gone and not as_json and _is_confirmed(gone))
    if is_wanted:
        _delete(store.root, gone)
    if as_json:
        print_json({"gone": [str(path) for path in gone], "deleted": is_wanted})
    elif not gone:
        typer.echo(f"every baseline in {store.root} has its test")
    else:
        typer.echo(f"{'deleted' if is_wanted else 'kept'} {len(gone)} baselines")


def find_gone(store: BaselineStore) -> list[Path]:
    """Return the files whose test is gone.

    Raises:
        BaselineError: a baseline cannot be read, or pytest cannot say which tests there are.
    """
    cases = {
        store.path(name, baseline.case): (name, baseline.case)
        for name in store.environments()
        for baseline in store.read_all(name)
    }
    files = sorted({Path(case.partition("::")[0]) for _, case in cases.values()})
    present = [file for file in files if file.is_file()]
    collected = collect([str(file) for file in present if _is_in_project(file)])
    outside = frozenset(str(file) for file in present if not _is_in_project(file))
    collected = replace(collected, skipped=collected.skipped | outside)
    functions = {_function_of(test) for test in collected.tests}
    telling = {(name, _function_of(case)) for name, case in cases.values() if collected.may_have(case)}
    return sorted(
        path
        for path, (name, case) in cases.items()
        if path.is_file()
        and not collected.may_have(case)
        and (_function_of(case) not in functions or (name, _function_of(case)) in telling)
    )


def _function_of(case_id: str) -> str:
    """Return a test's id without its parameters.

    Where a function is parametrised by what a host has, such as a GPU, all its cases of another host's are absent here;
    they are gone only where others of the same function and environment are not.
    """
    return case_id.partition("[")[0].partition("#")[0]


def _is_in_project(file: Path) -> bool:
    """Whether a file lies below the working directory: collecting runs it, and its name is a baseline's word."""
    return file.resolve().is_relative_to(Path.cwd())


def collect(files: Collection[str]) -> Collected:
    """Ask pytest which tests are in some files.

    Raises:
        BaselineError: it fails to collect one; its last words are in the message.
    """
    if not files:
        return Collected()
    with temporary_directory() as directory:
        found = directory / "collected.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-p",
            "pytest_nnopt.cli.collected",
            "-p",
            "no:cacheprovider",
            "--rootdir=.",
        ]
        done = subprocess.run(
            [*command, "--", *(f"./{file}" for file in files)],  # pytest takes its arguments from a file named "@..."
            env={**os.environ, VARIABLE: str(found)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COLLECT_SECONDS,
            check=False,
        )
        if done.returncode not in (0, _NO_TESTS) or not found.is_file():
            raise BaselineError(
                f"pytest cannot collect {', '.join(files)}, so nothing is pruned:\n{_last(done.stdout + done.stderr)}"
            )
        values = json.loads(found.read_text(encoding="utf-8"))
    return Collected(frozenset(values["tests"]), frozenset(values["skipped"]))


def _last(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LAST_LINES:])


def _is_confirmed(gone: Sequence[Path]) -> bool:
    for path in gone:
        print_line(str(path))
    return typer.confirm(f"delete {len(gone)} baselines?")


def _delete(root: Path, gone: Sequence[Path]) -> None:
    """Delete files, and the directories that are empty without them.

    Raises:
        OutputError: one cannot be deleted.
    """
    for path in gone:
        remove_file(path)
        for folder in path.relative_to(root).parents[:-1]:
            if any((root / folder).iterdir()):
                break
            (root / folder).rmdir()
