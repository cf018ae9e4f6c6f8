"""Life beside other plugins: workers of xdist, reruns that must not wear a verdict down, reports, other orders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

TWO_CASES = """
def test_sound(model_pair):
    model_pair(Model(), x)

def test_wrong(model_pair):
    model = Model()
    model_pair(model, x, candidate=lambda x: model(x) * 1.01)
"""

ONLY = "--nnopt-only=compile,numerics"
GOLDEN_JUNIT = (Path(__file__).parent / "junit.xml").read_text(encoding="utf-8")


def junit_text(project: Project) -> str:
    """Return the JUnit file with a line a tag, its tests in order, and figures and circumstances blanked out."""
    text = (project.pytester.path / "junit.xml").read_text(encoding="utf-8")
    text = re.sub(r'(time|timestamp|hostname)="[^"]*"', r'\1=""', text)
    text = re.sub(r"[-+]?[0-9]+\.[0-9]+(e[-+]?[0-9]+)?|[0-9]+e[-+]?[0-9]+", "N", text)
    text = re.sub(r'(name="nnopt.numerics" value=)"[^"]*"', r'\1"N"', text)
    text = re.sub(r'<failure message="Failed: (\S+ \w+):.*?</failure>', r"<failure>\1</failure>", text, flags=re.DOTALL)
    head, *tests = re.split(r"(?=<testcase)", text.replace("><", ">\n<"))
    *tests, last = tests
    last, tail = last.split("</testsuite>")
    return head + "".join(sorted([*tests, last])) + "</testsuite>" + tail + "\n"


def properties(pairs: list[list[str]] | list[dict[str, str]]) -> dict[str, str]:
    """Return what a report keeps of a test's properties, in either form that reports use."""
    merged: dict[str, str] = {}
    for pair in pairs:
        merged.update(pair if isinstance(pair, dict) else {pair[0]: pair[1]})
    return merged


def test_jenkins_finds_every_figure_as_a_property(project: Project) -> None:
    project.write_tests(TWO_CASES)
    project.run(ONLY, "--junit-xml=junit.xml")
    assert junit_text(project) == GOLDEN_JUNIT


def test_two_workers_report_every_case_and_fail_in_all_the_right_places(project: Project) -> None:
    project.write_tests(TWO_CASES)
    result = project.run_apart("-n2", "--nnopt-json=results.json", "--junit-xml=junit.xml")
    assert junit_text(project) == GOLDEN_JUNIT
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*= nnopt =*", "FAILED test_model.py::test_wrong - *output*"])
    outcomes = {case["id"]: case["outcome"] for case in project.results()["cases"]}
    assert outcomes == {"test_model.py::test_sound": "passed", "test_model.py::test_wrong": "failed"}


def test_two_workers_record_each_sound_case_and_no_other(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 2\n")
    project.write_tests(TWO_CASES)
    project.run_apart("-n2", "--nnopt-update").assert_outcomes(passed=1, failed=1)
    recorded = json.loads(project.baseline_path("test_model.py::test_sound").read_text())
    assert len(recorded["recordings"][0]["evidence"]["timing"]) == 2
    assert not project.baseline_path("test_model.py::test_wrong").exists()


def test_a_usage_error_in_the_workers_is_one_in_the_run(project: Project) -> None:
    project.write_tests("@pytest.mark.nnopt_speedup(a=1)\ndef test_model(model_pair): pass\n")
    result = project.run_apart("-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_model.py::test_model: nnopt_speedup: unknown argument 'a'*"])


def test_a_rerun_cannot_turn_a_wrong_model_into_a_pass(project: Project) -> None:
    project.write_tests(
        """
attempts = []

def test_model(model_pair):
    attempts.append(1)
    model = Model()
    factor = 1.01 if len(attempts) == 1 else 1.0
    model_pair(model, x, candidate=lambda x: model(x) * factor)
"""
    )
    result = project.run("--reruns=2")
    result.stdout.fnmatch_lines(["*1 failed, 2 rerun*"])


def test_a_rerun_keeps_the_processes_of_the_attempt_before(project: Project) -> None:
    project.store_baseline()
    project.write_tests(
        """
attempts = []

def test_model(model_pair):
    attempts.append(1)
    Model.compiled_seconds = 0.75e-3 if len(attempts) == 1 else 0.5e-3
    model_pair(Model(), x)
"""
    )
    result = project.run("--reruns=1", "--nnopt-baseline", "--nnopt-json=results.json")
    result.stdout.fnmatch_lines(["*1 failed, 1 rerun*"])
    (case,) = project.results()["cases"]
    assert len(case["timing"]) == 2  # the slow ones of the first attempt, which decide the second, too


