"""What observers are told, and the trackers' observers against their offline modes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.baseline.schema import Evidence, KernelRecord, MemoryRecord
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.observers import Observer, tell_all
from pytest_nnopt.observers.figures import compile_figures, measured_figures, verdict_figures
from pytest_nnopt.observers.mlflow_tracking import MlflowObserver
from pytest_nnopt.observers.weights_and_biases import WandbObserver
from tests.builders import make_check, make_compile_record, make_process, make_result, make_timing
from tests.fakes import RecordingObserver

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult

EVIDENCE = Evidence(
    timing=make_timing(0.5),
    compile=make_compile_record(graph_breaks=2, counters={"guards": 7}, cold_seconds=3.0),
    memory=MemoryRecord(candidate_peak_bytes=1024),
)
CASE = "tests/test_net.py::test_net[a-1]"


def result() -> CaseResult:
    failed = make_check(CheckName.LATENCY, Outcome.FAILED, "latency +20 %", value=0.2)
    return make_result(make_check(), failed, case_id=CASE, evidence=EVIDENCE)


class TestTelling:
    def test_everything_is_told_in_order(self) -> None:
        observer = RecordingObserver()
        assert tell_all([observer], result()) == []
        assert observer.told == [
            ("compile", CASE, EVIDENCE.compile),
            ("measure", CASE, EVIDENCE),
            ("verdict", CASE, result()),
        ]

    def test_a_case_without_a_compilation_tells_of_none(self) -> None:
        observer = RecordingObserver()
        tell_all([observer], make_result(make_check()))
        assert [kind for kind, _, _ in observer.told] == ["measure", "verdict"]

    def test_an_observer_that_raises_is_named_and_harms_nobody(self) -> None:
        class Broken(Observer):
            def on_verdict(self, result: CaseResult) -> None:
                raise OSError("no network")

        other = RecordingObserver()
        (problem,) = tell_all([Broken(), other], result())
        assert problem.startswith("the observer's ")
        assert problem.endswith("Broken.on_verdict raised OSError: no network")
        assert len(other.told) == 3


class TestFigures:
    def test_a_compilation(self) -> None:
        assert EVIDENCE.compile is not None
        assert compile_figures(EVIDENCE.compile) == {
            "compile/graphs": 1.0,
            "compile/graph_breaks": 2.0,
            "compile/recompiles": 0.0,
            "compile/eager_frames": 0.0,
            "compile/cold_seconds": 3.0,
            "compile/guards": 7.0,
        }

    def test_measurements(self) -> None:
        figures = measured_figures(EVIDENCE)
        assert figures.pop("time/speedup") == pytest.approx(2.0, rel=0.01)
        assert figures.pop("time/candidate_seconds") == pytest.approx(5e-4, rel=0.01)
        assert figures == {"memory/candidate_peak_bytes": 1024.0, "time/reference_seconds": 1e-3}

    def test_device_time_and_launches_of_a_gpu(self) -> None:
        kernels = {"gemm": KernelRecord(count=2, seconds=3e-4), "add": KernelRecord(count=1, seconds=1e-4)}
        timing = (make_process().model_copy(update={"kernels": kernels}),)
        figures = measured_figures(Evidence(timing=timing))
        assert figures["time/device_seconds"] == pytest.approx(4e-4)
        assert figures["time/launches"] == 3.0

    def test_nothing_measured_is_no_figure(self) -> None:
        assert measured_figures(Evidence()) == {}

    def test_a_verdict(self) -> None:
        assert verdict_figures(result()) == {"check/latency": 0.2, "failed": 1.0}


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_keeps_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")  # it would go on wrapping what pytest captures with
    observer = WandbObserver(project="nnopt", mode="offline", dir=str(tmp_path))
    assert tell_all([observer], result()) == []
    summary = dict(wandb.run.summary)
    wandb.teardown()
    assert summary[f"{CASE}/compile/graph_breaks"] == 2.0
    assert summary[f"{CASE}/memory/candidate_peak_bytes"] == 1024.0
    assert summary[f"{CASE}/outcome"] == "failed"
    assert summary[f"{CASE}/latency"] == "failed: latency +20 %"
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"compile/graph_breaks" in written.read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_mlflow_without_a_server_keeps_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(tmp_path.as_uri())
    mlflow.set_experiment("nnopt")
    observer = MlflowObserver()
    assert tell_all([observer], result()) == []
    run = mlflow.MlflowClient().get_run(mlflow.active_run().info.run_id)
    mlflow.end_run()
    case = "tests/test_net.py__test_net_a-1_"
    assert run.data.metrics[f"{case}/compile/graph_breaks"] == 2.0
    assert run.data.metrics[f"{case}/time/reference_seconds"] == 1e-3
    assert run.data.tags[f"{case}/outcome"] == "failed"
    assert run.data.tags[f"{case}/latency"] == "failed: latency +20 %"
