"""``--nnopt-html``: a run's report as one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.report.html import page  # noqa: F401  compiled parts of what it imports cannot be imported twice

if TYPE_CHECKING:
    from tests.integration.conftest import Project

BROKEN = """
class Broken(Model):
    def forward(self, x):
        print("broken")
        return super().forward(x)

@pytest.mark.nnopt_limits(graph_breaks=0)
def test_model(model_pair):
    model_pair(Broken(), x)
"""


def test_a_run_writes_its_report(project: Project) -> None:
    project.store_baseline()
    project.write_tests(BROKEN)
    result = project.run("--nnopt-baseline", "--nnopt-html=reports/nnopt.html", "--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    text = (project.pytester.path / "reports" / "nnopt.html").read_text(encoding="utf-8")
    assert "1 of 1 case failed" in text
    assert "test_model.py</div>" in text
    for title in ("Time against the baseline", "Every process", "History over recordings", "Numerics by leaf"):
        assert f'<div class="title">{title}</div>' in text
    (case,) = project.results()["cases"]
    assert [leaf["path"] for leaf in case["context"]["leaves"]] == ["output"]
    assert case["context"]["history"][0]["times"]["processes"] == 20
    assert case["context"]["environment"] == case["context"]["baseline_environment"]


def test_a_report_that_cannot_be_written_fails_the_run(project: Project) -> None:
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), x)\n")
    (project.pytester.path / "file").write_text("in the way")
    result = project.run("--nnopt-only=numerics", "--nnopt-html=file/nnopt.html")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["cannot write file/nnopt.html: *"])


def test_a_report_that_cannot_be_drawn_is_refused_before_anything_is_measured(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_nnopt.report.files.find_spec", lambda name: None)
    project.write_tests("def test_model(model_pair):\n    raise AssertionError\n")
    result = project.run("--nnopt-html=nnopt.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*needs jinja2 and matplotlib; install them with pip install 'pytest-nnopt?report?'"])
