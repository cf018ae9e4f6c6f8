"""A pytest run's gate, how its measuring processes are started, and who follows them."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.errors import BaselineError, ConfigError
from pytest_nnopt.plugin.options import settings_of

if TYPE_CHECKING:
    from pytest_nnopt.plugin.ranks import Rank
    from pytest_nnopt.session.base import Base
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.session.processes import Launch
    from pytest_nnopt.session.progress import Progress
    from pytest_nnopt.session.revisions import GuestRole
    from pytest_nnopt.session.standby import Standby
    from pytest_nnopt.session.worker import WorkerRole

GATE = pytest.StashKey["Gate"]()
RANK: pytest.StashKey[Rank] = pytest.StashKey()

CROWDED = "nnopt_crowded"
"""Key of what xdist's controller tells its workers: why their cases cannot run on a GPU."""

_ALONE = {
    "numprocesses": ("-n0", "--dist=no"),
    "no_cov": ("--no-cov",),
    "xmlpath": ("--junit-xml=",),
    "htmlpath": ("--html=",),
    "report_log": ("--report-log=",),
    "json_report_file": ("--json-report-file=none",),
    "splits": ("--splits=1", "--group=1"),
    "timeout": ("--timeout=0",),  # this run's own alarm covers its measuring processes, too
    "reruns": ("--reruns=0",),
    "log_file": ("--log-file=",),
    "keyword": ("-k", ""),
    "markexpr": ("-m", ""),
}
"""By an option that is known where its plugin is loaded, under whatever name, the options that keep a measuring process
from spreading or deselecting tests and from overwriting this run's reports."""

ARGUMENTS = "nnopt_arguments"
"""Key of what xdist's controller tells its workers: the arguments it was started with."""

_WITHOUT_DIRECTORY = (
    "-c",
    "import sys; sys.path[:] = [path for path in sys.path if path]; import pytest; sys.exit(pytest.main())",
)
"""Runs pytest as the command of that name does, which does not put the working directory on the path."""


def gate_of(config: pytest.Config) -> Gate:
    """Return the run's gate, opened when it is first needed.

    Raises:
        pytest.UsageError: an option or the configuration is wrong.
    """
    if GATE not in config.stash:
        from pytest_nnopt.session.gate import open_gate

        option = config.option
        purpose = "compare" if option.nnopt_baseline else "update" if option.nnopt_update else "check"
        try:
            worker = _worker(config)
            config.stash[GATE] = open_gate(
                config.rootpath,
                settings_of(config),
                purpose,
                launch=_launch(config) if worker is None else None,  # a measuring process starts no others
                worker=worker,
                is_update_of_new=option.nnopt_update_new_only,
                reason=option.nnopt_reason,
            )
            rank = config.stash.get(RANK, None)
            if rank is not None:
                config.stash[GATE].team = rank.team
                config.stash[GATE].suite_size = rank.orders.suite_size
                config.stash[GATE].earlier.update({result.id: result for result in rank.orders.earlier})
            config.stash[GATE].root = config.rootpath
            config.stash[GATE].replay = None if option.nnopt_replay is None else Path(option.nnopt_replay)
            config.stash[GATE].base = open_base_of(config) if is_against(config) else None
            config.stash[GATE].standby = _standby(config, config.stash[GATE])
            config.stash[GATE].run_beside = functools.partial(_run_beside, config)
        except (BaselineError, ConfigError) as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[GATE]


def _standby(config: pytest.Config, gate: Gate) -> Standby | None:
    """Keep a measuring process at hand until pytest ends; ranks are started together, with their case."""
    if gate.launch is None or gate.launch.ranks is not None:
        return None
    from pytest_nnopt.session.standby import Standby

    standby = Standby(gate.launch)
    config.add_cleanup(standby.dismiss)
    return standby


def progress_of(config: pytest.Config) -> Progress:
    """Follow the measuring where somebody watches: on a terminal, or in the log that -v asked for.

    What the noise hides is said wherever the run has a report of its own, but with -q.
    """
    from pytest_nnopt.session.progress import Forewarning, NoProgress, PlainProgress, StatusLine

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.verbose < 0 or config.option.nnopt_worker is not None:
        return NoProgress()
    capture = config.pluginmanager.get_plugin("capturemanager")

    @contextlib.contextmanager
    def uncaptured() -> Generator[None, None, None]:
        with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
            yield

    def write(text: str) -> None:
        with uncaptured():
            sys.stdout.write(text)
            sys.stdout.flush()

    def write_line(text: str) -> None:
        with uncaptured():
            reporter.ensure_newline()
            reporter.write_line(text)

    if reporter.isatty:
        writer = config.get_terminal_writer()
        line = StatusLine(write, lambda: writer.width_of_current_line, writer.fullwidth)
        return Forewarning(write_line, line)
    if config.option.verbose > 0:
        return PlainProgress(write_line)  # which says what can be found of every case
    return Forewarning(write_line, NoProgress())


