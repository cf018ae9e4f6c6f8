"""Every fault of compiling that users meet, planted into a healthy model and read off the failure's message."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import torch._dynamo

if TYPE_CHECKING:
    from tests.integration.conftest import Project

NOISE_FREE = ("--nnopt-baseline", "--nnopt-only=compile,memory")
MARK = "@pytest.mark.nnopt_compile(**"
MODEL = Path(__file__).with_name("planted_model.py")

MESSAGES = {
    "print": ["*graph breaks, the baseline has 0", "*new: * at test_planted.py:*", '*print("looking")*'],
    "logging": ["*graph breaks, the baseline has 0", "*new: * at test_planted.py:*", '*log.warning("looking")*'],
    "item": ["*graph breaks, the baseline has 0", "*new: * at test_planted.py:*", "*x.max().item()"],
    "branch": ["*graph breaks, the baseline has 0", "*new: * at test_planted.py:*", "*if x.sum() > 0 else*"],
    "counter": ["*1 recompile, the baseline has 0", "*new: * at test_planted.py:*calls*"],
    "batch": [
        "*1 recompile, the baseline has 0",
        "*new: * at test_planted.py:* size mismatch*expected 256, actual 257*",
    ],
    "static": ["*4 recompiles, the baseline has 0", "*expected 256, actual 257*", "*expected 257, actual 258*"],
    "storm": ["*7 recompiles, the baseline has 0", "*1 eager frame, the baseline has 0", "*limit*"],
    "activation": ["*peak memory * against * in the baseline (+*", "*--nnopt-update*"],
    "suppress_errors": ["*nothing was compiled*suppress_errors hid an error of the compiler*no such instruction*"],
}


@pytest.fixture
def recorded(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose healthy model has a baseline."""
    shutil.copy(MODEL, project.pytester.path / "test_planted.py")
    monkeypatch.setenv("PLANTED", "healthy")
    project.run("--nnopt-update", "--nnopt-only=compile,memory").assert_outcomes(passed=1)
    return project


def test_the_healthy_model_passes(recorded: Project) -> None:
    recorded.run(*NOISE_FREE, "--nnopt-json=results.json").assert_outcomes(passed=1)
    assert recorded.checks() == {"compile": "passed", "memory": "passed"}


def test_lines_that_moved_are_not_new(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "print")
    recorded.run("--nnopt-update", "--nnopt-reason=planted", "--nnopt-only=compile").assert_outcomes(passed=1)
    file = recorded.pytester.path / "test_planted.py"
    moved = file.read_text().replace("class Prints", "# moved\n\n\nclass Prints")
    file.write_text(moved)
    recorded.run(*NOISE_FREE).assert_outcomes(passed=1)
    file.write_text(moved.replace('print("looking")', 'print("looking")\n        print("again")'))
    result = recorded.run(*NOISE_FREE)
    result.stdout.fnmatch_lines(["*3 graph breaks, the baseline has 2", "*new: graph break at *", '*print("again")*'])
    result.stdout.no_fnmatch_line('*print("looking")*')


def test_guards_that_moved_are_not_new(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "counter")
    recorded.run("--nnopt-update", "--nnopt-reason=planted", "--nnopt-only=compile").assert_outcomes(passed=1)
    file = recorded.pytester.path / "test_planted.py"
    mark = f"@pytest.mark.nnopt_limits(recompiles=0)\n{MARK}"
    file.write_text(file.read_text().replace("class Prints", "# moved\n\n\nclass Prints").replace(MARK, mark))
    result = recorded.run(*NOISE_FREE)
    result.stdout.fnmatch_lines(["*1 recompile, the limit is 0", "*recompile of forward at *guard failed: *calls == 0"])
    result.stdout.no_fnmatch_line("*new: *")


@pytest.mark.parametrize("fault", list(MESSAGES))
def test_the_message_names_what_went_wrong(recorded: Project, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setenv("PLANTED", fault)
    with torch._dynamo.config.patch(suppress_errors=False):
        result = recorded.run(*NOISE_FREE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(MESSAGES[fault])


def test_a_switched_off_compiler_is_named(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    result = recorded.run_apart(*NOISE_FREE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing was compiled*TORCHDYNAMO_DISABLE=1 turns torch.compile off; unset it"])


def test_eager_frames_can_be_accepted(recorded: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "storm")
    file = recorded.pytester.path / "test_planted.py"
    mark = f"@pytest.mark.nnopt_limits(recompiles=7, eager_frames=1)\n{MARK}"
    file.write_text(file.read_text().replace(MARK, mark))
    recorded.run().assert_outcomes(passed=1)
    file.write_text(file.read_text().replace("eager_frames=1", "eager_frames=0"))
    recorded.run().stdout.fnmatch_lines(["*1 eager frame, the limit is 0"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_mutation_that_skips_cudagraphs_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(MODEL, project.pytester.path / "test_planted.py")
    for name, value in {"PLANTED_BACKEND": "inductor", "PLANTED_DEVICE": "cuda"}.items():
        monkeypatch.setenv(name, value)
    project.run_apart("--nnopt-update", "--nnopt-only=compile").assert_outcomes(passed=1)
    monkeypatch.setenv("PLANTED", "mutation")
    result = project.run_apart("--nnopt-baseline", "--nnopt-only=compile")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 cudagraph skip, the baseline has 0", "*new: *mutated inputs*", "*x.add_(1e-3)*"])
