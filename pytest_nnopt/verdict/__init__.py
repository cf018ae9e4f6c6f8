"""From evidence, baseline and limits to a verdict: pure functions, one room for each kind of check.

Whoever measures asks ``wanted_by_looks`` and ``wanted_by_chance`` whether further processes are wanted, and ``judge``
for the answer.
"""

from __future__ import annotations

from pytest_nnopt.verdict.estimates import estimate_of
from pytest_nnopt.verdict.judge import judge, keep_exact_failures
from pytest_nnopt.verdict.question import Observed, Question
from pytest_nnopt.verdict.wanted import name_spent_budget, wanted_by_chance, wanted_by_looks, wanted_processes
from pytest_nnopt.verdict.ways import even_estimates

__all__ = [
    "Observed",
    "Question",
    "estimate_of",
    "even_estimates",
    "judge",
    "keep_exact_failures",
    "name_spent_budget",
    "wanted_by_chance",
    "wanted_by_looks",
    "wanted_processes",
]
