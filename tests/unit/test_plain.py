from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_nnopt.errors import NnoptError
from pytest_nnopt.plain import plain_line, plain_text, spell_out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tests/test_a.py::test[größe <b>]", "tests/test_a.py::test[größe <b>]"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("abc\u202edef\u200b", "abc\\u202edef\\u200b"),
        ("two\nlines\r\u2028", "two\\nlines\\r\\u2028"),
        ("\ud800", "\\ud800"),
        ("::error::no", "\\x3a:error::no"),
        ("  ::error file=x::no", "  \\x3a:error file=x::no"),
        ("\t::error::no", "\\t::error::no"),
        (":no", ":no"),
        ("see ##[error]no", "see #\\x23[error]no"),
    ],
)
def test_a_line_shows_what_is_in_it_and_commands_nothing(text: str, shown: str) -> None:
    assert plain_line(text) == shown


def test_each_line_of_a_text_is_plain() -> None:
    assert plain_text("worker said:\n::add-mask::x\n\n  all\r::x") == "worker said:\n\\x3a:add-mask::x\n\n  all\\r::x"


def test_an_error_is_plain_whatever_it_names() -> None:
    assert str(NnoptError("cannot read \x1b[2J.json:\n::error::no")) == "cannot read \\x1b[2J.json:\n\\x3a:error::no"


@given(st.text() | st.text(":#[ \u00a0\n\r\x1b\u202eerror"))
@example(":::error::")
@example("\u00a0::error::")
@example("####[[")
def test_no_text_is_a_command_or_invisible(text: str) -> None:
    assert spell_out(text).isprintable()
    for line in plain_text(text).split("\n"):
        assert line.isprintable()
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
    assert not re.search("[\n\r\x1b]", plain_line(text))
