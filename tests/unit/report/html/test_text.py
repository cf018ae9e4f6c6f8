from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.report.html.text import clip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain <b> & 'text'", "plain <b> & 'text'"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("a\x00b", "a\\u0000b"),
        ("abc\u202edef", "abc\\u202edef"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
    ],
)
def test_nothing_in_a_text_is_invisible(text: str, shown: str) -> None:
    assert clip(text) == shown


def test_a_long_text_keeps_both_ends() -> None:
    assert clip("a" * 50 + "middle" + "z" * 50, 10) == "aaaaa … zzzzz"


@given(st.text())
def test_what_is_shown_is_printable_and_bounded(text: str) -> None:
    shown = clip(text, 20)
    assert shown.isprintable()
    assert len(shown) <= 10 * (20 + 3)
