"""How long the gate takes for an unchanged case, beyond compiling it once.

Run ``python -m benchmarks.gate_seconds`` on a machine with nothing else to do. It records a baseline for each of three
models in a project of its own, then runs pytest on each of them several times, and in the end on all of them together:
with ``--nnopt-only=compile``, which compiles and looks, and with ``--nnopt-baseline``. The difference of the two is
what the gate costs beyond its compile.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ("small", "medium", "large")
TESTS = """
import pytest
import torch
from benchmarks.slow_models import CPU_MODELS, GPU_MODELS

MODELS = GPU_MODELS if torch.cuda.is_available() else CPU_MODELS


@pytest.mark.parametrize("name", MODELS)
def test_model(name, model_pair):
    torch.manual_seed(0)
    model, x = MODELS[name]()
    model_pair(model, x)
"""


def make_project(folder: Path, processes: int = 10) -> Path:
    """Write a project with a test of each model, whose baselines hold so many processes, and return its folder."""
    (folder / "test_models.py").write_text(TESTS, encoding="utf-8")
    (folder / "pyproject.toml").write_text(f"[tool.nnopt]\nprocesses = {processes}\n", encoding="utf-8")
    return folder


def run(folder: Path, names: Sequence[str], *options: str) -> tuple[float, list[dict[str, Any]], str]:
    """Run pytest on some models and return the seconds it took, their cases in the results, and what it printed."""
    results = folder / "results.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *options,
        f"--nnopt-json={results}",
        *(f"test_models.py::test_model[{name}]" for name in names),
    ]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1) or not results.exists():
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return seconds, json.loads(results.read_text(encoding="utf-8"))["cases"], done.stdout


def measure(
    folder: Path, models: Sequence[str], rounds: int, device: Sequence[str], *, is_recorded: bool = False
) -> tuple[str, list[str]]:
    """Return the row of one model, or of several in one run, and what the gates said where they did not pass one.

    Of several models the seconds are those of one case on average.
    """
    recording = "" if is_recorded else f"{run(folder, models, '--nnopt-update', *device)[0] / len(models):.0f}"
    compiles = [run(folder, models, "--nnopt-only=compile", *device)[0] for _ in range(rounds)]
    gates = [run(folder, models, "--nnopt-baseline", *device) for _ in range(rounds)]
    compiling = statistics.median(compiles)
    beyond = statistics.median(seconds for seconds, _, _ in gates) - compiling
    cases = [case for _, found, _ in gates for case in found]
    processes = statistics.median(len(case["timing"]) for case in cases)
    outcomes = ", ".join(case["outcome"] for case in cases)
    name = models[0] if len(models) == 1 else f"{len(models)} in one run, each"
    figures = f"{compiling / len(models):.1f} | {beyond / len(models):.1f} | {processes:g} | {recording}"
    unsettled = [
        f"- {case['id']}, {check['name']} {check['outcome']}: {check['reason']}"
        for case in cases
        for check in case["checks"]
        if check["outcome"] not in ("passed", "improved")
    ]
    return f"| {name} | {figures} | {outcomes} |", unsettled


def format_page(rows: Sequence[str], unsettled: Sequence[str], rounds: int) -> str:
    """Return the page in Markdown."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    lines = [
        "# What a gate costs beyond compiling",
        "",
        f"Made by `{' '.join(['python -m benchmarks.gate_seconds', *sys.argv[1:]])}` on {date.today()}: Python "
        f"{platform.python_version()}, torch {torch.__version__}, {gpu or f'{len(os.sched_getaffinity(0))} cores'}. "
        f"Medians of {rounds} runs of pytest with unchanged cases; the first column is the whole run with "
        f"`--nnopt-only=compile`, imports included; torch's bytecode is {'' if _has_bytecode() else 'not '}cached.",
        "",
        "| model | compile and look, s | gate beyond that, s | processes | recording a baseline, s | outcomes |",
        "|---|---|---|---|---|---|",
        *rows,
        *(["", "Where a gate did not pass an unchanged model:", "", *unsettled] if unsettled else []),
    ]
    return "\n".join(lines) + "\n"


def _has_bytecode() -> bool:
    """Whether Python finds torch compiled: where it does not, each process compiles what it imports."""
    return Path(importlib.util.cache_from_source(torch.__file__)).exists()


def main() -> None:
    """Record, run, print and write; the page is whole after each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", choices=MODELS, action="append", help="default: all")
    parser.add_argument("--together", action="store_true", help="all in one run alone, not each in its own first")
    parser.add_argument("--processes", type=int, default=10, help="that a baseline holds")
    parser.add_argument("--timeline", action="store_true", help="also print what a further run does, and when")
    parser.add_argument("--name", default="gate_seconds", help="of the page")
    arguments = parser.parse_args()
    device = ["--nnopt-device=cuda"] if torch.cuda.is_available() else []
    rows: list[str] = []
    unsettled: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = make_project(Path(name), arguments.processes)
        models = arguments.model or list(MODELS)
        alone = [] if arguments.together else [[model] for model in models]
        for chosen in [*alone, *([models] if len(models) > 1 or not alone else [])]:
            is_recorded = len(chosen) > 1 and bool(alone)
            row, said = measure(folder, chosen, arguments.rounds, device, is_recorded=is_recorded)
            rows, unsettled = [*rows, row], [*unsettled, *said]
            print(row, *said, sep="\n", flush=True)
            page = format_page(rows, unsettled, arguments.rounds)
            (RESULTS / f"{arguments.name}.md").write_text(page, encoding="utf-8")
            if arguments.timeline:
                print(run(folder, chosen, "-p", "benchmarks.timeline", "--nnopt-baseline", *device)[2])


if __name__ == "__main__":
    main()
