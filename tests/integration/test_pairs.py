"""Everything that ``model_pair`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

OUTPUTS = """
import collections
import dataclasses
from typing import NamedTuple

class Named(NamedTuple):
    policy: torch.Tensor
    value: torch.Tensor

@dataclasses.dataclass
class Data:
    policy: torch.Tensor
    value: torch.Tensor

SHAPES = {
    "tensor": lambda p, v: p,
    "tuple": lambda p, v: (p, v),
    "named": Named,
    "dict": lambda p, v: {"policy": p, "value": v},
    "nested": lambda p, v: {"both": [p, (v,)]},
    "dataclass": Data,
}

class Heads(Model):
    def __init__(self, shape):
        super().__init__()
        self.shape = SHAPES[shape]

    def forward(self, x):
        y = super().forward(x)
        return self.shape(y + 1, y.sum())

@pytest.mark.parametrize("shape", SHAPES)
def test_model(model_pair, shape):
    model_pair(Heads(shape), x)
"""


def test_every_shape_of_output_is_opened(project: Project) -> None:
    project.write_tests(OUTPUTS)
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(passed=6)
    leaves = {case["id"].split("[")[1][:-1]: set(case["numerics"]) for case in project.results()["cases"]}
    assert leaves["named"] == {"output.policy", "output.value"}
    assert leaves["dict"] == {"output['policy']", "output['value']"}
    assert leaves["nested"] == {"output['both'][0]", "output['both'][1][0]"}
    assert leaves["dataclass"] == {"output.policy", "output.value"}


def test_bound_methods_functions_and_partials(project: Project) -> None:
    project.write_tests(
        """
import functools

class Encoder(Model):
    def encode(self, x, *, scale=1.0):
        return self.linear(x) * scale

def test_method(model_pair):
    pair = model_pair(Encoder().encode, x, scale=2.0)
    assert torch.equal(pair.eager(x, scale=2.0), pair.compiled(x, scale=2.0))

def test_forward_is_the_module(model_pair):
    assert isinstance(model_pair(Encoder().forward, x).eager, Encoder)

def test_function(model_pair):
    model_pair(torch.nn.functional.gelu, x)

def test_partial(model_pair):
    model_pair(functools.partial(torch.softmax, dim=-1), x)

def test_lambda(model_pair):
    model_pair(lambda a, b: a @ b.T, x, b=x)
"""
    )
    project.run().assert_outcomes(passed=5)


def test_keyword_inputs_that_bear_a_reserved_name(project: Project) -> None:
    project.write_tests(
        "def test_model(model_pair):\n    model_pair(lambda x, name: x * name, x, kwargs={'name': 2})\n"
    )
    project.run().assert_outcomes(passed=1)


def test_several_pairs_have_names_and_are_judged_one_by_one(project: Project) -> None:
    project.write_tests(
        """
def test_model(model_pair):
    model = Model()
    model_pair(model, x, name="sound")
    model_pair(model, x, name="wrong", candidate=lambda x: model(x) * 1.01)
"""
    )
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(failed=1)
    outcomes = {case["id"]: case["outcome"] for case in project.results()["cases"]}
    assert outcomes == {"test_model.py::test_model#sound": "passed", "test_model.py::test_model#wrong": "failed"}


def test_two_pairs_of_one_name_are_refused(project: Project) -> None:
    project.write_tests("def test_model(model_pair):\n    model_pair(Model(), x)\n    model_pair(Model(), x)\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is made twice; where a test makes several pairs, each has a name*"])


def test_a_training_step_compares_gradients_by_name(project: Project) -> None:
    project.write_tests(
        """
class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 1.01

class Wrong(Model):
    def forward(self, x):
        return WrongGradient.apply(super().forward(x))

def test_sound(model_pair):
    model_pair(Model(), x, loss=lambda y: y.square().mean())

def test_wrong(model_pair):
    model_pair(Model(), x, loss=lambda y: y.square().mean(), candidate=Wrong())
"""
    )
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_model.py::test_wrong: gradient of linear.*"])
    sound = next(case for case in project.results()["cases"] if case["id"].endswith("sound"))
    assert {"loss", "gradient of linear.weight", "gradient of linear.bias"} <= set(sound["numerics"])


def test_a_training_step_is_timed_with_its_backward_pass(project: Project) -> None:
    project.write_tests(
        "def test_model(model_pair):\n    assert model_pair(Model(), x, loss=torch.sum).speedup > 1.5\n"
    )
    project.run().assert_outcomes(passed=1)


def test_further_samples_are_compared_too(project: Project) -> None:
    project.write_tests(
        """
def test_model(model_pair):
    model = Model()
    def candidate(x):
        y = model(x)
        return y if len(x) == 4 else y * 1.01
    model_pair(model, x, candidate=candidate, samples=[torch.ones(2, 8)])
"""
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*: samples[[]0[]].output: *"])


def test_the_pair_shares_no_state_with_the_test(project: Project) -> None:
    project.write_tests(
        """
def test_model(model_pair):
    model = nn.Sequential(nn.BatchNorm1d(8))
    before = model[0].running_mean.clone()
    pair = model_pair(model, x)
    pair.verdict
    assert torch.equal(model[0].running_mean, before)
    assert torch.equal(pair.eager[0].running_mean, before)
"""
    )
    project.run().assert_outcomes(passed=1)


def test_dropout_draws_the_same_mask_on_both_sides(project: Project) -> None:
    project.write_tests(
        """
@pytest.mark.nnopt_compile(backend="aot_eager")
def test_model(model_pair):
    model_pair(nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5)).train(), x)
"""
    )
    project.run().assert_outcomes(passed=1)


def test_autocast_around_the_call_holds_for_both_sides(project: Project) -> None:
    project.write_tests(
        """
def test_model(model_pair):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model_pair(Model(), x)
"""
    )
    result = project.run("--nnopt-json=results.json")
    result.assert_outcomes(passed=1)
    (case,) = project.results()["cases"]
    assert case["numerics"]["output"]["dtype"] == "bfloat16"


@pytest.mark.gpu
def test_the_device_option_moves_model_and_inputs(project: Project) -> None:
    project.write_tests("def test_model(model_pair):\n    assert model_pair(Model(), x).eager.linear.weight.is_cuda\n")
    project.run("--nnopt-device=cuda").assert_outcomes(passed=1)
