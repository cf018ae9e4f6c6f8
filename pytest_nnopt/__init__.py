"""Gate optimised PyTorch models before merge: still right, still fast, still healthily compiled."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_nnopt.config import CompileConfig, ToleranceConfig
    from pytest_nnopt.library import CompileResult, compile_model
    from pytest_nnopt.observers import Observer
    from pytest_nnopt.observers.mlflow_tracking import MlflowObserver
    from pytest_nnopt.observers.weights_and_biases import WandbObserver
    from pytest_nnopt.session.model_pair import ModelPair, ModelPairFactory

__version__ = "0.1.0"

_HOMES = {
    "CompileConfig": "config",
    "CompileResult": "library",
    "MlflowObserver": "observers.mlflow_tracking",
    "ModelPair": "session.model_pair",
    "ModelPairFactory": "session.model_pair",
    "Observer": "observers",
    "ToleranceConfig": "config",
    "WandbObserver": "observers.weights_and_biases",
    "compile_model": "library",
}

__all__ = [
    "CompileConfig",
    "CompileResult",
    "MlflowObserver",
    "ModelPair",
    "ModelPairFactory",
    "Observer",
    "ToleranceConfig",
    "WandbObserver",
    "__version__",
    "compile_model",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: every pytest run of every user imports this package."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
