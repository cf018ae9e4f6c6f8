from __future__ import annotations

import cProfile
import sys
from collections.abc import Callable
from functools import partial
from threading import Thread
from types import SimpleNamespace

import pytest

from pytest_nnopt.torch_backend import calls
from pytest_nnopt.torch_backend.calls import count_calls


def nothing() -> None:
    pass


def call(times: int) -> None:
    for _ in range(times):
        nothing()


def call_twice(function: Callable[[], object]) -> None:
    function()
    function()


def test_counts_repeat_and_grow_with_the_work() -> None:
    few, again, more = (count_calls(partial(call, times)) for times in (10, 10, 20))
    assert few is not None
    assert few == again
    assert more == few + 10


def test_what_other_threads_call_does_not_count() -> None:
    def work() -> None:
        other = Thread(target=call, args=(1000,))
        other.start()
        other.join()

    count = count_calls(work)
    assert count is not None
    assert count < 1000


def test_counting_ends_with_the_work_even_where_that_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        count_calls(lambda: 1 / 0)
    assert count_calls(nothing) is not None


@pytest.mark.skipif(calls.COUNTS_PYTHON_ALONE, reason="this Python lets several tools watch")
def test_nothing_is_done_under_another_profiler() -> None:
    done: list[int] = []
    assert cProfile.Profile().runcall(count_calls, lambda: done.append(1)) is None
    assert not done


@pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python has no sys.monitoring")
def test_another_profiler_may_watch_as_well() -> None:
    assert cProfile.Profile().runcall(count_calls, lambda: call_twice(nothing)) == count_calls(
        lambda: call_twice(nothing)
    )


class Monitoring:
    """Stands for ``sys.monitoring``."""

    events = SimpleNamespace(NO_EVENTS=0, PY_START=1)

    def __init__(self, taken: set[int]) -> None:
        self.taken = set(taken)
        self.callbacks: dict[int, Callable[..., object] | None] = {}
        self.watched: dict[int, int] = {}

    def get_tool(self, tool: int) -> str | None:
        return "another" if tool in self.taken else None

    def use_tool_id(self, tool: int, name: str) -> None:
        self.taken.add(tool)

    def free_tool_id(self, tool: int) -> None:
        self.taken.remove(tool)

    def register_callback(self, tool: int, event: int, callback: Callable[..., object] | None) -> None:
        self.callbacks[tool] = callback

    def set_events(self, tool: int, events: int) -> None:
        self.watched[tool] = events

    def start_function(self) -> None:
        for tool, events in self.watched.items():
            callback = self.callbacks[tool]
            if events & self.events.PY_START and callback is not None:
                callback(nothing.__code__, 0)


@pytest.mark.parametrize("taken", [set(), {4}])
def test_counts_of_events_leave_the_tool_as_it_was(taken: set[int]) -> None:
    monitoring = Monitoring(taken)
    assert calls._count_by_events(lambda: call_twice(monitoring.start_function), monitoring) == 2
    assert monitoring.taken == taken
    monitoring.start_function()
    assert set(monitoring.watched.values()) == {0}


def test_nothing_is_done_where_every_tool_is_taken() -> None:
    done: list[int] = []
    assert calls._count_by_events(lambda: done.append(1), Monitoring({3, 4})) is None
    assert not done
