"""Compiling with validation outside of pytest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import pytest_nnopt
from pytest_nnopt import CompileConfig, compile_model
from pytest_nnopt.errors import ConfigError, PairError
from pytest_nnopt.model import CompileStatus
from pytest_nnopt.observers import Observer
from pytest_nnopt.results import CaseResult
from tests.fakes import RecordingObserver

X = torch.ones(4, 8)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU())


def broken(_graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., Any]:
    raise RuntimeError("no such instruction")


def wrong(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., Any]:
    return lambda *args: tuple(output * 1.01 for output in graph(*args))


def test_a_model_that_compiles_is_compiled_in_place() -> None:
    original = model()
    result = compile_model(original, X, {"backend": "eager"})
    assert result.model is original
    assert result.status is CompileStatus.COMPILED
    assert result.is_compiled
    assert torch.equal(result.model(X), model()(X))
    assert list(original.state_dict()) == list(model().state_dict())


def test_a_step_that_raises_falls_back_and_says_so() -> None:
    result = compile_model(model(), (X,), CompileConfig(backend=broken, fallback=("eager",)))
    assert result.status is CompileStatus.FELL_BACK
    assert result.mode_used == "eager"
    assert not result.is_compiled
    assert result.error is not None
    assert "no such instruction" in result.error


def test_a_step_whose_numbers_are_wrong_does_not_serve() -> None:
    result = compile_model(model(), X, CompileConfig(backend=wrong))
    assert result.status is CompileStatus.FAILED
    assert result.mode_used is None
    assert result.numerics is not None
    assert not result.numerics.is_within
    assert result.error is not None
    assert "output" in result.error


def test_nothing_compiled_is_no_success() -> None:
    with torch._dynamo.config.patch(disable=True):
        result = compile_model(model(), X)
    assert result.status is CompileStatus.NOTHING_COMPILED
    assert not result.is_compiled


def test_keyword_inputs_and_gradients() -> None:
    result = compile_model(model(), {"input": X}, {"backend": "aot_eager"}, loss=torch.sum)
    assert result.numerics is not None
    assert {leaf.path for leaf in result.numerics.leaves} >= {"output", "loss", "gradient of 0.weight"}


def test_speedup_is_measured_on_request() -> None:
    result = compile_model(model(), X, {"backend": "eager"}, measures_speedup=True)
    assert result.speedup is not None
    assert math.isfinite(result.speedup)
    assert result.speedup > 0


def test_metadata_is_flat_and_leaves_out_what_is_unknown() -> None:
    metadata = compile_model(model(), X, {"backend": "eager"}).to_metadata()
    assert metadata["compile/status"] == "compiled"
    assert metadata["compile/mode_used"] == "backend='eager'"
    assert metadata["compile/graph_breaks"] == 0
    assert metadata["compile/numerics_within"] is True
    assert "compile/speedup" not in metadata
    assert "compile/error" not in metadata


def test_an_impossible_argument_is_named() -> None:
    with pytest.raises(ConfigError, match="compile_model: mode='fast' must be"):
        compile_model(model(), X, {"mode": "fast"})


def test_a_model_that_raises_eagerly_is_the_users_own_error() -> None:
    with pytest.raises(PairError, match="without any compilation"):
        compile_model(model(), torch.ones(4, 9), {"backend": "eager"})


def test_the_package_hands_out_its_public_names() -> None:
    assert set(pytest_nnopt.__all__) <= set(dir(pytest_nnopt)) | set(pytest_nnopt._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pytest_nnopt.nonsense


class TestObservers:
    def test_every_step_and_what_became_of_it_is_told(self) -> None:
        observer = RecordingObserver()
        compile_model(model(), X, CompileConfig(backend=wrong, fallback=("eager",)), name="net", observers=[observer])
        assert [(kind, case) for kind, case, _ in observer.told] == [
            ("compile", "net"),
            ("measure", "net"),
            ("verdict", "net"),
        ]
        result = observer.told[-1][2]
        assert isinstance(result, CaseResult)
        assert {check.name.value: check.outcome.value for check in result.checks} == {
            "compile": "skipped",
            "numerics": "failed",
        }

    def test_a_model_goes_by_its_own_name_and_passes_what_compiled_rightly(self) -> None:
        observer = RecordingObserver()
        compile_model(model(), X, {"backend": "eager"}, observers=[observer])
        result = observer.told[-1][2]
        assert isinstance(result, CaseResult)
        assert (result.id, result.outcome.value) == ("Sequential", "passed")

    def test_what_an_observer_raises_becomes_a_warning(self) -> None:
        class Broken(Observer):
            def on_compile(self, case_id: str, compilation: object) -> None:
                raise OSError("no network")

        with pytest.warns(RuntimeWarning, match=r"Broken.on_compile raised OSError: no network"):
            result = compile_model(model(), X, {"backend": "eager"}, observers=[Broken()])
        assert result.is_compiled
