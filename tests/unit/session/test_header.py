from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.session.gate import Gate, open_gate
from pytest_nnopt.session.header import describe_run
from tests.builders import CASE_ID, make_baseline, make_environment
from tests.unit.baseline.test_imported import TIME

OTHER_ID = "tests/test_model.py::test_other"


@pytest.fixture(autouse=True)
def torch_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests run as if torch were built without CUDA."""
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "2.13.0+cpu")


def opened(root: Path, purpose: str, **command_line: Any) -> Gate:
    gate = open_gate(root, command_line, purpose)
    gate.prepare({CASE_ID: {}, OTHER_ID: {}})
    return gate


def lines(root: Path, purpose: str = "check", **command_line: Any) -> list[str]:
    first, *rest = describe_run(opened(root, purpose, **command_line), [CASE_ID, OTHER_ID])
    host, _, checks = first.partition("; ")
    assert host.startswith("nnopt: 2 tests on ")
    return [checks, *rest]


def test_a_plain_run_is_asked_what_needs_no_baseline(tmp_path: Path) -> None:
    assert lines(tmp_path) == ["checks: numerics, compile"]
    assert lines(tmp_path, only=("numerics",)) == ["checks: numerics"]
    assert lines(tmp_path, only=("latency",)) == ["checks: none"]


def test_a_declared_speedup_is_asked_for(tmp_path: Path) -> None:
    gate = open_gate(tmp_path, {}, "check")
    gate.prepare({CASE_ID: {"speedup": [{"min": 1.5}]}})
    (line,) = describe_run(gate, [CASE_ID])
    assert line.startswith("nnopt: 1 test on ")
    assert line.endswith("; checks: numerics, speedup, compile")


def test_baselines_that_are_there_are_counted_by_environment(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path / "baselines")
    for environment, case_id in ((make_environment(), f"{CASE_ID}#named"), (make_environment(cpu="Other"), OTHER_ID)):
        store.write(environment, make_baseline(environment, case=case_id))
    store.write(make_environment(cpu="Third"), make_baseline(make_environment(cpu="Third"), case=f"{CASE_ID}_longer"))
    checks, baselines = lines(tmp_path, "compare")
    assert checks == "checks: numerics, latency, memory, compile, compile_time"
    assert baselines == "nnopt: baselines for 1 of 2 on cpu-amd-epyc-2c-torch2.13, 1 of 2 on cpu-other-2c-torch2.13"


def test_kernels_are_asked_for_where_there_may_be_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "2.13.0+cu130")
    assert "device_time" in lines(tmp_path, "compare")[0]
    assert "device_time" not in lines(tmp_path, "compare", device="cpu")[0]


def test_the_device_that_was_asked_for_is_said_beside_the_host(tmp_path: Path) -> None:
    gate = opened(tmp_path, "check", device="cuda")
    assert describe_run(gate, [CASE_ID])[0].partition("; ")[0].endswith(" with cuda")


def test_missing_baselines_are_said_with_the_remedy(tmp_path: Path) -> None:
    assert lines(tmp_path, "compare")[1] == "nnopt: no baselines in baselines/; record some with pytest --nnopt-update"


def test_imported_times_are_no_baselines(tmp_path: Path) -> None:
    BaselineStore(tmp_path / "baselines").write_imported(
        {f"{CASE_ID}#a": TIME, OTHER_ID: TIME, "test_gone.py::test": TIME}
    )
    assert lines(tmp_path, "compare")[1] == (
        "nnopt: no baselines in baselines/ but imported times of 2 cases, which decide nothing; record some with "
        "pytest --nnopt-update"
    )


def test_a_recording_says_where(tmp_path: Path) -> None:
    start = "nnopt: baselines are recorded in levels/"
    assert lines(tmp_path, "update", baseline_dir="levels")[1] == f"{start}, with latency, memory, compile_time"
    assert lines(tmp_path, "update", baseline_dir="levels", only=("compile",))[1] == start


def test_another_revision_is_named(tmp_path: Path) -> None:
    gate = opened(tmp_path, "check")
    gate.base = SimpleNamespace(description="main (0123456)")  # type: ignore[assignment]
    assert describe_run(gate, [CASE_ID])[1] == "nnopt: compared with main (0123456), measured in this run"
