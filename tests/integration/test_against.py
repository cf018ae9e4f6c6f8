"""Comparing with another revision, on real repositories and a clock whose times the models themselves declare."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

ALSO_OF_REVISIONS = """
@pytest.fixture(autouse=True)
def simulated_clock_of_revisions(monkeypatch):
    from pytest_nnopt.torch_backend import revisions
    monkeypatch.setattr(revisions, "make_clock", lambda device, **_: SimulatedClock())
"""
TEST = "def test_model(model_pair):\n    model_pair(Model(), x)\n"
SLOWER = "Model.seconds, Model.compiled_seconds = 2e-3, 1e-3\n" + TEST
NEW = "\ndef test_new(model_pair):\n    model_pair(Model(), x)\n"


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def revised(project: Project) -> Project:
    """A project whose only commit has one sound test; what a test writes is not committed."""
    top = project.pytester.path
    with (top / "conftest.py").open("a") as conftest:
        conftest.write(ALSO_OF_REVISIONS)
    project.write_tests(TEST)
    git(top, "init", "-q", "-b", "main")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "base")
    return project


def test_a_slower_model_and_a_new_test_are_told_apart_and_nothing_is_left(revised: Project) -> None:
    revised.write_tests(SLOWER + NEW)
    result = revised.run_apart("--nnopt-against=HEAD", "--nnopt-json=results.json", "--nnopt-budget=1s")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*latency +* against HEAD (*) is beyond the limit*", "*eager slowed alike*"])
    slower, new = revised.results()["cases"]
    assert {check["name"]: check["outcome"] for check in slower["checks"]}["latency"] == "failed"
    assert all(process["base"] is not None for process in slower["timing"])
    assert {check["name"]: check["outcome"] for check in new["checks"]}["latency"] == "skipped"
    assert len(git(revised.pytester.path, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nnopt-against=nowhere",), "*git knows no revision 'nowhere' in *"),
        (("--nnopt-against=HEAD", "--nnopt-baseline"), "*run them one after the other*"),
    ],
)
def test_what_cannot_be_compared_with_is_a_usage_error(
    revised: Project, arguments: tuple[str, ...], message: str
) -> None:
    result = revised.run_apart(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
