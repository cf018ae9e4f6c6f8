from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.session import concluding
from pytest_nnopt.session.budget import Budget
from pytest_nnopt.session.gathering import Gathered
from pytest_nnopt.session.processes import Launch
from tests.builders import make_environment, make_evidence, make_process, make_question

if TYPE_CHECKING:
    from collections.abc import Callable


class Log(list[str]):
    """What happens, in order."""

    def prepare(self, count: int) -> None:
        self.append(f"{count} on their way")

    def begin(self) -> None:
        self.append("one builds")

    def begin_next(self, device: str) -> None:
        self.append(f"one for the next test on {device}")


class FakeRun:
    is_shared = False
    environment = make_environment()
    cache_root = Path("cache")

    def __init__(self, log: Log, *, has_candidate: bool) -> None:
        self._log = log
        self.built = SimpleNamespace(side=object() if has_candidate else None)

    @property
    def numerics(self) -> None:
        self._log.append("numbers")

    def look_ahead(self, look: Callable[[], object]) -> None:
        self._log.append("everything else")

    def by_lead(self, work: Callable[[], Any]) -> Any:
        return work()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Keep what a case has its processes do."""
    log = Log()

    @contextlib.contextmanager
    def hire(*_: object, variables: object, **__: object) -> Iterator[Log]:
        assert variables == {"HOME": "here"}
        yield log

    def gather(*_: object, **__: object) -> Gathered:
        log.append("times")
        return Gathered()

    monkeypatch.setattr(concluding, "default_threads", lambda: 1)
    monkeypatch.setattr(concluding, "hired_crew", hire)
    monkeypatch.setattr(concluding, "gather_timing", gather)
    return log


def time_case(log: Log, *, has_candidate: bool = True) -> None:
    gate = SimpleNamespace(
        earlier={},
        launch=Launch((), Path("here")),
        standby=None,
        variables={"HOME": "here"},
        progress=None,
        spending=lambda **_: contextlib.nullcontext(Budget(60.0, "a minute")),
        look_to_next_test=log.begin_next,
    )
    run, question = (
        FakeRun(log, has_candidate=has_candidate),
        make_question(baseline=make_evidence(), is_comparing=True),
    )
    concluding._timing(run, gate, question, "test")  # type: ignore[arg-type]


def test_the_numbers_come_before_another_process_takes_cores_and_memory(log: Log) -> None:
    time_case(log)
    assert log[:3] == ["1 on their way", "numbers", "one builds"]


def test_that_of_the_next_test_comes_behind_all_of_this_one(log: Log) -> None:
    time_case(log)
    assert log[3].endswith("on their way")
    assert log[4:] == [f"one for the next test on {make_question().device}", "everything else", "times"]


def test_that_of_the_next_test_imports_while_this_one_compiles_where_there_are_cores(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concluding, "default_threads", lambda: 4)
    time_case(log)
    following = f"one for the next test on {make_question().device}"
    assert log[:4] == ["1 on their way", following, "numbers", "one builds"]


@pytest.mark.parametrize(("expected", "threads", "ahead"), [(1, 1, 1), (2, 1, 1), (2, 2, 2), (5, 4, 4), (3, 4, 3)])
def test_those_that_are_expected_to_be_needed_are_on_their_way_as_far_as_there_are_cores(
    log: Log, monkeypatch: pytest.MonkeyPatch, expected: int, threads: int, ahead: int
) -> None:
    monkeypatch.setattr(concluding, "expected_processes", lambda question, timing: expected)
    monkeypatch.setattr(concluding, "default_threads", lambda: threads)
    time_case(log)
    assert log[log.index("one builds") + 1] == f"{ahead} on their way"


def test_without_a_candidate_nothing_builds(log: Log) -> None:
    time_case(log, has_candidate=False)
    assert log == ["1 on their way", "numbers"]


def test_measured_in_this_process_its_code_is_the_runs_own_and_not_one_more() -> None:
    process = make_process().model_copy(update={"code": {"generated_kernels": 6}})
    run = SimpleNamespace(built=SimpleNamespace(side=object()), timing=(), measure_process=lambda plan: (process,))
    gate = SimpleNamespace(earlier={}, launch=None)
    question = make_question(baseline=make_evidence(), is_comparing=True)
    assert concluding._timing(run, gate, question, "test") == Gathered((make_process(),))  # type: ignore[arg-type]
