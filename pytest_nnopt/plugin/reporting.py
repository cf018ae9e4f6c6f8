"""The reporting process's hooks: the only process of a run, or xdist's controller."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.errors import BaselineError
from pytest_nnopt.plain import plain_line
from pytest_nnopt.plugin.run import GATE, gate_of, is_against

if TYPE_CHECKING:
    from pytest_nnopt.model import Outcome
    from pytest_nnopt.plugin.shards import Shard
    from pytest_nnopt.report.annotations import Place
    from pytest_nnopt.session.collector import Collector

USAGE_ERROR = "nnopt_usage_error"

EXPORTS = ("markdown", "openmetrics", "benchmark_json")
"""The kinds of ``session.collector.EXPORTS``; each has an option of its name."""

_NARROWEST = 60
"""Columns below which the table of cases would say nothing."""


class Reporting:
    """Hooks of the process that reports: the only one, or xdist's controller."""

    def __init__(self, config: pytest.Config, shard: Shard | None = None) -> None:
        self._config = config
        self._shard = shard
        self._collector: Collector | None = None
        self._seen: dict[str, bool] = {}
        self._skipped: list[str] = []
        self._is_selection = False

    def pytest_deselected(self) -> None:
        """Note that not everything runs."""
        self._is_selection = True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected."""
        if report.skipped:
            self._skipped.append(report.nodeid)
        self._is_selection = self._is_selection or report.failed

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> list[str]:
        """Announce what is asked of the cases; a run without them says nothing."""
        gate = self._config.stash.get(GATE, None)
        test_ids = [item.nodeid for item in items if gate is not None and item.nodeid in gate.configs]
        if gate is None or not test_ids:
            return []
        from pytest_nnopt.session.header import describe_run

        try:
            return [plain_line(line) for line in describe_run(gate, test_ids)]
        except BaselineError:  # pytest calls this even where that has just ended the run, and names it afterwards
            return []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather the cases of a finished test, and record them once its teardown has passed, too."""
        self._seen[report.nodeid] = self._seen.get(report.nodeid, False) or (report.when == "call" and report.passed)
        texts = getattr(report, "nnopt_cases", None)
        if texts:
            place = _place(self._config.rootpath, report.location)
            self._open_collector().receive(report.nodeid, texts, has_passed=report.passed, place=place)
        if self._collector is not None and report.when == "teardown":
            self._collector.finish_test(report.nodeid, has_passed=report.passed)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Raise a worker's usage error here, where it ends the run as it does without xdist."""
        message = getattr(node, "workeroutput", {}).get(USAGE_ERROR)
        if message is not None:
            raise pytest.UsageError(message)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the result files; what could not be written or recorded fails the run."""
        self._note_unused(session)
        self._note_gone(session)
        if self._collector is not None:
            self._collector.share()
        path = self._config.option.nnopt_json
        if path is not None:
            self._open_collector().write_json(Path(path))
        if self._config.option.nnopt_html is not None:
            self._open_collector().write_html(Path(self._config.option.nnopt_html))
        for kind in EXPORTS:
            path = getattr(self._config.option, f"nnopt_{kind}")
            if path is not None:
                self._open_collector().write_export(kind, Path(path))
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary and self._collector is not None and not self._collector.is_empty:
            self._collector.append_summary(Path(summary))
        if self._collector is not None and self._collector.has_problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the section with every case."""
        if self._collector is None or self._collector.is_silent:
            return
        terminalreporter.write_sep("=", "nnopt")
        width = max(self._config.get_terminal_writer().fullwidth, _NARROWEST)
        for line in self._collector.summary(width=width, is_verbose=self._config.option.nnopt_verbose):
            terminalreporter.write_line(plain_line(line.text), **_colour(line.outcome))
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for command in self._collector.annotations():
                terminalreporter.write_line(command)

    def _note_unused(self, session: pytest.Session) -> None:
        """Mention unused baselines where baselines matter and nothing was selected or cut short."""
        option = self._config.option
        is_cut_short = self._is_selection or session.shouldstop or session.shouldfail
        if not (option.nnopt_baseline or option.nnopt_update) or option.nnopt_worker is not None or is_cut_short:
            return
        places = _whole_places(self._config)
        if places:
            from pytest_nnopt.baseline.unused import Coverage

            completed = [test_id for test_id, is_complete in self._seen.items() if is_complete]
            coverage = Coverage(places, self._seen.keys(), completed, (), self._skipped)
            self._open_collector().note_unused(coverage)

    def _note_gone(self, session: pytest.Session) -> None:
        """List the base's cases that are no longer here, where nothing was selected or cut short."""
        is_complete = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        is_cut_short = self._is_selection or session.shouldstop or session.shouldfail or not is_complete
        places = _whole_places(self._config)
        if not is_against(self._config) or is_cut_short or not places:
            return
        from pytest_nnopt.plugin.against import list_cases_of_base, open_base

        gone = list_cases_of_base(self._config, places) - self._seen.keys()
        self._open_collector().note_gone(gone, open_base(self._config).description)

    def _open_collector(self) -> Collector:
        if self._collector is None:
            from pytest_nnopt.session.collector import Collector

            found = self._config.hook.pytest_nnopt_observers(config=self._config)
            observers = [observer for some in found for observer in some]
            shard = None if self._shard is None else (self._shard.index, self._shard.count)
            root = self._config.rootpath
            gate = gate_of(self._config)
            self._collector = Collector(gate.store, root, observers=observers, shard=shard, sharing=gate.sharing)
        return self._collector


def _whole_places(config: pytest.Config) -> list[str]:
    """Return the places whose tests were all collected, relative to pytest's rootdir; none of a selection."""
    option = config.option
    narrowing = ("keyword", "markexpr", "deselect", "lf", "stepwise", "ignore", "ignore_glob", "pyargs", "nnopt_skip")
    if any(getattr(option, name, None) for name in (*narrowing, "collectonly")):
        return []
    if any("::" in argument for argument in config.args):
        return []
    places = [(config.invocation_params.dir / argument).resolve() for argument in config.args]
    root = config.rootpath.resolve()
    return [place.relative_to(root).as_posix() for place in places if place.is_relative_to(root)]


def _place(root: Path, location: tuple[str, int | None, str]) -> Place:
    """Return where a test is as GitHub names it: relative to the checkout, which may lie above pytest's rootdir."""
    from pytest_nnopt.report.annotations import Place

    file, line, _ = location
    path = (root / file).resolve()
    checkout = Path(os.environ.get("GITHUB_WORKSPACE") or root).resolve()
    return Place(path.relative_to(checkout).as_posix() if path.is_relative_to(checkout) else file, (line or 0) + 1)


def _colour(outcome: Outcome | None) -> dict[str, bool]:
    if outcome is None or outcome.value == "skipped":
        return {}
    if outcome.is_failure:
        return {"red": True}
    return {"yellow": True} if outcome.value == "inconclusive" else {"green": True}
