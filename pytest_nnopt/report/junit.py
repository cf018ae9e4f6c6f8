"""Short figures of a case as JUnit properties, which CI servers show beside the test."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_nnopt.model import CheckName

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult

_FIGURES = (CheckName.SPEEDUP, CheckName.LATENCY)


def junit_properties(result: CaseResult) -> list[tuple[str, str]]:
    """Return names and values: the outcome, and the figures of the timing checks."""
    name = re.search(r"#([^#\]]+)$", result.id)
    prefix = f"nnopt.{name[1]}" if name else "nnopt"
    figures = [(check.name, check.value) for check in result.checks if check.name in _FIGURES]
    return [
        (f"{prefix}.outcome", result.outcome.value),
        *((f"{prefix}.{check.value}", f"{value:.4g}") for check, value in figures if value is not None),
    ]
