from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.model import CheckName
from pytest_nnopt.session import comparison, gathering
from pytest_nnopt.session.budget import Budget
from tests.builders import make_evidence, make_process, make_question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.verdict import Question


BUDGET = Budget(60.0, "a minute")


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> comparison._Timing:
    """A case against a revision in processes of its own, of which nothing but the question matters."""
    asked = frozenset({CheckName.LATENCY})
    question = make_question(base="main", is_comparing=True, baseline=make_evidence(count=0), asked=asked)
    pair = make_process(0.0), make_process(0.1)
    monkeypatch.setattr(comparison._Timing, "_measure_pair", lambda *_: pair)
    nothing: Any = None
    return comparison._Timing(nothing, nothing, nothing, nothing, question, "test")


def test_pairs_are_looked_at_when_the_plan_says_so_and_not_after_each(
    monkeypatch: pytest.MonkeyPatch, timing: comparison._Timing
) -> None:
    seen: list[tuple[int, int]] = []

    def count_looks(question: Question, processes: Sequence[ProcessRecord]) -> int:
        assert question.baseline is not None
        seen.append((len(processes), len(question.baseline.timing)))
        return {0: 1, 1: 4, 4: 8}.get(len(processes), len(processes))

    monkeypatch.setattr(gathering, "wanted_by_looks", count_looks)
    nothing: Any = None
    heads, bases = timing._gather_pairs(nothing, BUDGET, now=lambda: 0.0)
    assert (len(heads.timing), len(bases), heads.problem, heads.spent_budget) == (8, 8, None, None)
    assert seen == [(0, 0), (1, 1), (4, 4), (8, 8)]


def test_a_spent_budget_ends_the_pairs_behind_the_second(
    monkeypatch: pytest.MonkeyPatch, timing: comparison._Timing
) -> None:
    monkeypatch.setattr(gathering, "wanted_by_looks", lambda *_: 8)
    times = iter(range(0, 1000, 100))
    nothing: Any = None
    heads, bases = timing._gather_pairs(nothing, BUDGET, now=lambda: next(times))
    assert (len(heads.timing), len(bases), heads.spent_budget) == (2, 2, "a minute")


def test_a_spent_budget_is_known_where_one_process_runs_both(
    monkeypatch: pytest.MonkeyPatch, timing: comparison._Timing
) -> None:
    here: Any = SimpleNamespace(earlier={}, spending=lambda: contextlib.nullcontext(BUDGET), progress=None)
    base: Any = SimpleNamespace(launch_beside=lambda launch: launch)
    gathered = gathering.Gathered((make_process(),), spent_budget=BUDGET.name)
    monkeypatch.setattr(comparison._Timing, "_crew", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(comparison, "gather_timing", lambda *_, budget, **__: gathered if budget is BUDGET else None)
    monkeypatch.setattr(comparison, "processes_of_base", list)
    assert replace(timing, gate=here, base=base)._in_one().gathered is gathered
