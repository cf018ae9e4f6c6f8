"""The core that launches: found, left when slowed, and given back."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from random import Random

import pytest

from pytest_nnopt.affinity import usable_cores
from pytest_nnopt.measurement import cores as cores_module
from pytest_nnopt.measurement.cores import (
    ENOUGH_CORES,
    MOST_SEARCHES,
    CoreWatch,
    threads_named,
    time_loop,
    waited_seconds,
    watched_core,
)

SLOWED = "on a core that something else slowed"


class FakeCores:
    """Cores of which each takes its own time for the loop, and on which others may have taken this thread's turn."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = {int(name.removeprefix("core")): value for name, value in seconds.items()}
        self.current = min(self.seconds)
        self.visited: list[int] = []
        self.waited = 0.0

    def move(self, core: int) -> None:
        self.current = core
        self.visited.append(core)

    def watch(self, seed: int = 0) -> CoreWatch:
        return CoreWatch(
            sorted(self.seconds),
            self.move,
            time_loop=lambda: self.seconds[self.current],
            waited=lambda: self.waited,
            random=Random(seed),
        )


def test_it_starts_on_the_quickest_core() -> None:
    cores = FakeCores(core0=160e-6, core3=100e-6, core5=101e-6)
    cores.watch()
    assert cores.current == 3


def test_a_block_on_an_undisturbed_core_counts() -> None:
    cores = FakeCores(core0=100e-6, core1=160e-6)
    watch = cores.watch()
    watch.before()
    cores.seconds[0] = 120e-6
    assert watch.after() is None
    watch.before()
    assert cores.current == 0


def test_a_block_at_whose_end_the_core_is_slowed_does_not_count_and_the_next_runs_elsewhere() -> None:
    cores = FakeCores(core0=100e-6, core1=105e-6, core2=160e-6)
    watch = cores.watch()
    watch.before()
    cores.seconds[0] = 150e-6
    assert watch.after() == SLOWED
    cores.seconds[0] = 100e-6
    watch.before()
    assert cores.current == 1
    assert watch.after() is None


def test_a_core_that_is_slowed_between_blocks_is_left_as_well() -> None:
    cores = FakeCores(core0=100e-6, core1=105e-6)
    watch = cores.watch()
    cores.seconds[0] = 150e-6
    watch.before()
    assert cores.current == 1


def test_a_block_during_which_another_thread_had_the_core_does_not_count_however_quick_the_loop_is() -> None:
    cores = FakeCores(core0=100e-6, core1=101e-6)
    watch = cores.watch()
    watch.before()
    cores.waited += 10.0
    assert watch.after() == SLOWED
    watch.before()
    assert cores.current == 1
    assert watch.after() is None


def test_once_all_cores_are_slower_that_is_the_state_of_the_host() -> None:
    cores = FakeCores(core0=100e-6, core1=101e-6)
    watch = cores.watch()
    watch.before()
    cores.seconds = {0: 170e-6, 1: 160e-6}
    assert watch.after() == SLOWED
    for _ in range(3):
        watch.before()
        assert cores.current == 1
        assert watch.after() is None


def test_where_no_other_core_is_free_the_one_left_may_be_the_quickest_still() -> None:
    cores = FakeCores(core0=100e-6, core1=160e-6)
    watch = cores.watch()
    watch.before()
    cores.waited += 10.0
    assert watch.after() == SLOWED
    watch.before()
    assert cores.current == 0
    assert watch.after() is None


def test_after_searches_in_vain_a_disturbance_is_the_state_of_the_host() -> None:
    cores = FakeCores(core0=100e-6, core1=101e-6, core2=102e-6)
    watch = cores.watch()
    answers = []
    for _ in range(MOST_SEARCHES + 5):
        watch.before()
        cores.waited += 10.0
        answers.append(watch.after())
    assert answers == [SLOWED] * MOST_SEARCHES + [None] * 5
    visits = len(cores.visited)
    cores.seconds = dict.fromkeys(cores.seconds, 300e-6)
    watch.before()
    assert len(cores.visited) == visits


def test_searches_that_helped_are_not_in_vain() -> None:
    cores = FakeCores(core0=100e-6, core1=101e-6)
    watch = cores.watch()
    for _ in range(10):
        watch.before()
        cores.waited += 10.0
        assert watch.after() == SLOWED
        watch.before()
        assert watch.after() is None


def test_the_loop_s_time_is_the_median_behind_the_undisturbed_blocks() -> None:
    cores = FakeCores(core0=100e-6, core1=101e-6)
    watch = cores.watch()
    assert watch.loop_seconds is None
    for seconds in (110e-6, 180e-6, 104e-6, 180e-6, 102e-6, 180e-6, 180e-6):
        watch.before()
        cores.seconds[cores.current] = seconds
        watch.after()
        cores.seconds = dict.fromkeys(cores.seconds, 101e-6)
    assert watch.loop_seconds == 104e-6


def test_where_every_block_was_disturbed_the_loop_s_time_is_theirs() -> None:
    cores = FakeCores(core0=100e-6, core1=101e-6)
    watch = cores.watch()
    watch.before()
    cores.seconds[0] = 180e-6
    watch.after()
    assert watch.loop_seconds == 180e-6


