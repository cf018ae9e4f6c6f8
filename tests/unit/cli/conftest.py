"""The command as a user calls it, in a directory of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.cli import main

Nnopt = Callable[..., "Said"]


@dataclass(frozen=True)
class Said:
    """What a call of the command came to."""

    status: object
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def nnopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nnopt:
    """Return a function that calls the command in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["nnopt", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capsys.readouterr()
        return Said(caught.value.code, output.out, output.err)

    return call
