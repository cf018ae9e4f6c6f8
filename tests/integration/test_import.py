"""What pytest-benchmark recorded is taken over as advice, and goes with the first recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from pytest_nnopt.cli.app import app

if TYPE_CHECKING:
    import pytest
    from conftest import Project  # type: ignore[import-not-found]


def test_its_own_store_is_read_and_advises_until_there_is_a_baseline(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.pytester.path)
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 2\n")
    project.write_tests(
        """
def test_model(model_pair, benchmark):
    pair = model_pair(Model(), x)
    benchmark.pedantic(pair.compiled, args=(x,), rounds=3)
"""
    )
    project.run("--nnopt-only=numerics", "--benchmark-autosave").assert_outcomes(passed=1)
    said = CliRunner().invoke(app, ["import"])
    assert said.exit_code == 0
    assert "test_model.py::test_model: imported, " in said.output

    result = project.run("--nnopt-baseline", "--benchmark-disable")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "nnopt: no baselines in baselines/ but imported times of 1 case, which decide nothing; record some with *",
            "*no baseline for 'test_model.py::test_model'*",
            "*advisory, imported: * (3 rounds, *; the candidate takes * µs here, *; it decides nothing, *",
        ]
    )
    result = project.run("--nnopt-update", "--benchmark-disable")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["recorded *test_model.json: new, in place of an imported *; now * µs"])
    assert not Path("baselines", "imported.json").exists()
    project.run("--nnopt-baseline", "--benchmark-disable").stdout.no_fnmatch_line("*imported*")
