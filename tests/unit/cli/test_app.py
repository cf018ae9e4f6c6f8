from __future__ import annotations

from typing import TYPE_CHECKING

from typer.main import get_command

from pytest_nnopt.cli.app import app

if TYPE_CHECKING:
    import pytest
    from conftest import Nnopt  # type: ignore[import-not-found]

SUBCOMMANDS = get_command(app).commands  # type: ignore[attr-defined]  # it is a group


def test_every_subcommand_speaks_to_programs() -> None:
    assert {"show", "compare", "history", "accept", "import", "prune", "report", "doctor", "config"} <= set(SUBCOMMANDS)
    for name, command in SUBCOMMANDS.items():
        assert "--json" in [flag for parameter in command.params for flag in parameter.opts], name


def test_a_shell_learns_subcommands_and_options(nnopt: Nnopt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_NNOPT_COMPLETE", "complete_bash")
    for words, index, wanted in (("nnopt h", 1, "history"), ("nnopt history --pl", 2, "--plot")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(index))
        assert wanted in nnopt().out.split()


def test_help_is_whole(nnopt: Nnopt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in SUBCOMMANDS:
        text = nnopt(name, "--help").out
        assert "what  says" not in text
        assert text.count("[tool.nnopt]") == (1 if "[tool.nnopt]" in (SUBCOMMANDS[name].help or "") else 0), name