def test_html_shows_the_failure_of_a_case(project: Project) -> None:
    project.write_tests(TWO_CASES)
    result = project.run(ONLY, "--html=report.html", "--self-contained-html")
    result.assert_outcomes(passed=1, failed=1)
    page = (project.pytester.path / "report.html").read_text(encoding="utf-8")
    assert "test_model.py::test_wrong: output" in page


def test_json_report_keeps_the_properties(project: Project) -> None:
    project.write_tests(TWO_CASES)
    project.run(ONLY, "--json-report", "--json-report-file=other.json")
    tests = project.results("other.json")["tests"]
    outcomes = {test["nodeid"]: properties(test["user_properties"])["nnopt.outcome"] for test in tests}
    assert outcomes == {"test_model.py::test_sound": "passed", "test_model.py::test_wrong": "failed"}


def test_reportlog_keeps_the_properties(project: Project) -> None:
    project.write_tests(TWO_CASES)
    project.run(ONLY, "--report-log=log.jsonl")
    lines = (project.pytester.path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    calls = [entry for entry in map(json.loads, lines) if entry.get("when") == "call"]
    assert [properties(entry["user_properties"])["nnopt.numerics.outcome"] for entry in calls] == ["passed", "failed"]


def test_random_order_changes_no_result(project: Project) -> None:
    project.write_tests(TWO_CASES)
    outcomes = []
    for seed in ("1", "2"):
        result = project.run(ONLY, "-p", "randomly", f"--randomly-seed={seed}", "--nnopt-json=results.json")
        result.stdout.fnmatch_lines([f"Using --randomly-seed={seed}"])
        outcomes.append({case["id"]: case["outcome"] for case in project.results()["cases"]})
    assert outcomes[0] == outcomes[1] == {"test_model.py::test_sound": "passed", "test_model.py::test_wrong": "failed"}


def test_a_timeout_ends_a_case_and_the_next_one_runs(project: Project) -> None:
    project.write_tests(
        """
import time

@pytest.mark.timeout(0.5)
def test_endless(model_pair):
    model_pair(Model(), x)
    time.sleep(60)

def test_sound(model_pair):
    model_pair(Model(), x)
"""
    )
    result = project.run(ONLY, "--timeout=120")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Timeout*0.5*"])


def test_a_test_may_use_the_benchmark_fixture_too(project: Project) -> None:
    project.write_tests(
        """
def test_both(model_pair, benchmark):
    pair = model_pair(Model(), x)
    benchmark.pedantic(pair.compiled, args=(x,), rounds=3)
"""
    )
    result = project.run(ONLY, "--benchmark-json=theirs.json", "--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    assert [entry["fullname"] for entry in project.results("theirs.json")["benchmarks"]] == ["test_model.py::test_both"]
    assert project.checks() == {"compile": "passed", "numerics": "passed"}


def test_measuring_processes_leave_every_report_of_the_run_alone(project: Project) -> None:
    project.write_tests(
        """
@pytest.mark.nnopt_speedup(min=1.5)
def test_fast(model_pair, benchmark):
    benchmark.pedantic(sum, args=([1, 2],), rounds=3)
    model_pair(Model(), x)

def test_plain():
    pass
"""
    )
    result = project.run_apart(
        *("--junit-xml=junit.xml", "--html=report.html", "--report-log=log.jsonl", "--benchmark-autosave"),
        *("--json-report", "--json-report-file=other.json", "--timeout=100", "-p", "randomly", "--randomly-seed=3"),
        *("--cov=test_model", "--cov-report=json:cov.json", "--nnopt-json=results.json"),
        *("--nnopt-benchmark-json=times.json", "--nnopt-openmetrics=metrics.txt", "--nnopt-markdown=summary.md"),
    )
    result.assert_outcomes(passed=2)
    path = project.pytester.path
    assert (path / "junit.xml").read_text(encoding="utf-8").count("<testcase") == 2
    assert len(project.results("other.json")["tests"]) == 2
    assert (path / "log.jsonl").read_text(encoding="utf-8").count('"when": "call"') == 2
    assert "test_plain" in (path / "report.html").read_text(encoding="utf-8")
    assert list(project.results("cov.json")["files"]) == ["test_model.py"]
    assert len(list((path / ".benchmarks").rglob("*.json"))) == 1
    assert [entry["name"] for entry in project.results("times.json")["benchmarks"]] == [
        "test_fast",
        "test_fast (reference)",
    ]
    assert 'nnopt_failed{case="test_model.py::test_fast"} 0' in (path / "metrics.txt").read_text(encoding="utf-8")
    assert (path / "summary.md").read_text(encoding="utf-8").startswith("## nnopt: 1 case, none failed")
    (case,) = project.results()["cases"]
    assert case["timing"]
