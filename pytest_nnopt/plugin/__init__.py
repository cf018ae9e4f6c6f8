"""The pytest side: hooks of a few lines that delegate, and the ``model_pair`` fixture.

Every pytest run of every user loads this package, so it imports nothing heavy; the rest is imported once a case is
collected.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pytest_nnopt.affinity  # noqa: F401  # torch, imported later, may bind this thread
from pytest_nnopt.errors import BaselineError, ConfigError, CrowdedError, NnoptError
from pytest_nnopt.plugin.options import (
    MARKERS,
    add_options,
    markers_of,
    require_html,
    settings_of,
    settle_update,
)
from pytest_nnopt.plugin.reporting import USAGE_ERROR, Reporting
from pytest_nnopt.plugin.run import CROWDED, GATE, RANK, gate_of, is_against, open_base_of, progress_of
from pytest_nnopt.plugin.shards import Shard, left_out, shard_of

if TYPE_CHECKING:
    from pytest_nnopt.observers import Observer
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.session.model_pair import ModelPairFactory
    from pytest_nnopt.session.shell import Shell

_FACTORY = pytest.StashKey["ModelPairFactory | Shell"]()
_TEST_SEED = 0

_REMEMBERING = "lfplugin", "lfplugin-collwrapper", "lfplugin-collskip", "nfplugin", "stepwiseplugin"
"""Plugins of pytest that deselect tests by what a run before came to, and remember what this one does: a measuring
process runs the one test that it is told to, and what became of it is for the run that started it to remember."""


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
    """Register the options."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Have a measuring process end with the run that started it, before it imports anything that takes long."""
    if getattr(early_config.known_args_namespace, "nnopt_worker", None) is not None:
        from pytest_nnopt.measurement.family import end_with_parent

        end_with_parent()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Give each rank of a team temporary files of its own, before pytest empties the place for them."""
    if config.option.nnopt_team is not None and config.option.basetemp is not None:
        config.option.basetemp = f"{config.option.basetemp}-{os.environ.get('RANK', '')}"


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Announce the markers, and refuse impossible options before anything is collected."""
    for text in MARKERS.values():
        config.addinivalue_line("markers", text)
    settle_update(config)
    if config.option.nnopt_team is not None:
        from pytest_nnopt.plugin.ranks import Rank

        config.stash[RANK] = Rank(config)
        config.pluginmanager.register(config.stash[RANK], "nnopt-rank")
        return
    if config.option.nnopt_baseline and config.option.nnopt_update:
        raise pytest.UsageError("--nnopt-baseline compares and --nnopt-update records; give one of them")
    if config.option.nnopt_html is not None:
        require_html()
    shard = shard_of(config)
    if is_against(config):
        open_base_of(config)
    if any(value is not None for value in settings_of(config).values()):
        gate_of(config)
    if config.option.nnopt_worker_base is not None:
        gate_of(config)
    _register_roles(config, shard)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the cases when asked to; else check their markers and baselines before anything is measured."""
    own = config.option.nnopt_worker_test
    if own is not None:  # settings may add paths to those that a measuring process is told
        items[:] = [item for item in items if item.nodeid == own]
    cases = [item for item in items if "model_pair" in getattr(item, "fixturenames", ())]
    _refuse_lonely_ranks(config, items)
    if not cases:
        return
    if config.option.nnopt_skip:
        items[:] = [item for item in items if item not in cases]
        config.hook.pytest_deselected(items=cases)
        return
    try:
        _refuse_strangers(config, cases)
        gate = gate_of(config)
        gate.crowded = getattr(config, "workerinput", {}).get(CROWDED)
        gate.suite_size = gate.suite_size or _suite_size(shard_of(config), len(cases))
        cases = _select_shard(config, items, cases)
        gate.prepare({item.nodeid: markers_of(item) for item in cases})
        gate.progress = progress_of(config)
        _put_into_shells(gate, cases)
        if gate.base is not None and config.option.nnopt_against_tests == "head":
            from pytest_nnopt.plugin.against import use_tests_of_head

            use_tests_of_head(gate.base, cases)
    except (pytest.UsageError, ConfigError, BaselineError) as error:
        _refuse(config, items, str(error))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Have a measuring process on its way before the test needs it."""
    if GATE in item.config.stash:
        upcoming = None if nextitem is None else nextitem.nodeid
        item.config.stash[GATE].begin_test(item.nodeid, upcoming, os.environ)


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

    gate = gate_of(request.config)
    if request.node.nodeid not in gate.configs:
        raise pytest.UsageError(
            f"{request.node.nodeid} gets model_pair while it runs; name it among the test's arguments, or with "
            '@pytest.mark.usefixtures("model_pair"), so that its markers and baselines are read before anything runs'
        )
    seed_generators(_TEST_SEED)
    factory = ModelPairFactory(request.node.nodeid, gate)
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
    except CrowdedError as error:
        _stop_worker(item.session, str(error))
        raise
    except Exception:
        if not _has_measured(item.config):
            raise
        message = None  # what ended the body of a test that was measured is no failure, and no reason to run it again
    finally:
        if GATE in item.config.stash:
            item.config.stash[GATE].progress.finish()
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


