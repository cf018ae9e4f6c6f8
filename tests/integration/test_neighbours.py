"""Life beside other plugins: workers of xdist, and reruns that must not wear a verdict down."""

from __future__ import annotations

import json
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


def test_two_workers_report_every_case_and_fail_in_all_the_right_places(project: Project) -> None:
    project.write_tests(TWO_CASES)
    result = project.run_apart("-n2", "--nnopt-json=results.json")
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
    assert len(case["timing"]) == 1
