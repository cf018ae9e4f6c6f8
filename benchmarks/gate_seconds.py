"""How long the gate takes for an unchanged case, beyond compiling it once.

Run ``python -m benchmarks.gate_seconds`` on a machine with nothing else to do. It records baselines of three models
in a project of its own, then runs pytest on each of them several times, and in the end on all of them together: with
``--nnopt-only=compile``, which compiles and looks, and with ``--nnopt-baseline``. The difference of the two is what the
gate costs beyond its compile.
"""

from __future__ import annotations

import argparse
import contextlib
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
from typing import Any, NamedTuple

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


class Run(NamedTuple):
    """A run of pytest: how long it took, its cases in the results, and what it printed."""

    seconds: float
    cases: list[dict[str, Any]]
    output: str


def make_project(folder: Path, processes: int = 10) -> Path:
    """Write a project with a test of each model, whose baselines hold so many processes, and return its folder."""
    (folder / "test_models.py").write_text(TESTS, encoding="utf-8")
    settings = f"[tool.pytest.ini_options]\n\n[tool.nnopt]\nprocesses = {processes}\n"
    (folder / "pyproject.toml").write_text(settings, encoding="utf-8")
    return folder


def run(folder: Path, names: Sequence[str], *options: str, checkout: Path = ROOT) -> Run:
    """Run pytest with options on some models, with the plugin of a checkout.

    The results stay in the project's folder, numbered by run.
    """
    results = folder / f"results_{len(list(folder.glob('results_*.json'))) + 1}.json"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *options,
        f"--nnopt-json={results}",
        *(f"test_models.py::test_model[{name}]" for name in names),
    ]
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1) or not results.exists():
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    cases = json.loads(results.read_text(encoding="utf-8"))["cases"]
    taken = [len(case["timing"]) for case in cases]
    print(f"{seconds:.1f} s by {checkout}, processes {taken}: {' '.join(options)}", file=sys.stderr, flush=True)
    return Run(seconds, cases, done.stdout)


def measure(
    folder: Path, models: Sequence[str], rounds: int, device: Sequence[str], checkouts: Sequence[Path] = (ROOT,)
) -> tuple[list[str], list[str]]:
    """Return the rows of one model, or of several in one run, and what the gates said where they did not pass one.

    Of several models the seconds are those of one case on average. There is a row for each checkout; their gates take
    turns, each round in the other order, and what compiling takes, by this checkout, is subtracted from all.
    """
    compiling = statistics.median(run(folder, models, "--nnopt-only=compile", *device).seconds for _ in range(rounds))
    gates: list[list[Run]] = [[] for _ in checkouts]
    for number in range(rounds):
        turns = list(zip(checkouts, gates, strict=True))
        for checkout, done in turns[::-1] if number % 2 else turns:
            done.append(run(folder, models, "--nnopt-baseline", *device, checkout=checkout))
    rows = [_format_row(models, compiling, *side) for side in zip(gates, checkouts, strict=True)]
    sides = zip(gates, checkouts, strict=True)
    return rows, [line + _by(checkout) for done, checkout in sides for line in _find_unsettled(done)]


def _format_row(models: Sequence[str], compiling: float, gates: Sequence[Run], checkout: Path) -> str:
    beyond = ", ".join(f"{(gate.seconds - compiling) / len(models):.1f}" for gate in gates)
    cases = [case for gate in gates for case in gate.cases]
    processes = ", ".join(str(len(case["timing"])) for case in cases)
    outcomes = ", ".join(case["outcome"] for case in cases)
    name = models[0] if len(models) == 1 else f"{len(models)} in one run, each"
    return f"| {name}{_by(checkout)} | {compiling / len(models):.1f} | {beyond} | {processes} | {outcomes} |"


def _by(checkout: Path) -> str:
    """Name a checkout that is not this one."""
    return "" if checkout == ROOT else f", by {checkout.name}"


def _find_unsettled(gates: Sequence[Run]) -> list[str]:
    return [
        f"- {case['id']}, {check['name']} {check['outcome']}: {check['reason']}"
        for gate in gates
        for case in gate.cases
        for check in case["checks"]
        if check["outcome"] not in ("passed", "improved")
    ]


def format_page(rows: Sequence[str], unsettled: Sequence[str], recorded: str) -> str:
    """Return the page in Markdown, which says when the baselines were recorded."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    lines = [
        "# What a gate costs beyond compiling",
        "",
        f"Made by `{' '.join(['python -m benchmarks.gate_seconds', *sys.argv[1:]])}` on {date.today()}: Python "
        f"{platform.python_version()}, torch {torch.__version__}, {gpu or f'{len(os.sched_getaffinity(0))} cores'}. "
        f"Runs of pytest with unchanged cases, the baselines of all {recorded}. The first column is the whole run "
        "with `--nnopt-only=compile`, imports included, as median; the others hold each run of the gate; torch's "
        "bytecode is "
        f"{'' if _has_bytecode() else 'not '}cached.",
        "",
        "| model | compile and look, s | gate beyond that, s | processes | outcomes |",
        "|---|---|---|---|---|",
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
    parser.add_argument(
        "--beside",
        type=Path,
        default=[],
        action="append",
        help="another checkout, whose gates take turns with this one's",
    )
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--keep", type=Path, help="a new folder where the project stays, with what every run measured")
    kept.add_argument("--again", type=Path, help="a kept folder, whose baselines serve instead of new ones")
    parser.add_argument("--name", default="gate_seconds", help="of the page")
    arguments = parser.parse_args()
    device = ["--nnopt-device=cuda"] if torch.cuda.is_available() else []
    rows: list[str] = []
    unsettled: list[str] = []
    with contextlib.ExitStack() as stack:
        if arguments.keep:
            folder = arguments.keep.resolve()
            folder.mkdir(parents=True)
        else:
            folder = (arguments.again or Path(stack.enter_context(tempfile.TemporaryDirectory()))).resolve()
        checkouts = [ROOT, *map(Path.resolve, arguments.beside)]
        models = arguments.model or list(MODELS)
        recorded = "recorded before"
        if not arguments.again:
            make_project(folder, arguments.processes)
            seconds = run(folder, models, "--nnopt-update", *device).seconds / len(models)
            recorded = f"recorded in one run before, in {seconds:.0f} s a case"
        alone = [] if arguments.together else [[model] for model in models]
        for chosen in [*alone, *([models] if len(models) > 1 or not alone else [])]:
            added, said = measure(folder, chosen, arguments.rounds, device, checkouts)
            rows, unsettled = [*rows, *added], [*unsettled, *said]
            print(*added, *said, sep="\n", flush=True)
            page = format_page(rows, unsettled, recorded)
            (RESULTS / f"{arguments.name}.md").write_text(page, encoding="utf-8")
            if arguments.timeline:
                print(run(folder, chosen, "-p", "benchmarks.timeline", "--nnopt-baseline", *device).output)


if __name__ == "__main__":
    main()
