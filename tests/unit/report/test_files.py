from __future__ import annotations

from pathlib import Path

import pytest

from pytest_nnopt.baseline.schema import CompileRecord, Evidence
from pytest_nnopt.errors import OutputError, ResultsError
from pytest_nnopt.model import CheckName, Interval, Outcome
from pytest_nnopt.report.files import read_results, write_html, write_json
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
   "origin": null,
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
    "graph_ops": null,
    "counters": {}
   },
   "memory": null,
   "work": null,
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
     ],
     "remedy": null,
     "certainty": null
    }
   ],
   "context": null,
   "has_passed": null
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


def test_a_results_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "nnopt.json", RESULTS)
    assert read_results(tmp_path / "nnopt.json") == RESULTS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("broken", r"no results file that this version can read: Invalid JSON"),
        (
            '{"schema": 2, "environment": {}, "cases": []}',
            r"schema: Input should be 1; write one with pytest --nnopt-json",
        ),
        ('{"environment": {}, "cases": [{"id": 1}]}', r"cases\.0\.id: "),
    ],
)
def test_what_is_no_results_file_is_an_error_that_says_why(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "nnopt.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=problem):
        read_results(path)


def test_a_results_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"cannot read .*nnopt.json: No such file or directory"):
        read_results(tmp_path / "nnopt.json")


def test_a_report_is_a_page(tmp_path: Path) -> None:
    write_html(tmp_path / "deep" / "nnopt.html", RESULTS)
    page = (tmp_path / "deep" / "nnopt.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "1 of 1 case failed" in page


def test_a_report_that_cannot_be_drawn_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_nnopt.report.files.find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r"needs jinja2 and matplotlib; install .* 'pytest-nnopt\[report\]'"):
        write_html(tmp_path / "nnopt.html", RESULTS)
