"""Two revisions in one process are each timed with their own modules in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytest_nnopt.torch_backend.revisions import Maker, RevisionClock
from tests.fakes import FakeClock

active: list[str] = []


def make(name: str) -> Maker:
    @contextmanager
    def activate() -> Iterator[None]:
        active.append(name)
        yield
        active.pop()

    unused: Any = None
    return Maker(unused, unused, activate)


def test_calls_timed_or_not_run_with_the_modules_of_their_own_revision() -> None:
    seen: list[tuple[str, ...]] = []

    def of_head() -> None:
        seen.append(("of head", *active))

    def of_base() -> None:
        seen.append(("of base", *active))

    clock = RevisionClock(FakeClock(), [of_base], make("head"), make("base"))
    clock.time_calls(of_base, 1, warm_calls=1)
    clock.time_calls(of_head, 2)
    assert seen == [("of base", "base")] * 2 + [("of head", "head")] * 2
    assert clock.now() == 0.0
