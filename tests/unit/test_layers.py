"""What the import linter cannot see: which modules are really loaded at run time."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "scipy", "pydantic", "rich", "typer", "jinja2", "matplotlib")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["pytest_nnopt", "pytest_nnopt.plugin"])
def test_loading_the_plugin_loads_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(HEAVY)


@pytest.mark.parametrize(
    "module",
    ["verdict", "results", "report.terminal", "baseline.store", "cli.accept", "cli.history", "numerics.compare"],
)
def test_rows_below_the_session_run_without_torch_and_pytest(module: str) -> None:
    assert not loaded_by(f"import pytest_nnopt.{module}") & {"torch", "pytest"}


def test_what_draws_a_page_is_loaded_only_where_one_is_drawn() -> None:
    assert "matplotlib" not in loaded_by("import pytest_nnopt.cli, pytest_nnopt.session.collector")
