"""Whoever wants the facts of a run as they come in: a training application, an experiment tracker.

A pytest run takes observers from the hook ``pytest_nnopt_observers`` of a conftest.py, :func:`compile_model` as an
argument. They learn the facts in the process that reports, in the form in which results files hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, Evidence
    from pytest_nnopt.results import CaseResult


class Observer(Protocol):
    """What is told about each case; inherit from it to leave out what does not matter."""

    def on_compile(self, case_id: str, compilation: CompileRecord) -> None:
        """Learn how a candidate was compiled; comes before what was measured of it."""
        return

    def on_measure(self, case_id: str, evidence: Evidence) -> None:
        """Learn what was measured of a case: times by process, memory, numerics by leaf."""
        return

    def on_verdict(self, result: CaseResult) -> None:
        """Learn what became of a case; a test that is run again brings another verdict on it."""
        return


def tell_all(observers: Iterable[Observer], result: CaseResult) -> list[str]:
    """Tell observers everything about a finished case.

    Returns:
        what went wrong with an observer, in words: its exceptions must not change what becomes of the case.
    """
    problems = []
    for observer in observers:
        if result.compile is not None:
            problems += tell(observer.on_compile, result.id, result.compile)
        problems += tell(observer.on_measure, result.id, result.evidence)
        problems += tell(observer.on_verdict, result)
    return problems


def tell(method: Callable[..., None], *facts: object) -> list[str]:
    """Call one method of an observer; return what went wrong, in words, as a list of at most one."""
    try:
        method(*facts)
    except Exception as error:  # an observer is the user's, and may raise anything
        name = getattr(method, "__qualname__", repr(method))
        return [f"the observer's {name} raised {type(error).__name__}: {error}"]
    return []
