"""Real pytest runs in a directory of their own, on a clock whose times the models themselves declare."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pytest_nnopt.baseline.schema import (
    CaseBaseline,
    CompileRecord,
    Evidence,
    LeafRecord,
    MemoryRecord,
    ProcessRecord,
    RatioRecord,
    Recording,
)
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.config import CaseConfig, CompileConfig
from pytest_nnopt.session.case import CaseRun
from pytest_nnopt.session.records import record_numerics
from pytest_nnopt.torch_backend.facts import current_environment
from pytest_nnopt.torch_backend.pair import PairRequest
from pytest_nnopt.torch_backend.side import ExecutionMode
from pytest_nnopt.torch_backend.threads import thread_count

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from pytest_nnopt.environment import Environment

_PLAIN = ("-p", "no:cacheprovider", "-p", "no:randomly")
"""Every run's arguments: leave no files, and keep the order of the tests."""

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

LAVISH_BYTES = 10**9
"""Peak memory of a stored baseline: more than any test's model takes."""

SIMULATED_CLOCK = '''
import math
import random
from pathlib import Path

import pytest
from pytest_nnopt.measurement import exclusive
from pytest_nnopt.torch_backend import timing


class SimulatedClock:
    """Advances by what each callable says it costs, give or take one percent."""

    def __init__(self):
        self._now = 0.0
        self._random = random.Random(0)

    def now(self):
        return self._now

    def time_calls(self, call, count, *, warm_calls=0):
        seconds = count * cost(call) * self._random.lognormvariate(0, 0.01)
        self._now += seconds
        return seconds


def cost(call):
    function = call.func if hasattr(call, "func") else getattr(call, "__self__", call)
    function = getattr(function, "function", function)
    if getattr(function, "_compiled_call_impl", None) is not None:
        return function.compiled_seconds
    return getattr(function, "seconds", 1e-3)


@pytest.fixture(autouse=True)
def simulated_clock(monkeypatch):
    monkeypatch.setattr(timing, "make_clock", lambda device, **_: SimulatedClock())
    monkeypatch.setattr(exclusive, "_lock_directory", lambda: Path(__file__).parent)  # nobody disturbs this clock
'''

MODEL = """
import pytest
import torch
from torch import nn


class Model(nn.Module):
    seconds = 1e-3
    compiled_seconds = 0.5e-3

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.linear(x))


x = torch.ones(4, 8)
pytestmark = pytest.mark.nnopt_compile(backend="eager")
"""


@dataclass
class Project:
    """A user's project in a directory of its own."""

    pytester: pytest.Pytester

    def write_tests(self, body: str, *, prelude: str = MODEL, name: str = "test_model") -> None:
        """Write a test file; the model of ``prelude`` is at hand in it."""
        self.pytester.makepyfile(**{name: prelude + body})

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest here, in this process."""
        return self.pytester.runpytest_inprocess(*_PLAIN, *arguments)

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """Run pytest here, in a process of its own."""
        return self.pytester.runpytest_subprocess(*_PLAIN, *arguments)

    def results(self, path: str = "results.json") -> dict[str, Any]:
        """Return a results file as it was written."""
        values: dict[str, Any] = json.loads((self.pytester.path / path).read_text())
        return values

    def checks(self, path: str = "results.json") -> dict[str, str]:
        """Return the outcome of each check of the only case in a results file."""
        (case,) = self.results(path)["cases"]
        return {check["name"]: check["outcome"] for check in case["checks"]}

    def baseline_path(self, case_id: str = "test_model.py::test_model") -> Path:
        """Return the file of a case's baseline in this environment."""
        return self._store.path(self._environment.name, case_id)

    def store_baseline(
        self,
        case_id: str = "test_model.py::test_model",
        *,
        speedup_log: float = 0.693,
        graph_breaks: int = 0,
        best_log: float | None = None,
    ) -> None:
        """Store what a candidate of half the time left in twenty processes, and what it once was at best."""
        timing = _timing(speedup_log)
        compilation = CompileRecord(
            status="compiled", graphs=1, graph_breaks=graph_breaks, recompiles=0, eager_frames=0, cold_seconds=60.0
        )
        memory = MemoryRecord(candidate_peak_bytes=LAVISH_BYTES)
        recording = Recording(
            recorded=datetime(2026, 1, 1, tzinfo=timezone.utc),
            environment=self._environment.digest,
            evidence=Evidence(timing=timing, compile=compilation, memory=memory, numerics=_numbers_of_model()),
        )
        best = {
            "recorded": datetime(2025, 12, 1, tzinfo=timezone.utc),
            "evidence": Evidence(timing=_timing(best_log or 0)),
        }
        anchors = () if best_log is None else (recording.model_copy(update=best),)
        baseline = CaseBaseline(case=case_id, recordings=(recording,), anchors=anchors)
        self._store.write(self._environment, baseline)

    @property
    def _store(self) -> BaselineStore:
        return BaselineStore(self.pytester.path / "baselines")

    @property
    def _environment(self) -> Environment:
        with thread_count(None):
            return current_environment(torch.device("cpu"))


@functools.cache
def _numbers_of_model() -> dict[str, LeafRecord]:
    """Return what is recorded of the numbers of ``MODEL``'s model."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU())
    run = CaseRun(PairRequest(model, (torch.ones(4, 8),)), CaseConfig(compile=CompileConfig(backend="eager")))
    try:
        assert run.numerics is not None
        return record_numerics(run.numerics)
    finally:
        run.close()


def _timing(speedup_log: float) -> tuple[ProcessRecord, ...]:
    offsets = [0.002 * ((index * 7) % 5 - 2) for index in range(20)]
    return tuple(_process(-speedup_log + offset) for offset in offsets)


def _process(log_ratio: float) -> ProcessRecord:
    ratio = RatioRecord(log_ratio=log_ratio, variance=1e-5, blocks=40)
    return ProcessRecord(
        seconds={"reference": 1e-3, "candidate": 5e-4},
        candidate_to_reference=ratio,
        warmup_seconds=0.1,
        is_steady=True,
    )


@pytest.fixture(scope="session")
def _everything_imported() -> None:
    """Import what a run imports on the way, once: modules imported inside an in-process run are forgotten after it,
    and those with compiled parts cannot be imported twice.
    """
    import pytest_nnopt.session.collector
    import pytest_nnopt.session.model_pair  # noqa: F401

    request = PairRequest(torch.nn.Linear(2, 2), (torch.ones(1, 2),), mode=ExecutionMode())
    run = CaseRun(request, CaseConfig(compile=CompileConfig(backend="aot_eager")))
    assert run.numerics is not None
    run.close()


@pytest.fixture(scope="session")
def simulated_clock_conftest() -> str:
    """The text of a conftest.py whose clock is simulated."""
    return SIMULATED_CLOCK


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, _everything_imported: None) -> Project:
    """Make a project whose clock is simulated."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest(SIMULATED_CLOCK)
    return Project(pytester)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser, None, None]:
    """Start Chromium once."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium, for example from apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
