"""A model on several ranks, started by torch's own launcher: right, wrong on one rank, and with a rank that dies."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_nnopt.measurement.family import RUN

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

PRELUDE = """
import copy, os, signal
import pytest
import torch
import torch.distributed as dist
from torch import nn


class Parallel(nn.Module):
    # Each rank holds its share of the hidden units; what the shares come to is added up.
    seconds = 1e-3
    compiled_seconds = 0.5e-3

    def __init__(self):
        super().__init__()
        torch.manual_seed(dist.get_rank())
        self.up = nn.Linear(8, 16 // dist.get_world_size())
        self.down = nn.Linear(16 // dist.get_world_size(), 8)

    def forward(self, x):
        y = self.down(torch.relu(self.up(x)))
        dist.all_reduce(y)
        return y


x = torch.ones(4, 8)
pytestmark = [pytest.mark.nnopt_compile(backend="eager"), pytest.mark.nnopt_ranks(2, timeout="60s")]
"""

TESTS = """
def test_sound(model_pair, tmp_path):
    assert dist.get_world_size() == 2
    (tmp_path / "of its own").mkdir()
    pair = model_pair(Parallel(), x)
    assert pair.numerics.is_within


def test_own_candidate(model_pair):
    model = Parallel()
    model_pair(model, x, candidate=copy.deepcopy(model))


def test_wrong(model_pair):
    model = Parallel()
    other = copy.deepcopy(model)
    model_pair(model, x, candidate=lambda x: other(x) + dist.get_rank())


def test_killed(model_pair):
    if dist.get_rank() == 1:
        print("last words of a rank", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    model_pair(Parallel(), x)
"""


def test_ranks_are_gated_together_and_each_of_them_can_fail_the_case(project: Project) -> None:
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.write_tests(TESTS, prelude=PRELUDE)
    sound = ("test_model.py::test_sound", "test_model.py::test_own_candidate")
    recorded = project.run_apart("--nnopt-update", "--nnopt-effect=20%", *sound)
    recorded.assert_outcomes(passed=2)
    (path,) = project.pytester.path.glob("baselines/*/test_model.py/test_sound.json")
    (recording,) = json.loads(path.read_text())["recordings"]
    fingerprints = json.loads((path.parent.parent / "environment.json").read_text())["fingerprints"]
    assert fingerprints[recording["environment"]]["ranks"] == 2
    evidence = recording["evidence"]
    assert len(evidence["timing"]) == 1
    assert evidence["timing"][0]["candidate_to_reference"]["log_ratio"] == pytest.approx(-0.693, abs=0.05)
    assert {name.partition(".")[0] for name in evidence["numerics"]} == {"rank0", "rank1"}

    result = project.run_apart(
        "--nnopt-baseline", "--nnopt-only=numerics,compile,memory", "--nnopt-json=results.json", "-rA"
    )
    result.assert_outcomes(passed=2, failed=2)
    text = result.stdout.str()
    assert "test_model.py::test_wrong: rank1.output" in text
    assert "rank 1 was ended by SIGKILL" in text
    assert "last words of a rank" in text
    cases = {case["id"].rpartition("::")[2]: case for case in project.results()["cases"]}
    assert {name: case["outcome"] for name, case in cases.items()} == {
        "test_sound": "passed",
        "test_own_candidate": "passed",
        "test_wrong": "failed",
        "test_killed": "failed",
    }
    assert {check["name"]: check["outcome"] for check in cases["test_sound"]["checks"]}["memory"] == "passed"


@pytest.mark.parametrize(
    ("marker", "body", "message"),
    [
        ("nnopt_ranks(0)", "model_pair", "*test_it: nnopt_ranks: count=0 must be greater than or equal to 1*"),
        ("nnopt_ranks('two')", "model_pair", "*test_it: nnopt_ranks: count='two' must be a valid integer*"),
        ("nnopt_ranks(2, 3)", "model_pair", "*test_it: nnopt_ranks(2, 3) takes the number of ranks*"),
        ("nnopt_ranks(2, port=1)", "model_pair", "*unknown argument 'port'; known: count, backend, timeout*"),
        ("nnopt_ranks(2, backend='mpi')", "model_pair", "*backend='mpi' must be 'gloo' or 'nccl'*"),
        ("nnopt_ranks(2)", "", "*test_it: nnopt_ranks needs a test that takes model_pair*"),
    ],
)
def test_an_impossible_marker_is_a_usage_error(project: Project, marker: str, body: str, message: str) -> None:
    project.write_tests(
        f"import pytest\n@pytest.mark.{marker}\ndef test_it({body}):\n    raise AssertionError\n", prelude=""
    )
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_are_gated_together(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN, str(os.getpid()))  # this process may have a GPU open; it waits, as a part of that run
    project.pytester.makeconftest("")
    project.pytester.makepyprojecttoml('[tool.nnopt]\nprocesses = 2\nbudget = "10s"\neffect = "50%"\n')
    body = (
        "@pytest.mark.nnopt_compile(backend='inductor')\ndef test_sound(model_pair):\n"
        "    model = Parallel().cuda()\n    assert str(model.up.weight.device) == f'cuda:{dist.get_rank()}'\n"
        "    model_pair(model, x.cuda())\n"
    )
    project.write_tests(body, prelude=PRELUDE)
    project.run_apart("--nnopt-update").assert_outcomes(passed=1)
    result = project.run_apart("--nnopt-baseline", "--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    (case,) = project.results()["cases"]
    assert case["context"]["environment"]["ranks"] == 2
    assert case["context"]["environment"]["device"] == "cuda"
    assert case["timing"][0]["kernels"]
    assert not any(name.startswith("nccl") for name in case["timing"][0]["kernels"])
