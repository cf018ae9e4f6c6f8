"""The workflows in ``examples/ci`` and the action are what their readers accept, and pass words on unharmed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "examples" / "ci" / "github").glob("*.yml"))
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]
HERE, THERE = "./", "your-organisation/pytest-nnopt@v0"


def actionlint(folder: Path, *texts: str) -> subprocess.CompletedProcess[str]:
    """Check workflows in a repository whose root holds the action, so that its inputs are checked, too."""
    if shutil.which("actionlint") is None:
        pytest.skip("needs actionlint")
    workflows = folder / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (folder / ".git").mkdir()
    shutil.copy(ROOT / "action.yml", folder)
    shutil.copy(ROOT / "examples" / "ci" / "github" / "actionlint.yaml", folder / ".github")
    for index, text in enumerate(texts):
        (workflows / f"{index}.yml").write_text(text.replace(THERE, HERE), encoding="utf-8")
    return subprocess.run(["actionlint", "-no-color"], cwd=folder, capture_output=True, text=True, check=False)


def test_actionlint_accepts_every_workflow(tmp_path: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS]
    assert sum(THERE in text for text in texts) == 3
    result = actionlint(tmp_path, *texts)
    assert result.returncode == 0, result.stdout


def test_actionlint_accepts_the_steps_of_the_action(tmp_path: Path) -> None:
    steps = [{key: value for key, value in step.items() if "inputs." not in str(value)} for step in STEPS]
    workflow = {"on": "push", "jobs": {"a": {"runs-on": "ubuntu-latest", "steps": [s for s in steps if len(s) > 1]}}}
    result = actionlint(tmp_path, json.dumps(workflow))
    assert result.returncode == 0, result.stdout


def test_actionlint_knows_the_inputs_of_the_action(tmp_path: Path) -> None:
    text = next(path.read_text(encoding="utf-8") for path in WORKFLOWS if "against" in path.name)
    result = actionlint(tmp_path, text.replace("arguments:", "argument:"))
    assert result.returncode == 1
    assert 'input "argument" is not defined' in result.stdout


def test_no_script_contains_an_expression_that_somebody_else_may_write() -> None:
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            scripts = [str(step.get("run", step.get("with", {}).get("script", ""))) for step in job["steps"]]
            assert not any("${{" in script for script in scripts), path
    assert not any("${{" in step.get("run", "") for step in STEPS)


def test_the_gate_of_the_action_passes_quoted_words_on_and_keeps_the_results(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    python.chmod(0o755)
    (gate,) = [step for step in STEPS if step.get("name") == "Run the gate"]
    environment = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "ARGUMENTS": "tests -k 'a or b' --nnopt-baseline $(touch no) ;",
        "RESULTS": "/results",
    }
    words = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", gate["run"]],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert words == [
        *("-m", "pytest", "tests", "-k", "a or b", "--nnopt-baseline", "$(touch", "no)", ";"),
        *("--junit-xml=/results/junit.xml", "--nnopt-json=/results/results.json"),
        *("--nnopt-markdown=/results/summary.md", "--nnopt-html=/results/report.html"),
    ]
    assert not (tmp_path / "no").exists()


def test_gitlab_keeps_what_the_run_writes() -> None:
    job = yaml.safe_load((ROOT / "examples" / "ci" / "gitlab-ci.yml").read_text(encoding="utf-8"))["nnopt"]
    reports = job["artifacts"]["reports"]
    command = job["script"][-1]
    assert f"--junit-xml={reports['junit']}" in command
    assert f"--nnopt-openmetrics={reports['metrics']}" in command
