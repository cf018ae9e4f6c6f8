"""The pytest side: options, markers, the ``model_pair`` fixture, and hooks of a few lines that delegate.

Every pytest run of every user loads this module, so it imports nothing heavy; the rest is imported once a case is
collected.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.errors import BaselineError, ConfigError, NnoptError

if TYPE_CHECKING:
    from pytest_nnopt.model import Outcome
    from pytest_nnopt.observers import Observer
    from pytest_nnopt.report.annotations import Place
    from pytest_nnopt.session.base import Base
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.collector import Collector
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.session.model_pair import ModelPairFactory
    from pytest_nnopt.session.processes import Launch
    from pytest_nnopt.session.progress import Progress
    from pytest_nnopt.session.revisions import GuestRole
    from pytest_nnopt.session.worker import WorkerRole

_GATE = pytest.StashKey["Gate"]()
_FACTORY = pytest.StashKey["ModelPairFactory"]()
_USAGE_ERROR = "nnopt_usage_error"
_TEST_SEED = 0

_ALONE = {
    "xdist": ("-n0", "--dist=no"),
    "pytest_cov": ("--no-cov",),
    "junitxml": ("--junit-xml=",),
    "html": ("--html=",),
    "reportlog_plugin": ("--report-log=",),
    "pytest_jsonreport": ("--json-report-file=none",),
    "timeout": ("--timeout=0",),  # this run's own alarm covers its measuring processes, too
}
"""By plugin, the options that keep a measuring process from spreading tests and from overwriting this run's reports."""

_EXPORTS = ("markdown", "openmetrics", "benchmark_json")
"""The kinds of ``session.collector.EXPORTS``; each has an option of its name."""

_LONGEST_REASON = 1000
"""Characters; as of ``baseline.schema.Reason``."""

_NARROWEST = 60
"""Columns below which the table of cases would say nothing."""

_MARKERS = {
    "compile": "nnopt_compile(mode=, backend=, fullgraph=, dynamic=, options=, fallback=, profile=): how to compile",
    "tolerance": "nnopt_tolerance(rtol=, atol=, factor=, equal_nan=, strides=, samples=): "
    "how far its numbers may be from eager's",
    "speedup": "nnopt_speedup(min=): how much faster than eager it must be",
    "limits": "nnopt_limits(latency=, device_time=, memory=, compile_time=, compile_work=, graph_breaks=, recompiles=, "
    "eager_frames=): how much worse than its baseline it may become",
}


