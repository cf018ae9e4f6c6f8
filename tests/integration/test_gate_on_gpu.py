"""The whole gate on a GPU, in real processes: what it says of unchanged code, and of kernels that a change adds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.measurement.family import RUN

if TYPE_CHECKING:
    from tests.integration.conftest import Project

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

MODEL = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(2048, 2048) for _ in range(4)))

    def forward(self, x):
        x = self.layers(x)
        for _ in range(ADDED if torch.compiler.is_compiling() else 0):
            x = x + 1e-30 * torch.sort(x, 1).values
        return x


ADDED = 0
"""
TESTS = """
import torch
from model import Net


def test_model(model_pair):
    model_pair(Net().eval(), torch.randn(2048, 2048))
"""


@pytest.fixture
def gpu_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project under version control, whose baselines hold three processes.

    Its runs count this process as theirs: other tests have it hold the GPU, where a stranger would leave times open.
    """
    monkeypatch.setenv(RUN, str(os.getpid()))
    folder = project.pytester.path
    (folder / "conftest.py").unlink()  # which simulates a clock
    (folder / "model.py").write_text(MODEL)
    (folder / "test_model.py").write_text(TESTS)
    settings = "[tool.pytest.ini_options]\npythonpath = ['.']\n\n[tool.nnopt]\nprocesses = 3\ndevice = 'cuda'\n"
    (folder / "pyproject.toml").write_text(settings)
    git(folder, "init", "-q")
    git(folder, "add", "model.py", "test_model.py", "pyproject.toml")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def commit(folder: Path) -> None:
    who = "-c", "user.name=a", "-c", "user.email=a@b"
    git(folder, *who, "commit", "-q", "--no-gpg-sign", "-a", "-m", "a revision")


def slow_down(folder: Path) -> None:
    """Sort in between: more kernels, and far slower ones."""
    (folder / "model.py").write_text(MODEL.replace("ADDED = 0", "ADDED = 4"))


def test_unchanged_code_does_not_fail_and_added_kernels_are_named(project: Project, gpu_project: Path) -> None:
    project.run_apart("--nnopt-update").assert_outcomes(passed=1)
    project.run_apart("--nnopt-baseline", "--nnopt-json=results.json").assert_outcomes(passed=1)
    assert project.checks()["device_time"] in ("passed", "improved", "inconclusive")
    slow_down(gpu_project)
    result = project.run_apart("--nnopt-baseline", "--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    checks = project.checks()
    assert (checks["numerics"], checks["latency"], checks["device_time"]) == ("passed", "failed", "failed")
    result.stdout.fnmatch_lines(["*kernel added: *"])


@pytest.mark.parametrize("mode", ["process", "pair"])
def test_another_revision_is_compared_by_its_kernels_as_well(project: Project, gpu_project: Path, mode: str) -> None:
    (gpu_project / "unrelated.txt").write_text("")
    git(gpu_project, "add", "unrelated.txt")
    commit(gpu_project)
    against = ("--nnopt-against=HEAD~1", f"--nnopt-against-mode={mode}", "--nnopt-json=results.json")
    project.run_apart(*against).assert_outcomes(passed=1)
    slow_down(gpu_project)
    commit(gpu_project)
    result = project.run_apart(*against)
    result.assert_outcomes(failed=1)
    checks = project.checks()
    assert (checks["numerics"], checks["latency"], checks["device_time"]) == ("passed", "failed", "failed")
    result.stdout.fnmatch_lines(["*kernel added: *"])
