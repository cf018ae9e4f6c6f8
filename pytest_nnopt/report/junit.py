"""Short figures of a case as JUnit properties, which CI servers show beside the test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_nnopt.plain import spell_out

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult, CheckRecord


def junit_properties(result: CaseResult) -> list[tuple[str, str]]:
    """Return names and values: the outcome, each check's outcome and figures, and how many processes measured."""
    name = re.search(r"#([^#\]]+)$", result.id)
    prefix = f"nnopt.{spell_out(name[1])}" if name else "nnopt"
    figures = [(f"{prefix}.outcome", result.outcome.value)]
    for check in result.checks:
        figures += _of_check(check, f"{prefix}.{check.name.value}")
    if result.timing:
        figures.append((f"{prefix}.processes", str(len(result.timing))))
    return figures


def _of_check(check: CheckRecord, prefix: str) -> Iterator[tuple[str, str]]:
    yield f"{prefix}.outcome", check.outcome.value
    interval = check.interval
    figures = {
        prefix: check.value,
        f"{prefix}.low": interval.low if interval else None,
        f"{prefix}.high": interval.high if interval else None,
        f"{prefix}.limit": check.limit if check.value is not None else None,
    }
    for name, figure in figures.items():
        if figure is not None:
            yield name, f"{figure:.4g}"