class Hooks:
    """Hooks that a user's conftest.py may implement."""

    def pytest_nnopt_observers(self, config: pytest.Config) -> Sequence[Observer]:
        """Return who is to be told about each case: objects with the methods of ``pytest_nnopt.observers.Observer``.

        It is called once a case has finished, in the process that reports.
        """
        return ()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Announce the hooks."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options; defaults of None mean not given, so that pyproject.toml can speak."""
    group = parser.getgroup("nnopt", "gate for optimised PyTorch models")
    group.addoption("--nnopt-baseline", action="store_true", help="compare with the stored baselines, too")
    group.addoption("--nnopt-update", action="store_true", help="record baselines for the selected tests")
    group.addoption(
        "--nnopt-update-new-only", action="store_true", help="record baselines where there are none yet, and no others"
    )
    group.addoption("--nnopt-reason", metavar="TEXT", help="why an update accepts a worse figure; kept in the baseline")
    group.addoption("--nnopt-skip", action="store_true", help="deselect every test that uses model_pair")
    group.addoption(
        "--nnopt-only",
        metavar="CHECKS",
        help="run the named checks alone, such as compile,numerics",
    )
    group.addoption("--nnopt-baseline-dir", metavar="DIR", help="where baselines live (default: baselines)")
    group.addoption(
        "--nnopt-missing",
        choices=("fail", "record"),
        help="what a missing baseline does (default: fail)",
    )
    group.addoption("--nnopt-replay", help=argparse.SUPPRESS)
    group.addoption(
        "--nnopt-diagnose",
        choices=("never", "fail"),
        help="whether wrong numbers are traced to their cause by further runs (default: fail)",
    )
    group.addoption("--nnopt-device", metavar="DEVICE", help="move models and inputs to cpu or cuda[:N]")
    group.addoption("--nnopt-effect", metavar="PERCENT", help="tolerated slowdown where a test declares none")
    group.addoption("--nnopt-false-alarms", metavar="PERCENT", help="how often unchanged code may fail (default: 1%%)")
    group.addoption("--nnopt-budget", metavar="TIME", help="how long the timing of one case may take (default: 60s)")
    group.addoption(
        "--nnopt-suite-budget", metavar="TIME", help="how long the timing of all cases may take (default: any)"
    )
    group.addoption("--nnopt-against", metavar="REV", help="compare with revision REV, measured in the same run")
    group.addoption(
        "--nnopt-against-exact", action="store_true", help="with REV itself, not the merge base where REV is a branch"
    )
    group.addoption(
        "--nnopt-against-mode",
        choices=("auto", "process", "pair"),
        default="auto",
        help="whether both revisions share a process or have one each (default: shared where that works)",
    )
    group.addoption(
        "--nnopt-against-tests",
        choices=("base", "head"),
        default="base",
        help="whose test files are used on the base's package (default: base)",
    )
    group.addoption("--nnopt-against-build", metavar="CMD", help="build the base by this shell command in its worktree")
    group.addoption("--nnopt-json", metavar="FILE", help="write the results as JSON")
    group.addoption("--nnopt-html", metavar="FILE", help="write a report as one HTML page (needs the extra 'report')")
    group.addoption("--nnopt-markdown", metavar="FILE", help="write a summary as Markdown")
    group.addoption("--nnopt-openmetrics", metavar="FILE", help="write the figures as OpenMetrics, for GitLab")
    group.addoption("--nnopt-benchmark-json", metavar="FILE", help="write the times as pytest-benchmark's JSON")
    group.addoption("--nnopt-verbose", action="store_true", help="show every figure of every case")
    for name in ("worker", "worker-case", "worker-head", "worker-base"):
        group.addoption(f"--nnopt-{name}", help=argparse.SUPPRESS)
    group.addoption("--nnopt-worker-is-base", action="store_true", help=argparse.SUPPRESS)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Announce the markers, and refuse impossible options before anything is collected."""
    for text in _MARKERS.values():
        config.addinivalue_line("markers", text)
    _settle_update(config)
    if config.option.nnopt_baseline and config.option.nnopt_update:
        raise pytest.UsageError("--nnopt-baseline compares and --nnopt-update records; give one of them")
    if config.option.nnopt_html is not None:
        _require_html()
    if _is_against(config):
        _open_base(config)
    if any(value is not None for value in _command_line(config).values()):
        _gate(config)
    if config.option.nnopt_worker_base is not None:
        _gate(config)
    if config.option.nnopt_worker is not None:
        config.pluginmanager.register(Measuring(), "nnopt-measuring")
    elif not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporting(config), "nnopt-reporting")


def _settle_update(config: pytest.Config) -> None:
    """Let ``--nnopt-update-new-only`` stand for an update, too, and refuse a reason that nothing would keep.

    Raises:
        pytest.UsageError: there is no update to give a reason for, or it is empty or too long.
    """
    option = config.option
    option.nnopt_update = option.nnopt_update or option.nnopt_update_new_only
    if option.nnopt_reason is None:
        return
    if not option.nnopt_update:
        raise pytest.UsageError("--nnopt-reason says why an update accepts a worse figure; give --nnopt-update with it")
    if not 1 <= len(option.nnopt_reason.strip()) <= _LONGEST_REASON:
        raise pytest.UsageError(f"--nnopt-reason must have between 1 and {_LONGEST_REASON} characters")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the cases when asked to; else check their markers and baselines before anything is measured."""
    cases = [item for item in items if "model_pair" in getattr(item, "fixturenames", ())]
    if not cases:
        return
    if config.option.nnopt_skip:
        items[:] = [item for item in items if item not in cases]
        config.hook.pytest_deselected(items=cases)
        return
    try:
        gate = _gate(config)
        gate.prepare({item.nodeid: _markers(item) for item in cases})
        gate.progress = _progress(config)
        if gate.base is not None and config.option.nnopt_against_tests == "head":
            from pytest_nnopt.plugin_against import use_tests_of_head

            use_tests_of_head(gate.base, cases)
    except (pytest.UsageError, ConfigError, BaselineError) as error:
        _refuse(config, items, str(error))


