"""The pytest side of a comparison of two revisions: its options, the base's worktree, and the base's own test.

Loaded by runs that compare revisions, and by their measuring processes.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.against.arguments import base_arguments, base_test
from pytest_nnopt.against.ending import raised_on_termination
from pytest_nnopt.against.git import find_repository
from pytest_nnopt.against.imports import ModuleTables
from pytest_nnopt.against.worktree import Trees, copy_tests, worktree
from pytest_nnopt.errors import RevisionError
from pytest_nnopt.files import temporary_directory
from pytest_nnopt.plugin.run import gate_of
from pytest_nnopt.session.base import WORKER_LIST_OPTION, Base

if TYPE_CHECKING:
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.revisions import GuestRole
    from pytest_nnopt.session.worker import WorkerRole

_BASE = pytest.StashKey[Base]()
_GUEST = pytest.StashKey["GuestRole"]()
_WORKER_INPUT = "nnopt_base"
_LISTING_SECONDS = 300.0


def open_base(config: pytest.Config) -> Base:
    """Check out the base until pytest ends, or take it from xdist's controller.

    Raises:
        pytest.UsageError: it cannot be had.
    """
    if _BASE not in config.stash:
        given = getattr(config, "workerinput", {}).get(_WORKER_INPUT)
        config.stash[_BASE] = _check_out(config) if given is None else _base(config, Path(given[0]), given[1:])
    return config.stash[_BASE]


def base_role(config: pytest.Config) -> WorkerRole | GuestRole:
    """Return the role of a measuring process that runs the base: alone, beside the head, or as its guest."""
    from pytest_nnopt.session.worker import WorkerRole

    if _GUEST in config.stash:
        return config.stash[_GUEST]
    option = config.option
    role = WorkerRole.from_descriptor(
        int(option.nnopt_worker),
        base=Trees(Path(option.nnopt_worker_head), Path(option.nnopt_worker_base)),
        is_base=option.nnopt_worker_is_base,
    )
    if role.is_base:
        config.pluginmanager.register(BaseTest(role), "nnopt-base-test")
    return role


def run_beside(config: pytest.Config, test_id: str, worker: WorkerRole, head: CaseRun) -> None:
    """Run the base's test of the same id in this process, with modules of its own; it measures both revisions.

    The head's test has been entered and its fixtures are alive; so are the base's when both are measured.
    """
    from pytest_nnopt.session.revisions import GuestRole

    trees = worker.base
    assert trees is not None
    arguments = [str(argument) for argument in config.invocation_params.args]
    options = [*base_arguments(trees, arguments[: arguments.index("--")])]
    if config.option.basetemp is not None:
        options.append(
            f"--basetemp={config.option.basetemp}-base"
        )  # pytest empties it, and the head's test needs its own
    tables = ModuleTables(trees)
    guest = GuestRole(worker, head, tables)
    with tables.base():
        pytest.main(
            [*options, "--", base_test(trees, config.rootpath, test_id)], plugins=[_Guest(guest), BaseTest(guest)]
        )


def use_tests_of_head(base: Base, items: Iterable[pytest.Item]) -> None:
    """Put the head's test files, and the conftest files that they see, in place of the base's."""
    copy_tests(base.trees, {item.path for item in items})


def list_cases_of_base(config: pytest.Config, places: Iterable[str]) -> set[str]:
    """Return the ids of the base's tests that use ``model_pair``; none where it cannot be asked.

    Args:
        config: of the run that has checked out the base.
        places: files and directories to look in, relative to pytest's rootdir.
    """
    base, launch = open_base(config), gate_of(config).launch
    there = [
        place for place in (base.trees.to_base(config.rootpath.resolve() / one) for one in places) if place.exists()
    ]
    if launch is None or not there:
        return set()
    alone = base.launch_alone(launch)
    with temporary_directory() as directory:
        listed = directory / "cases"
        chosen = ["-k", config.option.keyword, "-m", config.option.markexpr]
        own = ["--collect-only", f"{WORKER_LIST_OPTION}={listed}", *chosen]
        command = [sys.executable, *alone.program, *alone.arguments, *own]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*command, "--", *map(str, there)],
                cwd=alone.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LISTING_SECONDS,
                check=False,
            )
        return set(listed.read_text(encoding="utf-8").split("\n")) - {""} if listed.is_file() else set()


class Listing:
    """Hooks of a process that lists the base's cases.

    Args:
        path: file that takes the tests' ids.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write the ids."""
        ids = [item.nodeid for item in session.items if "model_pair" in getattr(item, "fixturenames", ())]
        self._path.write_text("\n".join(ids), encoding="utf-8")


class Checkout:
    """Hooks of the run that has checked out a base."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist where the base lies."""
        base = open_base(node.config)
        node.workerinput[_WORKER_INPUT] = [str(base.trees.head), str(base.trees.base), base.description]

    def pytest_report_header(self, config: pytest.Config) -> str:
        """Say what is compared with."""
        return f"nnopt: compared with {open_base(config).description}"


class BaseTest:
    """Hooks of a run of the base's test: they say why it hands over no case.

    Args:
        role: what the case is handed over to.
    """

    def __init__(self, role: WorkerRole | GuestRole) -> None:
        self._role = role
        self._has_run = False
        self._is_found = False

    @pytest.hookimpl(trylast=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Keep that there is such a test."""
        self._is_found |= item.nodeid == item.config.option.nnopt_worker_test

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Report a file that cannot be imported."""
        if report.failed:
            self._report("unimportable", str(report.longrepr))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Keep the test's function, as proof of where it comes from."""
        self._has_run = True
        self._role.test = getattr(item, "function", None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Report a test that fails, or is skipped, before it hands over its case."""
        if report.failed:
            self._report("failing", report.longreprtext)
        elif report.skipped:
            self._report("unused", f"it is skipped: {report.longrepr}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Report a test that is not there, or that passes without handing over its case."""
        if self._has_run:
            self._report("unused", "it passes without handing over this case")
        elif self._is_found:
            self._report("failing", f"pytest refused to run it (status {int(exitstatus)})")
        elif exitstatus in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
            self._report("missing", f"pytest found no such test (status {int(exitstatus)})")

    def _report(self, kind: Any, reason: str) -> None:
        from pytest_nnopt.session.protocol import Absence

        self._role.report_absence(Absence(kind=kind, reason=reason))


class _Guest:
    """Makes a pytest run within the head's process know its role before any other plugin asks."""

    def __init__(self, role: GuestRole) -> None:
        self._role = role

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Keep the role with the run."""
        config.stash[_GUEST] = self._role


def _check_out(config: pytest.Config) -> Base:
    option = config.option
    try:
        repository = find_repository(config.rootpath)
        revision = repository.resolve(option.nnopt_against, exact=option.nnopt_against_exact)
        is_same = revision.is_head and not repository.is_dirty
        opened = ExitStack()
        config.add_cleanup(opened.close)
        opened.enter_context(raised_on_termination(KeyboardInterrupt()))
        trees = opened.enter_context(worktree(repository, revision, build=option.nnopt_against_build))
    except RevisionError as error:
        raise pytest.UsageError(f"--nnopt-against: {error}") from None
    said = f"{revision.description}, the same code as here" if is_same else revision.description
    config.pluginmanager.register(Checkout(), "nnopt-checkout")
    return _base(config, trees.head, [str(trees.base), said])


def _base(config: pytest.Config, head: Path, rest: list[str]) -> Base:
    return Base(Trees(head, Path(rest[0])), rest[1], config.rootpath, config.option.nnopt_against_mode)
