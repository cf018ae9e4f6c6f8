"""Text from a results file made fit to be shown: of bounded length, and nothing in it invisible."""

from __future__ import annotations

_LONGEST = 600


def clip(text: str, longest: int = _LONGEST) -> str:
    """Cut a text in its middle where it is too long, and write out what is not printable.

    A control character could end a line early, and one that turns the direction of writing could make a text read as
    another.
    """
    if len(text) > longest:
        head = longest // 2
        text = f"{text[:head]} … {text[len(text) - (longest - head) :]}"
    return "".join(character if character.isprintable() else _written_out(character) for character in text)


def _written_out(character: str) -> str:
    return " " if character in "\n\t\r" else f"\\u{ord(character):04x}"
