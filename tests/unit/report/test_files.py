from __future__ import annotations

from pathlib import Path

import pytest

from pytest_nnopt.baseline.schema import CompileRecord, Evidence
from pytest_nnopt.errors import OutputError
from pytest_nnopt.model import CheckName, Interval, Outcome
from pytest_nnopt.report.files import write_json
from pytest_nnopt.results import RunResults
from tests.builders import make_check, make_result

RESULTS = RunResults(
    environment={"device": "cpu", "cores": 2},
    cases=(
        make_result(
            make_check(
                CheckName.LATENCY,
                Outcome.FAILED,
                "latency +20.0 %",
                value=0.2,
                baseline=0.0,
                limit=0.05,
                interval=Interval(0.1, 0.3, 0.98),
                details=("8 processes",),
            ),
            case_id="test_model.py::test_policy",
            evidence=Evidence(compile=CompileRecord(status="compiled", graphs=1)),
        ),
    ),
)


def test_a_results_file_is_what_the_contract_says(tmp_path: Path) -> None:
    path = tmp_path / "results" / "nnopt.json"
    write_json(path, RESULTS)
    assert (
        path.read_text()
        == """\
{
 "schema": 1,
 "environment": {
  "device": "cpu",
  "cores": 2
 },
 "cases": [
  {
   "timing": [],
   "numerics": {},
   "compile": {
    "status": "compiled",
    "used": null,
    "graphs": 1,
    "graph_breaks": null,
    "recompiles": null,
    "eager_frames": null,
    "cold_seconds": null,
    "warm_seconds": null,
    "work_calls": null,
    "work_conditions": null,
    "breaks": [],
    "recompiled": [],
    "eager_reasons": [],
    "skips": [],
    "kernels": null,
    "external_kernels": null,
    "counters": {}
   },
   "memory": null,
   "id": "test_model.py::test_policy",
   "outcome": "failed",
   "checks": [
    {
     "name": "latency",
     "outcome": "failed",
     "reason": "latency +20.0 %",
     "value": 0.2,
     "baseline": 0.0,
     "limit": 0.05,
     "interval": {
      "low": 0.1,
      "high": 0.3,
      "confidence": 0.98
     },
     "details": [
      "8 processes"
     ]
    }
   ],
   "context": null
  }
 ]
}
"""
    )
    assert RunResults.model_validate_json(path.read_text()) == RESULTS


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_json(tmp_path / "file" / "nnopt.json", RESULTS)
