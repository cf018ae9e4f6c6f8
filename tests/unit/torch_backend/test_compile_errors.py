from __future__ import annotations

import tempfile

import pytest

from pytest_nnopt.torch_backend.compile_errors import describe_error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError("\n\n  x raised:\n\n  why it did\nmore"), "ValueError: x raised: why it did"),
        (ValueError("a raised:\nb raised:\nc"), "ValueError: a raised: b raised: c"),
        (ValueError(), "ValueError: no message"),
        (
            ValueError("Failed to trace builtin operator\n  Explanation: It cannot trace `print`.\n  Hint: Avoid it."),
            "ValueError: Failed to trace builtin operator. It cannot trace `print`.",
        ),
    ],
)
def test_error_in_one_line(error: Exception, line: str) -> None:
    assert describe_error(error) == line


def test_long_error_is_cut() -> None:
    said = describe_error(ValueError(f"begin {'x' * 1000} end"))
    assert len(said) == 360
    assert said.startswith("ValueError: begin xxx")
    assert said.endswith("xxx end")


def test_a_full_disk_is_named_with_its_remedy() -> None:
    said = describe_error(RuntimeError("OSError: [Errno 28] No space left on device"))
    assert said.endswith(
        f"No space left on device; free space in {tempfile.gettempdir()}, or let TMPDIR name another place"
    )
