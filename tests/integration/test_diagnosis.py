"""What a failure says about its cause, and what it leaves behind to show it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

WRONG = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 8)
        self.act = nn.GELU()

    def forward(self, x):
        return self.act(self.body(x)) * 2

def wrong_gelu(graph, _):
    for node in graph.graph.nodes:
        if node.op == "call_function" and "gelu" in str(node.target):
            node.kwargs = {**node.kwargs, "approximate": "tanh"}
    graph.recompile()
    return graph.forward

@pytest.mark.nnopt_compile(backend=wrong_gelu)
@pytest.mark.parametrize("shape", ["a/../b"])
def test_net(model_pair, shape):
    torch.seed()
    model_pair(Net(), torch.randn(4, 8))
"""


def script_of(project: Project) -> Path:
    (script,) = (project.pytester.path / ".nnopt" / "repro").rglob("repro.py")
    return Path(script)


def test_a_failure_names_its_stage_and_submodule_and_can_be_shown_again(project: Project) -> None:
    project.write_tests(WRONG)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*introduced by: the backend wrong_gelu (eager right, aot_eager right, wrong_gelu WRONG)",
            "*first submodule that departs: act (GELU): output: *",
            "*to see it again: python '.nnopt/repro/test_model.py/test_net*/repro.py'  (seed 0)",
        ]
    )
    script = script_of(project)
    assert {file.name for file in script.parent.iterdir()} == {
        "repro.py",
        "repro.json",
        "inputs.safetensors",
        "state.safetensors",
    }
    shown = subprocess.run([sys.executable, str(script)], cwd="/", capture_output=True, text=True, check=False)
    assert shown.returncode == 1, shown.stdout + shown.stderr
    assert shown.stdout.startswith("recorded of test_model.py::test_net[a/../b]: output: the error against float64")
    (reason,) = {line for line in shown.stdout.splitlines() if line.startswith("recorded of")}
    assert reason.removeprefix("recorded of ") in shown.stdout.removeprefix(reason)


def test_nothing_is_traced_where_nobody_wants_it(project: Project) -> None:
    project.write_tests(WRONG)
    result = project.run("--nnopt-diagnose=never")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*introduced by*")
    result.stdout.fnmatch_lines(["*to see it again: *"])


def test_the_failing_sample_is_replayed_and_a_mended_model_passes(project: Project) -> None:
    body = """
def test_model(model_pair):
    model = Model()
    def candidate(x):
        return model(x) * (1.01 if x.abs().max() > 100 else 1.0) ** WRONG
    model_pair(model, torch.rand(4, 8), candidate=candidate, samples=["small", "large"])
"""
    project.write_tests("WRONG = 1\n" + body)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*: samples[[]'large'[]].output: *", "*repro.py'  (seed 1002)"])
    folder = script_of(project).parent
    replay = f"--nnopt-replay={folder}"
    shown = project.run(replay, "--nnopt-only=numerics")
    shown.assert_outcomes(failed=1)
    shown.stdout.fnmatch_lines(["test_model.py::test_model: output: *"])
    project.write_tests("WRONG = 0\n" + body)
    project.run(replay, "--nnopt-only=numerics").assert_outcomes(passed=1)
    project.write_tests("WRONG = 0\n" + body.replace('"large"', '"zeros"'))
    gone = project.run(replay, "--nnopt-only=numerics")
    gone.stdout.fnmatch_lines(["*has no samples[[]'large'[]] any more; let the test fail once more*"])


@pytest.mark.parametrize("damage", ["repro.json", "inputs.safetensors"])
def test_a_repro_that_cannot_be_read_is_named(project: Project, damage: str) -> None:
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), x, candidate=lambda x: x)\n")
    project.run().assert_outcomes(failed=1)
    folder = script_of(project).parent
    (folder / damage).write_bytes(b"{")
    result = project.run(f"--nnopt-replay={folder}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*let the test fail once more*"])


def test_a_place_that_cannot_be_written_is_said_and_changes_no_verdict(project: Project) -> None:
    (project.pytester.path / ".nnopt").write_text("no folder")
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), x, candidate=lambda x: x)\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*to see it again: cannot write *"])


def test_generated_samples_cost_no_recompile(project: Project) -> None:
    project.write_tests(
        """
@pytest.mark.nnopt_limits(recompiles=0)
def test_model(model_pair):
    model_pair(Model(), torch.rand(4, 8), samples="generated")
"""
    )
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    (case,) = project.results()["cases"]
    assert {f"samples['{kind}'].output" for kind in ("perturbed", "zeros", "batch")} <= set(case["numerics"])
    assert case["compile"]["recompiles"] == 0
    seeds = case["context"]["seeds"]
    assert seeds["own"] == 0
    assert len(set(seeds.values())) == 8
