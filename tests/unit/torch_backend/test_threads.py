from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (16, 8)])
def test_by_default_half_of_the_usable_cores_stay_free(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(cores)))
    assert default_threads() == threads
    with thread_count(None):
        assert current_threads() == threads