def test_of_many_cores_enough_are_tried_anew_each_time() -> None:
    cores = FakeCores(**{f"core{number}": 100e-6 for number in range(128)})
    tried = []
    for seed in range(2):
        cores.visited.clear()
        cores.watch(seed)
        tried.append(set(cores.visited))
        assert len(tried[-1]) == ENOUGH_CORES
    assert tried[0] != tried[1]
    assert max(tried[0]) > ENOUGH_CORES


def test_more_are_tried_until_one_is_free() -> None:
    cores = FakeCores(**{f"core{number}": 100e-6 if number in (3, 77) else 160e-6 for number in range(128)})
    cores.seconds[3] = 100e-6
    watch = cores.watch()
    while cores.current not in (3, 77):  # a first search that met slow ones alone has seen nothing better
        watch = cores.watch(len(cores.visited))
    left = cores.current
    watch.before()
    cores.seconds[left] = 170e-6
    assert watch.after() == SLOWED
    watch.before()
    assert cores.current == 80 - left


def test_the_loop_is_short_and_no_quicker_than_a_nanosecond_a_round() -> None:
    assert 1500e-9 < time_loop() < 0.1


def test_who_waits_is_told_by_the_kernel_where_it_tells(tmp_path: Path) -> None:
    file = tmp_path / "schedstat"
    assert waited_seconds(file) == 0
    for text, seconds in {"7000000 2500000000 12\n": 2.5, "": 0.0, "no figures at all": 0.0}.items():
        file.write_text(text)
        assert waited_seconds(file) == seconds
    assert waited_seconds() >= 0


needs_two_cores = pytest.mark.skipif(
    len(usable_cores()) < 2 or not hasattr(os, "sched_setaffinity"), reason="needs two cores to choose from"
)


@needs_two_cores
def test_while_watched_this_thread_runs_on_one_core_and_may_run_on_all_afterwards() -> None:
    before = os.sched_getaffinity(0)
    with watched_core("followers") as watch:
        assert watch is not None
        assert len(os.sched_getaffinity(0)) == 1
        watch.before()
        watch.after()
    assert os.sched_getaffinity(0) == before


@needs_two_cores
def test_a_thread_that_was_confined_more_than_the_process_is_so_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(cores_module, "usable_cores", lambda: before)
    os.sched_setaffinity(0, {min(before)})
    try:
        with watched_core("followers"):
            pass
        assert os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)


@needs_two_cores
def test_an_error_gives_the_cores_back_as_well() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), watched_core("followers"):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


@needs_two_cores
def test_threads_of_a_name_follow_and_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    follower, other = (thread.native_id or 0 for thread in threads)
    monkeypatch.setattr(cores_module, "threads_named", lambda start="": [follower] if start else threads_named(start))
    before = os.sched_getaffinity(follower)
    with watched_core("followers"):
        assert os.sched_getaffinity(follower) == os.sched_getaffinity(0)
        assert len(os.sched_getaffinity(follower)) == 1
        assert os.sched_getaffinity(other) == before
    assert os.sched_getaffinity(follower) == before
    done.set()
    for thread in threads:
        thread.join()


@needs_two_cores
def test_a_follower_may_end_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, daemon=True)
    thread.start()
    number = thread.native_id or 0
    monkeypatch.setattr(cores_module, "threads_named", lambda start="": [number])
    with watched_core("followers") as watch:
        assert watch is not None
        done.set()
        thread.join()
        watch.before()
    assert len(os.sched_getaffinity(0)) > 1
    with watched_core("followers") as watch:
        assert watch is not None


@needs_two_cores
def test_a_thread_that_begins_meanwhile_may_run_on_all_cores_afterwards() -> None:
    done = threading.Event()
    with watched_core("followers"):
        thread = threading.Thread(target=done.wait, daemon=True)
        thread.start()
        assert len(os.sched_getaffinity(thread.native_id or 0)) == 1
    assert os.sched_getaffinity(thread.native_id or 0) == usable_cores()
    done.set()
    thread.join()


def refuse(*_: object) -> None:
    raise PermissionError


def test_where_moving_is_refused_there_is_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    with watched_core("followers") as watch:
        assert watch is None


def test_with_one_core_there_is_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores_module, "usable_cores", lambda: frozenset({4}))
    with watched_core("followers") as watch:
        assert watch is None


def test_a_system_that_does_not_tell_has_all_cores_usable_and_none_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores() == {0, 1, 2}
    with watched_core("followers") as watch:
        assert watch is None


def test_threads_are_known_by_how_their_names_begin(tmp_path: Path) -> None:
    for number, name in {"71": b"python", "72": b"pt_autograd_0", "73": b"pt_autograd_1", "74": b"M\xfcller"}.items():
        (tmp_path / number).mkdir()
        (tmp_path / number / "comm").write_bytes(name + b"\n")
    (tmp_path / "75").mkdir()
    assert threads_named("pt_autograd", tasks=tmp_path) == [72, 73]
    assert threads_named(tasks=tmp_path) == [71, 72, 73, 74]
    assert threads_named(tasks=tmp_path / "absent") == []


def test_a_thread_that_ends_while_threads_are_listed_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "71").mkdir()
    (tmp_path / "71" / "comm").symlink_to(tmp_path / "gone")
    assert threads_named(tasks=tmp_path) == []
