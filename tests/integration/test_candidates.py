"""Candidates that come from elsewhere than torch.compile: quantised, scripted, and compiled ahead of time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

QUIETLY = ("--nnopt-only=compile,numerics,memory", "--nnopt-json=results.json", "-Wignore")
"""What makes these candidates is deprecated in torch, and says so."""

PRELUDE = """
import pytest
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 8)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls = self.calls + 1
        return self.second(torch.relu(self.first(x)))


def quantised(model):
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


torch.manual_seed(1)
x = torch.randn(16, 64)
"""


def test_scripted_and_traced_candidates_keep_state_and_gradients_of_their_own(project: Project) -> None:
    project.write_tests(
        """
def test_scripted(model_pair):
    model = Model().eval()
    candidate = torch.jit.script(model)
    pair = model_pair(model, x, candidate=candidate)
    assert pair.verdict.outcome.value == "passed"
    assert (candidate.calls, pair.compiled.calls, pair.eager.calls) == (0, 0, 0)

def test_training(model_pair):
    model = Model()
    model_pair(model, x, candidate=torch.jit.script(model), loss=lambda y: y.square().mean())

def test_frozen_layers(model_pair):
    model = Model()
    model.first.requires_grad_(False)
    model_pair(model, x, candidate=torch.jit.script(model), loss=lambda y: y.square().mean())

def test_traced_and_frozen(model_pair):
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU()).eval()
    model_pair(model, x, candidate=torch.jit.freeze(torch.jit.trace(model, x)))
""",
        prelude=PRELUDE,
    )
    project.run(*QUIETLY).assert_outcomes(passed=4)
    leaves = {case["id"].split("::")[1]: set(case["numerics"]) for case in project.results()["cases"]}
    assert leaves["test_scripted"] == {"output", "buffer calls"}
    gradients = {f"gradient of {layer}.{kind}" for layer in ("first", "second") for kind in ("weight", "bias")}
    assert gradients < leaves["test_training"]
    assert "gradient of second.weight" in leaves["test_frozen_layers"]
    assert "gradient of first.weight" not in leaves["test_frozen_layers"]


def test_a_quantised_candidate_passes_within_a_declared_tolerance_alone(project: Project) -> None:
    project.write_tests(
        """
def test_undeclared(model_pair):
    model = Model().eval()
    model_pair(model, x, candidate=quantised(model))

@pytest.mark.nnopt_tolerance(rtol=0.05, atol=0.02)
def test_declared(model_pair):
    model = Model().eval()
    model_pair(model, x, candidate=quantised(model))

@pytest.mark.nnopt_tolerance(rtol=0.05, atol=0.02)
def test_wrong(model_pair):
    model = Model().eval()
    candidate = quantised(model)
    candidate.second.register_forward_hook(lambda module, inputs, output: output * 1.1)
    model_pair(model, x, candidate=candidate)
""",
        prelude=PRELUDE,
    )
    result = project.run(*QUIETLY)
    result.assert_outcomes(passed=1, failed=2)
    outcomes = {case["id"].split("::")[1]: case["outcome"] for case in project.results()["cases"]}
    assert outcomes == {"test_undeclared": "failed", "test_declared": "passed", "test_wrong": "failed"}
    result.stdout.fnmatch_lines(
        ["*test_undeclared: output: the error against float64 is larger than rounding explains *"]
    )


@pytest.mark.skipif("NNOPT_SLOW_TESTS" not in os.environ, reason="compiles C++ for a minute; set NNOPT_SLOW_TESTS")
def test_a_candidate_compiled_ahead_of_time(project: Project) -> None:
    project.write_tests(
        """
def test_package(model_pair, tmp_path):
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU()).eval()
    with torch.no_grad():
        program = torch.export.export(model, (x,))
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
        model_pair(model, x, candidate=torch._inductor.aoti_load_package(package))
""",
        prelude=PRELUDE,
    )
    project.run(*QUIETLY).assert_outcomes(passed=1)