@pytest.fixture
def model_pair(request: pytest.FixtureRequest) -> Generator[ModelPairFactory, None, None]:
    """Gate a model: call it with the model and its inputs, as ``model_pair(model, *inputs, **keyword_inputs)``.

    It takes a module, a bound method or any callable, and returns a ``ModelPair`` with ``.eager``, ``.compiled`` and
    results to assert on. What the test does not ask for is measured after it returns.

    Of its own it takes ``candidate=`` (an optimised callable in place of torch.compile), ``loss=`` (makes the case a
    training step), ``name=`` (for several pairs in one test), ``samples=`` (further inputs for the numerics), and
    ``kwargs=`` for keyword inputs of the model that have one of these names.

    The generators of Python, numpy and torch are seeded before the test's body, so that weights and inputs drawn in it
    are the same in every run, and a changed number means a changed model.
    """
    from pytest_nnopt.session.model_pair import ModelPairFactory
    from pytest_nnopt.torch_backend.origin import seed_generators

    seed_generators(_TEST_SEED)
    factory = ModelPairFactory(request.node.nodeid, _gate(request.config))
    request.node.stash[_FACTORY] = factory
    yield factory
    factory.close()
    del request.node.stash[_FACTORY]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Measure what the test's body left open, and fail the test where the verdict does."""
    try:
        yield
        factory = item.stash.get(_FACTORY, None)
        message = None if factory is None else _conclude(factory)
    finally:
        if _GATE in item.config.stash:
            item.config.stash[_GATE].progress.finish()
    if message is not None:
        pytest.fail(message, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the cases along with the test's report, as text, so that they arrive under xdist, too."""
    report = yield
    factory = item.stash.get(_FACTORY, None)
    if factory is not None and call.when == "call":
        report.nnopt_cases = factory.messages()  # type: ignore[attr-defined]  # reports carry extra attributes
        others = [(name, value) for name, value in item.user_properties if not name.startswith("nnopt.")]
        item.user_properties[:] = [*others, *factory.properties()]
        report.user_properties = list(item.user_properties)  # the report copied them before they were there
    return report


class Measuring:
    """Hooks of a measuring process."""

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Leave at once when all is done: fixtures are torn down, and collecting torch's garbage takes seconds."""
        worker = _gate(session.config).worker
        if worker is not None and worker.is_done:
            os._exit(exitstatus)


class Reporting:
    """Hooks of the process that reports: the only one, or xdist's controller."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
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
        gate = self._config.stash.get(_GATE, None)
        test_ids = [item.nodeid for item in items if gate is not None and item.nodeid in gate.configs]
        if gate is None or not test_ids:
            return []
        from pytest_nnopt.session.header import describe_run

        try:
            return describe_run(gate, test_ids)
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
        message = getattr(node, "workeroutput", {}).get(_USAGE_ERROR)
        if message is not None:
            raise pytest.UsageError(message)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the result files; what could not be written or recorded fails the run."""
        self._note_unused(session)
        path = self._config.option.nnopt_json
        if path is not None:
            self._open_collector().write_json(Path(path))
        if self._config.option.nnopt_html is not None:
            self._open_collector().write_html(Path(self._config.option.nnopt_html))
        for kind in _EXPORTS:
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
        terminalreporter.section("nnopt")
        width = max(self._config.get_terminal_writer().fullwidth, _NARROWEST)
        for line in self._collector.summary(width=width, is_verbose=self._config.option.nnopt_verbose):
            terminalreporter.write_line(line.text, **_colour(line.outcome))
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

    def _open_collector(self) -> Collector:
        if self._collector is None:
            from pytest_nnopt.session.collector import Collector

            found = self._config.hook.pytest_nnopt_observers(config=self._config)
            observers = [observer for some in found for observer in some]
            self._collector = Collector(_gate(self._config).store, self._config.rootpath, observers=observers)
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


def _require_html() -> None:
    """Find out now, not after an hour of measuring, whether a page can be drawn.

    Raises:
        pytest.UsageError: something is not installed.
    """
    from pytest_nnopt.report.files import missing_for_html

    if (missing := missing_for_html()) is not None:
        raise pytest.UsageError(missing)


def _gate(config: pytest.Config) -> Gate:
    """Return the run's gate, opened when it is first needed.

    Raises:
        pytest.UsageError: an option or the configuration is wrong.
    """
    if _GATE not in config.stash:
        from pytest_nnopt.session.gate import open_gate

        option = config.option
        purpose = "compare" if option.nnopt_baseline else "update" if option.nnopt_update else "check"
        try:
            config.stash[_GATE] = open_gate(
                config.rootpath,
                _command_line(config),
                purpose,
                launch=_launch(config),
                worker=_worker(config),
                is_update_of_new=option.nnopt_update_new_only,
                reason=option.nnopt_reason,
            )
            config.stash[_GATE].root = config.rootpath
            config.stash[_GATE].replay = None if option.nnopt_replay is None else Path(option.nnopt_replay)
            config.stash[_GATE].base = _open_base(config) if _is_against(config) else None
            config.stash[_GATE].run_beside = functools.partial(_run_beside, config)
        except ConfigError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[_GATE]


def _conclude(factory: ModelPairFactory) -> str | None:
    """Return why the test fails, or None."""
    try:
        return factory.conclude()
    except NnoptError as error:
        return str(error)


def _progress(config: pytest.Config) -> Progress:
    """Follow the measuring where somebody watches: on a terminal, or in the log that -v asked for."""
    from pytest_nnopt.session.progress import NoProgress, PlainProgress, StatusLine

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
        return StatusLine(write, lambda: writer.width_of_current_line, writer.fullwidth)
    return PlainProgress(write_line) if config.option.verbose > 0 else NoProgress()


def _is_against(config: pytest.Config) -> bool:
    """Whether this run, and not a measuring process of it, compares with another revision."""
    option = config.option
    if option.nnopt_against is None or option.nnopt_worker is not None:
        return False
    return not (option.help or option.collectonly or option.nnopt_skip)


def _open_base(config: pytest.Config) -> Base:
    """Check out the revision to compare with.

    Raises:
        pytest.UsageError: it cannot be had, or stored baselines are asked for in the same run.
    """
    from pytest_nnopt.plugin_against import open_base

    if config.option.nnopt_baseline or config.option.nnopt_update:
        raise pytest.UsageError(
            "--nnopt-against measures what to compare with in this run, and --nnopt-baseline and --nnopt-update use "
            "what is stored; run them one after the other"
        )
    return open_base(config)


def _run_beside(config: pytest.Config, test_id: str, worker: WorkerRole, head: CaseRun) -> None:
    """Measure the base's case together with the head's, in this measuring process."""
    from pytest_nnopt.plugin_against import run_beside

    run_beside(config, test_id, worker, head)


def _worker(config: pytest.Config) -> WorkerRole | GuestRole | None:
    """Return the role of a measuring process, None in an ordinary run."""
    option = config.option
    if option.nnopt_worker is None:
        return None
    from pytest_nnopt.session.worker import WorkerRole

    if option.nnopt_worker_base is None:
        return WorkerRole.from_descriptor(int(option.nnopt_worker), option.nnopt_worker_case)
    from pytest_nnopt.plugin_against import base_role

    return base_role(config)


def _launch(config: pytest.Config) -> Launch:
    """Say how a measuring process is started: as this run was, with one test, alone and without reports."""
    from pytest_nnopt.session.processes import Launch, without_paths

    workerinput = getattr(config, "workerinput", {})
    arguments = workerinput["mainargv"][1:] if "mainargv" in workerinput else config.invocation_params.args
    arguments = without_paths([str(argument) for argument in arguments], config.option.file_or_dir or ())
    added = [word for name, words in _ALONE.items() if config.pluginmanager.hasplugin(name) for word in words]
    if config.pluginmanager.hasplugin("benchmark") and not config.getoption("benchmark_only", False):
        added.append("--benchmark-disable")  # it calls each function once, and saves nothing
    if isinstance(seed := config.getoption("randomly_seed", None), int):
        added.append(f"--randomly-seed={seed}")
    return Launch((*arguments, f"--rootdir={config.rootpath}", *added), config.invocation_params.dir)


def _command_line(config: pytest.Config) -> dict[str, Any]:
    """Return the settings given on the command line; None means not given."""
    only = config.option.nnopt_only
    return {
        "baseline_dir": config.option.nnopt_baseline_dir,
        "missing": config.option.nnopt_missing,
        "only": None if only is None else tuple(part.strip() for part in only.split(",")),
        "device": config.option.nnopt_device,
        "diagnose": config.option.nnopt_diagnose,
        "effect": config.option.nnopt_effect,
        "false_alarms": config.option.nnopt_false_alarms,
        "budget": config.option.nnopt_budget,
        "suite_budget": config.option.nnopt_suite_budget,
    }


def _markers(item: pytest.Item) -> dict[str, list[dict[str, Any]]]:
    """Return the arguments of a test's markers by section, closest first.

    Raises:
        ConfigError: a marker has positional arguments.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for section in _MARKERS:
        for marker in item.iter_markers(f"nnopt_{section}"):
            if marker.args:
                values = ", ".join(map(repr, marker.args))
                raise ConfigError(f"{item.nodeid}: nnopt_{section}({values}) takes keyword arguments only")
            found.setdefault(section, []).append(dict(marker.kwargs))
    return found


def _place(root: Path, location: tuple[str, int | None, str]) -> Place:
    """Return where a test is as GitHub names it: relative to the checkout, which may lie above pytest's rootdir."""
    from pytest_nnopt.report.annotations import Place

    file, line, _ = location
    path = (root / file).resolve()
    checkout = Path(os.environ.get("GITHUB_WORKSPACE") or root).resolve()
    return Place(path.relative_to(checkout).as_posix() if path.is_relative_to(checkout) else file, (line or 0) + 1)


def _refuse(config: pytest.Config, items: list[pytest.Item], message: str) -> None:
    """End the run as a usage error; a worker of xdist hands the message to its controller instead.

    Raises:
        pytest.UsageError: always, except in a worker.
    """
    workeroutput: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if workeroutput is None:
        raise pytest.UsageError(message)
    workeroutput[_USAGE_ERROR] = message  # xdist sends it to the controller when the worker ends
    items.clear()


def _colour(outcome: Outcome | None) -> dict[str, bool]:
    if outcome is None or outcome.value == "skipped":
        return {}
    if outcome.is_failure:
        return {"red": True}
    return {"yellow": True} if outcome.value == "inconclusive" else {"green": True}
