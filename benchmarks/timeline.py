"""Where the seconds of a gate go: what a run and its measuring processes do, and when.

    pytest -p benchmarks.timeline --nnopt-baseline tests/test_model.py

A plugin for pytest, to be run from the root of this project or with it on ``PYTHONPATH``. Every process writes what it
did; the run prints all of it by time in the end. ``python -m benchmarks.gate_seconds --timeline`` uses it.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

FOLDER, BEGUN = "NNOPT_TIMELINE", "NNOPT_TIMELINE_BEGUN"
WATCHED: Mapping[str, tuple[str, ...]] = {
    "pytest_nnopt.session.case:CaseRun": (
        "reference",
        "rehearse",
        "built",
        "numerics",
        "memory",
        "compile_time",
        "work",
        "origin",
        "prepare_timing",
        "measure_process",
    ),
    "pytest_nnopt.session.model_pair:conclude_case": (),
    "pytest_nnopt.session.processes:MeasuringProcess": (
        "__init__",
        "enter",
        "build",
        "wait_until_ready",
        "measure",
        "stop",
    ),
    "pytest_nnopt.session.worker:WorkerRole": ("wait_to_enter",),
    "pytest_nnopt.torch_backend.timing:measure_case": (),
    "pytest_nnopt.torch_backend.timing:profile_kernels": (),
    "pytest_nnopt.torch_backend.timing:time_single_calls": (),
}
"""What is looked at, as ``module:object``, with the object's attributes; without any, the object itself."""

SHORTEST_SECONDS = 0.02
"""What takes less is not shown."""


class Recorder:
    """Writes what this process does, a line of JSON each."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8", buffering=1)
        self.depth = 0

    def write(self, what: str, start: float, end: float) -> None:
        """Keep that something was done between two moments of the system's monotonic clock."""
        line = {"process": os.getpid(), "what": what, "depth": self.depth, "start": start, "end": end}
        self._file.write(json.dumps(line) + "\n")

    def watched(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and is written down."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            self.depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                self.write(what, start, time.monotonic())

        return call


def pytest_configure(config: pytest.Config) -> None:
    """Watch this process; the first to be configured is the run itself."""
    if FOLDER not in os.environ:
        os.environ[FOLDER] = tempfile.mkdtemp()
        os.environ[BEGUN] = str(time.monotonic())
        config.add_cleanup(functools.partial(shutil.rmtree, os.environ[FOLDER]))
    recorder = Recorder(Path(os.environ[FOLDER]))
    now = time.monotonic()
    recorder.write("configured", now, now)
    atexit.register(lambda: recorder.write("ended", time.monotonic(), time.monotonic()))
    config.pluginmanager.register(_Hooks(recorder), "timeline-hooks")


class _Hooks:
    """Watches from the moment that tests are collected on, when torch is there anyway, and prints in the end."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Write how long collecting takes, and watch what comes after it."""
        start = time.monotonic()
        result = yield
        self._recorder.write("collect", start, time.monotonic())
        start = time.monotonic()
        _watch(self._recorder)
        self._recorder.write("import what is watched", start, time.monotonic())
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Write how long the test takes."""
        start = time.monotonic()
        self._recorder.depth += 1
        result = yield
        self._recorder.depth -= 1
        self._recorder.write(item.name, start, time.monotonic())
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what all processes did, by time."""
        own, begun = os.getpid(), float(os.environ[BEGUN])
        lines = [
            json.loads(line)
            for file in Path(os.environ[FOLDER]).glob("*.jsonl")
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
        numbers = {own: "run"}
        terminalreporter.write_sep("=", "timeline")
        for line in sorted(lines, key=lambda line: (line["start"], line["depth"])):
            name = numbers.setdefault(line["process"], f"process {len(numbers)}")
            seconds = line["end"] - line["start"]
            if 0 < seconds < SHORTEST_SECONDS:
                continue
            took = f"{seconds:6.2f} s" if seconds else "        "
            place = "" if name == "run" else " " * 44
            terminalreporter.write_line(
                f"{line['start'] - begun:7.2f} {took}  {place}{'  ' * line['depth']}{line['what']} ({name})"
            )


def _watch(recorder: Recorder) -> None:
    for place, attributes in WATCHED.items():
        module_name, _, name = place.partition(":")
        module = importlib.import_module(module_name)
        if not attributes:
            setattr(module, name, recorder.watched(name, getattr(module, name)))
        owner = getattr(module, name)
        for attribute in attributes:
            found = vars(owner)[attribute]
            what = f"{name} starts" if attribute == "__init__" else attribute
            if isinstance(found, cached_property):
                found.func = recorder.watched(what, found.func)
            else:
                setattr(owner, attribute, recorder.watched(what, found))
