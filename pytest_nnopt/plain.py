"""Text that may be anybody's, made fit for a terminal and a CI server's log: nothing in it steers either of them."""

from __future__ import annotations

import re

_AT_THE_START = re.compile(r"^(\s*):(?=:)")
"""``::error::`` and the like: GitHub obeys a line of a log that begins so, blanks before it or not."""

_ANYWHERE = "##["
"""``##[error]`` and the like: an older form, which GitHub and Azure obey in the middle of a line, too."""


def spell_out(text: str) -> str:
    """Write out what is not printable: control characters, and marks that are invisible or turn the direction."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def plain_line(text: str) -> str:
    """Return a text as one line that shows what is in it and commands nothing."""
    spelled = spell_out(text).replace(_ANYWHERE, r"#\x23[")
    return _AT_THE_START.sub(r"\1\\x3a", spelled)


def plain_text(text: str) -> str:
    """Return a text of several lines, each of them plain; a line ends at a line feed alone."""
    return "\n".join(map(plain_line, text.split("\n")))
