"""What the pages say works: their code is run, their options exist, their plots are current."""

from __future__ import annotations

import ast
import importlib.metadata
import linecache
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.main import get_command

from pytest_nnopt.cli.app import app
from pytest_nnopt.config import load_settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "examples" / "README.md"]
QUICKLY = ("--nnopt-only=compile,numerics", "-Wignore")
CHEAP = '[tool.nnopt.compile]\nbackend = "aot_eager"\n'
"""Compiles without a C++ compiler; where a page's test says more of a backend, that holds."""

RUN = {
    "candidates.md": 2,
    "gpu-runner.md": 1,
    "index.md": 1,
    "pytest-benchmark.md": 1,
    "reference.md": 1,
    "training-step.md": 2,
    "transformers.md": 2,
}
"""Pages whose Python is a test file, and how many tests it holds."""


def blocks(page: Path, language: str) -> list[str]:
    """Return the code of a page in one language."""
    found = re.findall(rf"^ *```{language}\b[^\n]*\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [str(block) for block in found]


def code(name: str) -> str:
    return "\n".join(blocks(DOCS / name, "python"))


def test_the_statistics_can_be_read_in_one_go() -> None:
    words = (DOCS / "statistics.md").read_text("utf-8").split()

    assert len(words) <= 1550, "two pages with a table: more belongs to statistics-rule.md and statistics-figures.md"


@pytest.mark.parametrize(("name", "count"), RUN.items())
def test_the_tests_of_a_page_pass(name: str, count: int, project: Project) -> None:
    project.pytester.makepyprojecttoml(CHEAP)
    project.write_tests(code(name).replace('mode="max-autotune"', ""), prelude="")
    project.run(*QUICKLY).assert_outcomes(passed=count)


def test_a_quantised_model_needs_its_tolerance(project: Project) -> None:
    project.write_tests(re.sub(r"@pytest\.mark\.nnopt_tolerance.*\n", "", code("candidates.md")), prelude="")
    project.run(*QUICKLY).assert_outcomes(passed=1, failed=1)


@pytest.mark.usefixtures("project")  # compilation is at home there
def test_the_python_of_the_library_runs() -> None:
    values: dict[str, Any] = {}
    exec(code("api.md"), values)
    assert values["result"].mode_used == "backend='aot_eager'"


def test_the_tutorial_goes_as_it_says(project: Project) -> None:
    page = DOCS / "tutorial.md"
    model, first, gated = blocks(page, "python")[:3]
    write = project.pytester.makepyfile
    project.pytester.makepyprojecttoml(CHEAP)
    write(net=model, test_net=first)
    project.run(*QUICKLY).assert_outcomes(passed=1)
    write(test_net=gated)
    project.run(*QUICKLY, "--nnopt-update").assert_outcomes(passed=1)
    project.run(*QUICKLY, "--nnopt-baseline").assert_outcomes(passed=1)
    (line,) = [line for line in blocks(page, "python")[3].splitlines() if "print(" in line]
    write(net=model.replace("        return", f"{line}\n        return"))
    linecache.clearcache()  # messages quote the code, and this process has seen another
    result = project.run(*QUICKLY, "--nnopt-baseline")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 graph break*the limit is 0*", f"*{line.strip()}*"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_can_be_read(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(textwrap.dedent(block) + ("def test(): ..." if block.startswith("@") and "def " not in block else ""))
    for block in blocks(page, "toml"):
        load_settings(tomllib.loads(block)["tool"]["nnopt"], {})
    inputs = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))["inputs"]
    for block in blocks(page, "yaml"):
        for step in re.findall(r"uses: your-organisation/pytest-nnopt.*?\n((?:\s+.*\n)*)", block):
            assert set(re.findall(r"^ +([a-z-]+):", step, re.MULTILINE)) <= {"with", *inputs}


def test_every_option_and_subcommand_exists(project: Project) -> None:
    texts = [page.read_text("utf-8") for page in PAGES]
    options = project.run("--help").stdout.str()
    known = get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    for text in texts:
        missing = {word for word in re.findall(r"--nnopt-[a-z-]+[a-z]", text) if word not in options}
        assert missing <= {"--nnopt-worker"}, missing  # hidden: for the plugin's own processes
        for line in re.findall(r"(?:^\$ |`)nnopt ([a-z]+[^`\n#]*)", text, re.MULTILINE):
            name, *words = line.split()
            assert name in known, line
            flags = {flag for parameter in known[name].params for flag in parameter.opts} | {"--help"}
            given = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
            assert given <= flags, line


def test_every_option_is_in_the_reference(project: Project) -> None:
    reference = (DOCS / "reference.md").read_text("utf-8")
    options = set(re.findall(r"^  (--nnopt-[a-z-]+)", project.run("--help").stdout.str(), re.MULTILINE))
    assert len(options) > 20
    assert {option for option in options if f"`{option}" not in reference} == set()


def test_the_page_of_the_command_is_current(tmp_path: Path) -> None:
    page = tmp_path / "command.md"
    command = ["typer", "pytest_nnopt.cli.app", "utils", "docs", "--name", "nnopt", "--title", "The command nnopt"]
    subprocess.run(
        [sys.executable, "-m", *command, "--output", str(page)], cwd=ROOT, check=True, capture_output=True, timeout=60
    )
    told = f"make it anew: {' '.join(command)} --output docs/command.md"
    assert (DOCS / "command.md").read_text("utf-8") == page.read_text("utf-8"), told


def test_the_plots_are_drawn_from_the_tables_beside_them() -> None:
    pinned = re.findall(r"^matplotlib==(\S+); python_version >=", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    if importlib.metadata.version("matplotlib") not in pinned:
        pytest.skip("another version of matplotlib draws otherwise")
    names = ("rules", "noise", "baseline")
    program = f"import plots\nfor name in {names}: print(repr(plots.draw(name)))"
    drawn = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{DOCS / 'images'}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    for name, text in zip(names, map(ast.literal_eval, drawn), strict=True):
        told = f"draw it anew: python docs/images/plots.py {name}"
        assert (DOCS / "images" / "statistics" / f"{name}.svg").read_text("utf-8") == text, told
