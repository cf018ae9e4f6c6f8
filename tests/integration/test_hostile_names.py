"""Names that would command a terminal, a browser or a CI server do nothing, whoever chose them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest
    from conftest import Project  # type: ignore[import-not-found]

HOSTILE = "<script>alert(1)</script>\n::error::boom\n##[error]boom \x1b[2J\u202e"
TEST = f"""
def test_model(model_pair):
    model_pair(Model(), x, name={HOSTILE!r}, candidate=lambda x: x + 1)
"""


def test_a_pair_of_any_name_commands_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project.write_tests(TEST)
    result = project.run(
        *("--nnopt-diagnose=never", "--nnopt-verbose", "--junit-xml=junit.xml", "--nnopt-json=results.json"),
        *("--nnopt-markdown=summary.md", "--nnopt-html=report.html", "--nnopt-openmetrics=metrics.txt"),
    )
    result.assert_outcomes(failed=1)
    said = result.stdout.str()
    commands = [line for line in said.splitlines() if line.lstrip().startswith("::")]
    assert [
        line for line in commands if not re.match(r"::error (file=test_model\.py,line=\d+,)?title=nnopt", line)
    ] == []
    assert "##[" not in said
    assert not set("\x1b\u202e") & set(said)
    page = (project.pytester.path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "\u202e" not in page
    summary = (project.pytester.path / "summary.md").read_text()
    assert "<script>" not in summary
    assert summary.replace("\n", "").isprintable()
    (case,) = project.results()["cases"]
    assert case["id"] == f"test_model.py::test_model#{HOSTILE}"


def test_a_stored_name_of_an_environment_commands_nothing(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt.match]\ncompile = 'exact'\n")
    project.store_baseline()
    here = project.baseline_path().parents[1]
    hostile = here.with_name("::error::boom\n::error::\x1b[2J##[error]")
    here.rename(hostile)
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), x)\n")
    result = project.run("--nnopt-baseline", "--nnopt-only=compile", "--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    said = result.stdout.str()
    assert not [line for line in said.splitlines() if line.lstrip().startswith("::")]
    assert "##[" not in said
    assert "\x1b" not in said
    assert "(there are baselines for " in said
    assert project.checks() == {"compile": "no_baseline"}
