"""The core that launches: found, left when slowed, and given back."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from random import Random

import pytest

from pytest_nnopt.measurement import cores as cores_module
from pytest_nnopt.measurement.cores import (
    MOST_CORES,
    CoreWatch,
    launching_threads,
    time_loop,
    usable_cores,
    watched_core,
)


class FakeCores:
    """Cores of which each takes its own time for the loop."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = {int(name.removeprefix("core")): value for name, value in seconds.items()}
        self.current = min(self.seconds)
        self.visited: list[int] = []

    def move(self, core: int) -> None:
        self.current = core
        self.visited.append(core)

    def time_loop(self) -> float:
        return self.seconds[self.current]

    def watch(self) -> CoreWatch:
        return CoreWatch(sorted(self.seconds), self.move, time_loop=self.time_loop, random=Random(0))


def test_it_starts_on_the_quickest_core() -> None:
    cores = FakeCores(core0=160e-6, core3=100e-6, core5=101e-6)
    cores.watch()
    assert cores.current == 3


def test_a_block_on_an_undisturbed_core_counts() -> None:
    cores = FakeCores(core0=100e-6, core1=160e-6)
    watch = cores.watch()
    watch.before()
    cores.seconds[0] = 110e-6
    assert watch.after() is None
    assert cores.current == 0


def test_a_block_at_whose_end_the_core_is_slowed_does_not_count_and_the_next_runs_elsewhere() -> None:
    cores = FakeCores(core0=100e-6, core1=105e-6, core2=160e-6)
    watch = cores.watch()
    watch.before()
    cores.seconds[0] = 150e-6
    assert watch.after() == "on a core that something else slowed"
    watch.before()
    assert cores.current == 1
    assert watch.after() is None


def test_where_all_cores_are_slowed_by_now_every_block_says_so() -> None:
    cores = FakeCores(core0=100e-6, core1=100e-6)
    watch = cores.watch()
    cores.seconds = {0: 170e-6, 1: 160e-6}
    watch.before()
    assert cores.current == 1
    assert watch.after() is not None


def test_cores_that_have_always_been_slow_are_no_disturbance() -> None:
    watch = FakeCores(core0=170e-6, core1=160e-6).watch()
    watch.before()
    assert watch.after() is None


def test_the_loop_s_time_is_the_median_behind_the_blocks() -> None:
    cores = FakeCores(core0=100e-6, core1=200e-6)
    watch = cores.watch()
    assert watch.loop_seconds is None
    for seconds in (110e-6, 101e-6, 103e-6):
        watch.before()
        cores.seconds[0] = seconds
        watch.after()
    assert watch.loop_seconds == 103e-6


def test_of_many_cores_some_are_tried_others_each_time() -> None:
    cores = FakeCores(**{f"core{number}": 100e-6 for number in range(128)})
    watch = cores.watch()
    first = set(cores.visited)
    assert len(first) == MOST_CORES
    cores.visited.clear()
    cores.seconds = dict.fromkeys(cores.seconds, 150e-6)
    watch.before()
    assert first != set(cores.visited)


def test_the_loop_takes_some_time_but_not_much() -> None:
    assert 1e-6 < time_loop() < 1.0


needs_two_cores = pytest.mark.skipif(
    len(usable_cores()) < 2 or not hasattr(os, "sched_setaffinity"), reason="needs two cores to choose from"
)


@needs_two_cores
def test_while_watched_this_thread_runs_on_one_core_and_may_run_on_all_afterwards() -> None:
    before = os.sched_getaffinity(0)
    with watched_core() as watch:
        assert watch is not None
        assert len(os.sched_getaffinity(0)) == 1
        watch.before()
        watch.after()
    assert os.sched_getaffinity(0) == before


@needs_two_cores
def test_an_error_gives_the_cores_back_as_well() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), watched_core():
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


@needs_two_cores
def test_a_thread_that_launches_the_backward_pass_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    number = thread.native_id
    assert number is not None
    monkeypatch.setattr(cores_module, "launching_threads", lambda: [0, number])
    before = os.sched_getaffinity(number)
    with watched_core():
        assert os.sched_getaffinity(number) == os.sched_getaffinity(0)
        assert len(os.sched_getaffinity(number)) == 1
    assert os.sched_getaffinity(number) == before
    with watched_core():
        done.set()
        thread.join()
    assert os.sched_getaffinity(0) == before


def test_with_one_core_there_is_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores_module, "usable_cores", lambda: frozenset({4}))
    with watched_core() as watch:
        assert watch is None


def test_a_system_that_does_not_tell_has_all_cores_usable_and_none_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores() == {0, 1, 2}
    with watched_core() as watch:
        assert watch is None


def test_threads_are_known_by_their_names(tmp_path: Path) -> None:
    for number, name in {"71": "python", "72": "pt_autograd_0", "73": "pt_autograd_1"}.items():
        (tmp_path / number).mkdir()
        (tmp_path / number / "comm").write_text(f"{name}\n")
    assert sorted(launching_threads(tmp_path)) == [0, 72, 73]
    assert launching_threads(tmp_path / "absent") == [0]
