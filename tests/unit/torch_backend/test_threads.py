from __future__ import annotations

import pytest

from pytest_nnopt.measurement.machine import HostProbe, HostReading
from pytest_nnopt.torch_backend.threads import current_threads, default_threads, thread_count


def test_the_count_holds_inside_and_is_restored_outside() -> None:
    before = current_threads()
    with thread_count(before + 1):
        assert current_threads() == before + 1
    assert current_threads() == before


def test_the_count_is_restored_after_an_error() -> None:
    before = current_threads()
    with pytest.raises(ZeroDivisionError), thread_count(before + 1):
        raise ZeroDivisionError
    assert current_threads() == before


@pytest.mark.parametrize(
    ("cores", "quota", "threads"),
    [(1, None, 1), (2, None, 1), (3, None, 1), (16, None, 8), (64, 2.0, 1), (64, 0.5, 1), (64, 9.9, 4), (2, 64.0, 1)],
)
def test_by_default_half_of_the_usable_cores_stay_free_and_of_the_quota(
    monkeypatch: pytest.MonkeyPatch, cores: int, quota: float | None, threads: int
) -> None:
    reading = HostReading(at_seconds=0.0, own_seconds=0.0, usable_cores=cores, quota_cores=quota)
    monkeypatch.setattr(HostProbe, "read", lambda _: reading)
    assert default_threads() == threads
    with thread_count(None):
        assert current_threads() == threads