def is_against(config: pytest.Config) -> bool:
    """Whether this run, and not a measuring process of it, compares with another revision."""
    option = config.option
    if option.nnopt_against is None or option.nnopt_worker is not None:
        return False
    return not (option.help or option.collectonly or option.nnopt_skip)


def open_base_of(config: pytest.Config) -> Base:
    """Check out the revision to compare with.

    Raises:
        pytest.UsageError: it cannot be had, or stored baselines are asked for in the same run.
    """
    from pytest_nnopt.plugin.against import open_base

    if config.option.nnopt_baseline or config.option.nnopt_update:
        raise pytest.UsageError(
            "--nnopt-against measures what to compare with in this run, and --nnopt-baseline and --nnopt-update use "
            "what is stored; run them one after the other"
        )
    return open_base(config)


def _run_beside(config: pytest.Config, test_id: str, worker: WorkerRole, head: CaseRun) -> None:
    """Measure the base's case together with the head's, in this measuring process."""
    from pytest_nnopt.plugin.against import run_beside

    run_beside(config, test_id, worker, head)


def _worker(config: pytest.Config) -> WorkerRole | GuestRole | None:
    """Return the role of a measuring process, None in an ordinary run."""
    option = config.option
    rank = config.stash.get(RANK, None)
    if option.nnopt_worker is None and rank is None:
        return None
    from pytest_nnopt.session.worker import WorkerRole

    if rank is not None:
        return None if rank.orders.case_id is None else WorkerRole(rank.channel, rank.orders.case_id)
    if option.nnopt_worker_base is None:
        return WorkerRole.from_descriptor(int(option.nnopt_worker))
    from pytest_nnopt.plugin.against import base_role

    return base_role(config)


def _launch(config: pytest.Config) -> Launch:
    """Say how a measuring process is started: as this run was, with one test, alone and without reports."""
    from pytest_nnopt.session.processes import Launch, Ranks, without_paths

    arguments = getattr(config, "workerinput", {}).get(ARGUMENTS, config.invocation_params.args)
    directory = config.invocation_params.dir
    arguments = without_paths([str(argument) for argument in arguments], config.option.file_or_dir or (), directory)
    added = [word for name, words in _ALONE.items() if hasattr(config.option, name) for word in words]
    if config.pluginmanager.hasplugin("benchmark") and not config.getoption("benchmark_only", False):
        added.append("--benchmark-disable")  # it calls each function once, and saves nothing
    if isinstance(seed := config.getoption("randomly_seed", None), int):
        added.append(f"--randomly-seed={seed}")
    if config.inipath is not None:
        added.append(f"--config-file={config.inipath}")
    launch = Launch(
        (*arguments, f"--rootdir={config.rootpath}", *added),
        directory,
        program=_program(directory),
        prefix=_prefix(config.rootpath, directory),
        scratch=_scratch(config),
    )
    rank = config.stash.get(RANK, None)
    if rank is None:
        return launch
    orders = rank.orders
    arguments = tuple(one for one in arguments if not one.startswith("--nnopt-team="))
    ranks = Ranks(orders.count, orders.backend, orders.timeout_seconds)
    return replace(launch, arguments=arguments, ranks=ranks)


def _program(directory: Path) -> tuple[str, ...]:
    """Return what Python runs: ``python -m pytest`` finds modules in the working directory, ``pytest`` does not."""
    has_directory = any(path in ("", str(directory)) for path in sys.path)
    return ("-m", "pytest") if has_directory else _WITHOUT_DIRECTORY


def _prefix(root: Path, directory: Path) -> str:
    """Return what makes a node id, which is relative to ``root``, an argument in a directory."""
    way = os.path.relpath(root, directory)
    return "" if way == "." else f"{way}/"


def _scratch(config: pytest.Config) -> Path | None:
    """Return a directory for the temporary files of measuring processes; None where nobody said where they belong."""
    if config.option.basetemp is None:
        return None
    if config.option.nnopt_team is not None:
        return Path(config.option.nnopt_team)  # goes with the team
    beside = Path(config.option.basetemp).resolve().parent
    scratch = tempfile.TemporaryDirectory(
        prefix="nnopt-", dir=beside if beside.is_dir() else None, ignore_cleanup_errors=True
    )
    config.add_cleanup(scratch.cleanup)
    return Path(scratch.name)