def _refuse_lonely_ranks(config: pytest.Config, items: list[pytest.Item]) -> None:
    wrong = [
        f"{item.nodeid}: nnopt_ranks needs a test that takes model_pair"
        for item in items
        if "model_pair" not in getattr(item, "fixturenames", ()) and item.get_closest_marker("nnopt_ranks") is not None
    ]
    if wrong:
        _refuse(config, items, "\n".join(wrong))


def _refuse_strangers(config: pytest.Config, cases: list[pytest.Item]) -> None:
    """Refuse cases outside of the project, whose ids name no file there, or none at all.

    Raises:
        pytest.UsageError: a case's file lies outside of the project.
    """
    root = config.rootpath
    strange = [
        str(case.path)
        for case in cases
        if not (case.path.is_relative_to(root) or case.path.resolve().is_relative_to(root.resolve()))
    ]
    if strange:
        raise pytest.UsageError(
            f"{strange[0]} lies outside of {config.rootpath}, so that its cases have no id of their own; give a "
            "--rootdir that holds both, or run pytest in its project"
        )


def _put_into_shells(gate: Gate, cases: list[pytest.Item]) -> None:
    """Have the tests that need ranks run in them, except in a process that was told to run the test itself."""
    if gate.team is not None or gate.worker is not None:
        return
    for item in cases:
        if gate.configs[item.nodeid].ranks.count is not None:
            from pytest_nnopt.plugin.ranks import put_into_shell

            put_into_shell(item, gate, functools.partial(_keep, item))


def _keep(item: pytest.Item, shell: Shell | None) -> None:
    """Keep what stands for a test's ``model_pair`` where it is looked for."""
    if shell is not None:
        item.stash[_FACTORY] = shell
    elif _FACTORY in item.stash:
        del item.stash[_FACTORY]


def _stop_worker(session: pytest.Session, message: str) -> None:
    """Hand a usage error that shows only now to xdist's controller, and end the worker."""
    session.config.workeroutput[USAGE_ERROR] = message  # type: ignore[attr-defined]  # xdist adds it
    session.shouldstop = message


def _select_shard(config: pytest.Config, items: list[pytest.Item], cases: list[pytest.Item]) -> list[pytest.Item]:
    """Deselect the cases of other shards, and return those of this one; a measuring process runs what it is told."""
    shard = shard_of(config)
    is_told = config.option.nnopt_worker is not None or config.option.nnopt_team is not None
    if shard is None or not shard.is_ours or is_told:
        return cases
    others = left_out(shard, [item.nodeid for item in cases])
    deselected = [item for item in cases if item.nodeid in others]
    items[:] = [item for item in items if item not in deselected]
    config.hook.pytest_deselected(items=deselected)
    return [item for item in cases if item.nodeid not in others]


def _suite_size(shard: Shard | None, collected: int) -> int:
    """Return about how many cases all shards have together: one gate decides on all of them."""
    return collected if shard is None or shard.is_ours else collected * shard.count


def _register_roles(config: pytest.Config, shard: Shard | None) -> None:
    """Register the hooks of what this process is: one that measures, a worker of xdist, or the one that reports."""
    if config.pluginmanager.hasplugin("dsession"):
        from pytest_nnopt.plugin.gpus import Mapping

        config.pluginmanager.register(Mapping(), "nnopt-mapping")
    if config.option.nnopt_worker_list is not None:
        from pytest_nnopt.plugin.against import Listing

        config.pluginmanager.register(Listing(Path(config.option.nnopt_worker_list)), "nnopt-listing")
    elif config.option.nnopt_worker is not None:
        config.pluginmanager.register(Measuring(), "nnopt-measuring")
        for name in _REMEMBERING:
            if config.pluginmanager.hasplugin(name):
                config.pluginmanager.unregister(name=name)
    elif not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporting(config, shard), "nnopt-reporting")


def _has_measured(config: pytest.Config) -> bool:
    """Whether this is a measuring process that has done what it was told to."""
    worker = config.stash[GATE].worker if GATE in config.stash else None
    return worker is not None and worker.is_done


class Measuring:
    """Hooks of a measuring process."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Wait for word that the test may run; where the run needs it no more, run nothing."""
        from pytest_nnopt.session.worker import WorkerRole

        gate = gate_of(session.config)
        if not isinstance(gate.worker, WorkerRole):
            return None  # the base's test in a process of the head, which has entered its own
        return None if gate.worker.wait_to_enter(functools.partial(_load, gate)) else True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Leave at once when all is done: fixtures are torn down, and collecting torch's garbage takes seconds."""
        worker = gate_of(session.config).worker
        if worker is not None and worker.is_done:
            os._exit(exitstatus)


def _load(gate: Gate) -> None:
    """Load what the tests of a measuring process will need, before they run."""
    importlib.import_module("pytest_nnopt.session.model_pair")
    from pytest_nnopt.session.case import load_for

    for config in gate.configs.values():
        load_for(config)


def _conclude(factory: ModelPairFactory | Shell) -> str | None:
    """Return why the test fails, or None."""
    try:
        return factory.conclude()
    except NnoptError as error:
        return str(error)


def _refuse(config: pytest.Config, items: list[pytest.Item], message: str) -> None:
    """End the run as a usage error; a worker of xdist hands the message to its controller instead.

    Raises:
        pytest.UsageError: always, except in a worker.
    """
    workeroutput: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if workeroutput is None:
        raise pytest.UsageError(message)
    workeroutput[USAGE_ERROR] = message  # xdist sends it to the controller when the worker ends
    items.clear()
