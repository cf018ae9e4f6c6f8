"""The shared history: what runs add to it, and the gate that takes its levels from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.history.schema import Selection
from pytest_nnopt.history.store import open_history

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

SOUND = "def test_model(model_pair):\n    model_pair(Model(), x)\n"
SLOWER = "Model.compiled_seconds = 0.75e-3\n" + SOUND
CASE = "test_model.py::test_model"
FROM_HISTORY = ("--nnopt-baseline", "--nnopt-baseline-from=history", "--nnopt-history-append=always")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    return f"file://{tmp_path}/history"


def test_a_run_becomes_the_level_and_one_that_failed_never_does(project: Project, url: str) -> None:
    project.write_tests(SOUND)
    first = project.run(*FROM_HISTORY, f"--nnopt-history={url}", "--nnopt-missing=record")
    first.assert_outcomes(passed=1)
    first.stdout.fnmatch_lines(["*recorded*test_model: new", f"added 1 case to the history {url} (branch: main)"])
    assert not Path("baselines").exists()
    project.write_tests(SLOWER)
    budget = ("--nnopt-only=latency", "--nnopt-budget=10s")
    slower = project.run(*FROM_HISTORY, f"--nnopt-history={url}", *budget)
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(["*latency +* against the baseline * is beyond the limit of 10.0 %"])
    labels = open_history(url, timeout_seconds=30).labels(CASE, Selection(10))
    assert [label.is_sound for label in labels] == [True, False]


def test_without_a_sound_run_there_is_no_baseline_and_the_reason_is_said(project: Project, url: str) -> None:
    project.write_tests(SOUND)
    result = project.run(*FROM_HISTORY, f"--nnopt-history={url}", "--nnopt-only=latency", "--nnopt-budget=1s")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*let 'main' run pytest * it is made of the last 10 sound runs on 'main' in {url}*"])


def test_a_store_that_does_not_answer_ends_the_run_before_anything_is_measured(
    project: Project, url: str, tmp_path: Path
) -> None:
    (tmp_path / "history").write_text("no folder")
    project.write_tests(SOUND)
    result = project.run(*FROM_HISTORY, f"--nnopt-history={url}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*the history {url} cannot be used*"])


def test_what_cannot_be_added_fails_the_run_and_is_kept(project: Project, url: str, tmp_path: Path) -> None:
    (tmp_path / "history").write_text("no folder")
    project.write_tests(SOUND)
    project.store_baseline()
    added = ("--nnopt-history-append=always", f"--nnopt-history={url}")
    result = project.run("--nnopt-baseline", "--nnopt-effect=30%", *added)
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [f"not added to the history {url}: *; the results of 1 case are kept in .nnopt/unsent/*"]
    )
    assert len(list(Path(".nnopt/unsent").glob("*.jsonl"))) == 1
