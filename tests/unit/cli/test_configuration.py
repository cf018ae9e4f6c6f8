from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

PYPROJECT = """
[tool.nnopt]
budget = "2min"
effect = "7%"
profile_file = "profiles.yaml"

[tool.nnopt.compile]
profile = "usual"
fullgraph = true

[tool.nnopt.profiles.usual]
dynamic = false
"""


def sources(nnopt: Nnopt, *arguments: str) -> dict[str, tuple[object, str]]:
    rows = nnopt("config", "--json", *arguments).json()
    return {row["name"]: (row["value"], row["source"]) for row in rows}


def test_every_setting_says_where_it_came_from(nnopt: Nnopt) -> None:
    Path("pyproject.toml").write_text(PYPROJECT)
    Path("profiles.yaml").write_text("serving: {mode: max-autotune, fullgraph: false}\n")
    plain = sources(nnopt)
    assert plain["budget"] == (120.0, "pyproject.toml")
    assert plain["processes"] == (10, "built-in")
    assert plain["compile.dynamic"] == (False, "profile usual")
    assert plain["compile.fullgraph"] == (True, "pyproject.toml")
    assert plain["compile.mode"] == (None, "built-in")
    assert plain["limits.latency"] == (0.07, "pyproject.toml, effect")
    assert plain["limits.memory"] == (0.02, "built-in")
    assert plain["profiles"] == (
        {"usual": {"dynamic": False}, "serving": {"mode": "max-autotune", "fullgraph": False}},
        "pyproject.toml",
    )
    serving = sources(nnopt, "--profile=serving")
    assert serving["compile.mode"] == ("max-autotune", "profile serving")
    assert serving["compile.fullgraph"] == (False, "profile serving")
    assert serving["compile.dynamic"] == (False, "profile usual")


def test_it_is_laid_out_for_people(nnopt: Nnopt) -> None:
    Path("pyproject.toml").write_text("[tool.nnopt]\nonly = ['compile', 'numerics']\n")
    rows = {line.split()[0]: line.split()[1:] for line in nnopt("config").out.splitlines()}
    assert rows["only"] == ["compile,", "numerics", "pyproject.toml"]
    assert rows["device"] == ["-", "built-in"]


def test_the_root_can_be_named(nnopt: Nnopt) -> None:
    Path("project").mkdir()
    Path("project/pyproject.toml").write_text("[tool.nnopt]\nprocesses = 3\n")
    assert sources(nnopt, "--root=project")["processes"] == (3, "pyproject.toml")


def test_a_wrong_configuration_is_a_usage_error(nnopt: Nnopt) -> None:
    Path("pyproject.toml").write_text("[tool.nnopt]\nbugdet = 3\n")
    said = nnopt("config")
    assert said.status == 4
    assert said.err.startswith("nnopt: [tool.nnopt]: unknown argument 'bugdet'; known: baseline_dir, ")
    Path("pyproject.toml").unlink()
    assert "unknown profile 'serving'; known: none" in nnopt("config", "--profile=serving").err


def test_the_page_about_every_setting_is_current(nnopt: Nnopt) -> None:
    page = Path(__file__).parents[3] / "docs/configuration.md"
    text = nnopt("config", "--markdown").out
    assert page.read_text(encoding="utf-8") == text, "make it anew: nnopt config --markdown > docs/configuration.md"
    assert "None |" not in text
