from __future__ import annotations

from pytest_nnopt.measurement.allocator import keep_freed_memory


class FakeLibrary:
    def __init__(self, answer: int = 1) -> None:
        self.answer = answer
        self.calls: dict[int, int] = {}

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls[parameter] = value
        return self.answer


class LibraryWithoutMallopt:
    pass


def test_large_blocks_come_from_the_heap_and_the_heap_is_never_trimmed() -> None:
    library = FakeLibrary()
    assert keep_freed_memory(library)
    assert library.calls == {-3: 32 * 2**20, -1: 2**31 - 1}


def test_a_refusal_is_said() -> None:
    assert not keep_freed_memory(FakeLibrary(answer=0))


def test_a_c_library_without_the_call_is_left_alone() -> None:
    assert not keep_freed_memory(LibraryWithoutMallopt())  # type: ignore[arg-type]
