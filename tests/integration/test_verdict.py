"""Every way a case can end, in real pytest runs: outcome, exit status and message."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
import torch
import torch._dynamo

if TYPE_CHECKING:
    from tests.integration.conftest import Project

CANDIDATE = """
def test_model(model_pair):
    model = Model()
    def candidate(x):
        {body}
    candidate.seconds = {seconds}
    model_pair(model, x, candidate=candidate)
"""


def write_candidate(project: Project, body: str, *, seconds: float = 5e-4) -> None:
    project.write_tests(CANDIDATE.format(body=body, seconds=seconds))


def test_a_sound_model_passes_and_is_listed(project: Project) -> None:
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), x)\n")
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*= nnopt =*", "case * passed * outcome", "test_model.py::test_model * 2/2 * passed"])
    assert project.checks() == {"compile": "passed", "numerics": "passed"}


def test_output_off_by_one_percent_fails_with_the_leaf(project: Project) -> None:
    write_candidate(project, "return model(x) * 1.01")
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_model.py::test_model: output:*", "*worst at*actual*expected*"])
    assert project.checks()["numerics"] == "failed"


def test_nan_in_one_place_fails_with_its_place(project: Project) -> None:
    write_candidate(project, "y = model(x); y[2, 3] = float('nan'); return y")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*output*NaN*", "*[[]2, 3[]]*nan*"])


def test_changed_shape_fails_with_both_shapes(project: Project) -> None:
    write_candidate(project, "return model(x)[:, None]")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*output*shape*[[]4, 1, 8[]]*[[]4, 8[]]*"])


def test_speedup_below_its_minimum_fails_with_figure_interval_and_limit(project: Project) -> None:
    project.write_tests("@pytest.mark.nnopt_speedup(min=3)\ndef test_model(model_pair):\n    model_pair(Model(), x)\n")
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*speedup 2.0*x [[]1.*, 2.*[]] is below the minimum of 3x*"])
    assert project.checks()["speedup"] == "failed"


def test_speedup_above_its_minimum_passes(project: Project) -> None:
    project.write_tests(
        "@pytest.mark.nnopt_speedup(min=1.2)\ndef test_model(model_pair):\n    model_pair(Model(), x)\n"
    )
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    assert project.checks()["speedup"] == "passed"


def test_a_fallback_that_the_marker_does_not_allow_fails(project: Project) -> None:
    project.pytester.makepyprojecttoml('[tool.nnopt.compile]\nfallback = ["eager"]\n')
    project.write_tests(
        """
def broken_backend(graph, inputs):
    raise RuntimeError("no such instruction")

@pytest.mark.nnopt_compile(backend=broken_backend)
def test_model(model_pair):
    model_pair(Model(), x)
"""
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*fell back to eager*", "*broken_backend*no such instruction*"])


def test_a_fallback_that_the_marker_allows_is_reported_and_does_not_pass_the_check(project: Project) -> None:
    project.write_tests(
        """
def broken_backend(graph, inputs):
    raise RuntimeError("no such instruction")

@pytest.mark.nnopt_compile(backend=broken_backend, fallback=["eager"])
def test_model(model_pair):
    model_pair(Model(), x)
"""
    )
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    assert project.checks()["compile"] == "skipped"


def test_a_candidate_that_cannot_be_compiled_fails_with_the_compilers_words(project: Project) -> None:
    project.write_tests(
        "@pytest.mark.nnopt_compile(backend='nonsense')\ndef test_model(model_pair):\n    model_pair(Model(), x)\n"
    )
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the candidate could not be compiled*", "*nonsense*inductor*"])
    assert project.checks() == {"compile": "failed", "numerics": "inconclusive"}


def test_nothing_compiled_fails(project: Project) -> None:
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), x)\n")
    with torch._dynamo.config.patch(disable=True):
        result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing was compiled*"])


def test_a_declared_limit_of_graph_breaks_fails_with_file_line_and_code(project: Project) -> None:
    project.write_tests(
        """
class Broken(Model):
    def forward(self, x):
        y = super().forward(x)
        print("looking")
        return y + 1

@pytest.mark.nnopt_limits(graph_breaks=0)
def test_model(model_pair):
    model_pair(Broken(), x)
"""
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 graph break, the limit is 0*", "*test_model.py:*", '*print("looking")*'])


def test_the_failure_reaches_exit_status_summary_and_junit(project: Project) -> None:
    write_candidate(project, "return model(x) * 1.01")
    result = project.run("--junit-xml=junit.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED test_model.py::test_model - *output*", "*1 failed*"])
    suite = ET.parse(project.pytester.path / "junit.xml").getroot()[0]
    assert suite.get("failures") == "1"
    properties = {item.get("name"): item.get("value") for item in suite.iter("property")}
    assert properties["nnopt.outcome"] == "failed"


def test_an_assertion_in_the_body_fails_as_always(project: Project) -> None:
    project.write_tests("def test_model(model_pair):\n    assert model_pair(Model(), x).speedup > 100\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 2.0* > 100*"])


def test_the_fixture_without_a_call_is_no_pass(project: Project) -> None:
    project.write_tests("def test_model(model_pair):\n    pass\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*never calls it, so nothing was measured*"])


def test_a_model_that_raises_is_named_as_the_users_own_error(project: Project) -> None:
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), torch.ones(4, 9))\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*without any compilation; mend the model or its inputs first*"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("Model", "*got the class Model as its model; hand over an instance*"),
        ("3", "*takes a module, a bound method or another callable as its model, not int*"),
        ("torch.compile(Model())", "*got a model that is compiled already*"),
    ],
)
def test_what_is_no_model_is_an_error_on_the_users_own_line(project: Project, argument: str, message: str) -> None:
    project.write_tests(f"def test_model(model_pair):\n    model_pair({argument}, x)\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f">*model_pair({argument}, x)*", message])
