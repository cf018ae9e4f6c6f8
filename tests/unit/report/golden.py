"""Texts that reports are compared with whole."""

from __future__ import annotations

from pathlib import Path

_DIRECTORY = Path(__file__).parent / "golden"


def golden(name: str) -> str:
    """Return the text that is expected under this name."""
    return (_DIRECTORY / name).read_text(encoding="utf-8")
