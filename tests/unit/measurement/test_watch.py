from __future__ import annotations

from pytest_nnopt.measurement.clock import InTurns, Unwatched, WatchChain
from tests.fakes import FakeMachine


def test_unwatched_never_objects() -> None:
    watch = Unwatched()
    watch.before()
    assert watch.after() is None


def test_a_turn_is_waited_for_before_each_block() -> None:
    turns: list[int] = []
    watch = InTurns(lambda: turns.append(1))
    watch.before()
    assert watch.after() is None
    assert turns == [1]


def test_chain_gives_the_first_reason_and_closes_every_watch() -> None:
    watches = FakeMachine([None, None]), FakeMachine(["hot", None]), FakeMachine(["busy", None])
    chain = WatchChain(*watches)
    chain.before()
    assert all(watch.is_inside_block for watch in watches)
    assert chain.after() == "hot"
    assert not any(watch.is_inside_block for watch in watches)
    chain.before()
    assert chain.after() is None
