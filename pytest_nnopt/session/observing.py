"""Look at everything of a case but its times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.numbers import NumericsLevel
from pytest_nnopt.model import CheckName
from pytest_nnopt.session.records import record_numerics
from pytest_nnopt.verdict import Observed

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import Evidence, ProcessRecord
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.verdict import Question


def observe_case(
    run: CaseRun, question: Question, timing: tuple[ProcessRecord, ...] = (), problem: str | None = None
) -> Observed:
    """Look at everything else that is asked of a case, and join it with its times."""
    numerics = observe_numerics(run, question)
    memory = run.memory if question.wants_memory else None
    compile_time = run.compile_time if question.wants_compile_time else None
    origin = run.origin if question.is_comparing or question.is_updating else None
    recorded = None if numerics is None else NumericsLevel(record_numerics(numerics), origin)
    return Observed(run.built.facts, numerics, timing, problem, memory, compile_time, recorded)


def inspect_case(run: CaseRun, gate: Gate, case_id: str, test_id: str) -> Evidence:
    """Look at everything but times, and return it as a baseline would hold it."""
    question = replace(gate.question(case_id, test_id, run.environment), is_updating=True)
    return run.evidence(observe_case(run, question))


def observe_numerics(run: CaseRun, question: Question) -> NumericsComparison | None:
    """Compare the numbers of a case where that is asked."""
    return run.numerics if CheckName.NUMERICS in question.asked else None
