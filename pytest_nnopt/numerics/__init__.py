"""Comparison of what two runs of a model did, on plain arrays: no torch, no pytest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_nnopt.numerics.compare import compare_observations
    from pytest_nnopt.numerics.comparison import Lane, LeafComparison, NumericsComparison
    from pytest_nnopt.numerics.describe import describe_agreement, describe_comparison, describe_leaf, describe_problem
    from pytest_nnopt.numerics.join import join_comparisons, nothing_compared
    from pytest_nnopt.numerics.leaves import Observation
    from pytest_nnopt.numerics.tolerance import Tolerance

_HOMES = {
    "Lane": "comparison",
    "LeafComparison": "comparison",
    "NumericsComparison": "comparison",
    "Observation": "leaves",
    "Tolerance": "tolerance",
    "compare_observations": "compare",
    "describe_agreement": "describe",
    "describe_comparison": "describe",
    "describe_leaf": "describe",
    "describe_not_compared": "describe",
    "describe_problem": "describe",
    "join_comparisons": "join",
    "nothing_compared": "join",
}

__all__ = [
    "Lane",
    "LeafComparison",
    "NumericsComparison",
    "Observation",
    "Tolerance",
    "compare_observations",
    "describe_agreement",
    "describe_comparison",
    "describe_leaf",
    "describe_not_compared",
    "describe_problem",
    "join_comparisons",
    "nothing_compared",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, because numpy takes a tenth of a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
