"""Whether a process that loads compiled code on a GPU times like one that compiled it: fresh processes of both kinds.

Run ``python -m benchmarks.reused_code`` on a machine with a GPU and nothing else to do. Processes come in pairs: the
first compiles anew, and the second loads what the first one compiled, so that both have the same kernels.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.gate_seconds import MODELS, RESULTS, make_project
from pytest_nnopt.session.crew import Crew
from pytest_nnopt.session.processes import Launch, MeasuringProcess
from pytest_nnopt.torch_backend.facts import current_environment
from pytest_nnopt.torch_backend.threads import thread_count

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord

FIGURES: Mapping[str, Callable[[ProcessRecord], float]] = {
    "latency": lambda record: record.seconds["candidate"],
    "latency over eager's": lambda record: math.exp(record.candidate_to_reference.log_ratio),
    "device time": lambda record: record.device_seconds or math.nan,
}


def places(stack: ExitStack) -> Iterator[Path]:
    """Yield where each process keeps compiled code: each new directory twice."""
    while True:
        new = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield new
        yield new


def measure(folder: Path, model: str, pairs: int) -> tuple[list[ProcessRecord], list[ProcessRecord]]:
    """Return what processes measured that compiled, and as many that reused code."""
    test_id = f"test_models.py::test_model[{model}]"
    launch = Launch(("-q", "-p", "no:cacheprovider", "--nnopt-device=cuda", f"--rootdir={folder}"), folder)
    with ExitStack() as stack, thread_count(None):
        environment = current_environment(torch.device("cuda"))
        where = partial(next, places(stack))
        start = partial(MeasuringProcess, launch, test_id)
        with Crew(start, test_id, where, environment, at_once=1, ahead=1) as crew:
            taken = [crew.sample(number, expected=2 * pairs - number) for number in range(2 * pairs)]
    return taken[::2], taken[1::2]


def compare(anew: Sequence[float], reused: Sequence[float]) -> str:
    """Return the cells of a row: both spreads, and the paired difference with its standard error, in percent."""
    logs = [[100 * math.log(value) for value in side] for side in (anew, reused)]
    differences = [second - first for first, second in zip(*logs, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    spreads = " | ".join(f"{statistics.stdev(side):.2f}" for side in logs)
    return f"{spreads} | {statistics.mean(differences):+.2f} ± {error:.2f}"


def main() -> None:
    """Measure, print and write; the page is whole after each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8, help="processes of each kind and model")
    parser.add_argument("--model", choices=MODELS, action="append", help="default: all")
    arguments = parser.parse_args()
    lines = [
        "# Compiled code reused on a GPU",
        "",
        f"Made by `{' '.join(['python -m benchmarks.reused_code', *sys.argv[1:]])}` on {date.today()}: Python "
        f"{platform.python_version()}, torch {torch.__version__}, {torch.cuda.get_device_name()}. {arguments.pairs} "
        "fresh processes of each kind and model; spreads and differences in percent, differences with their standard "
        "error.",
        "",
        "| model | figure | spread, compiled anew | spread, reused | reused against anew |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = make_project(Path(name))
        for model in arguments.model or MODELS:
            anew, reused = measure(folder, model, arguments.pairs)
            for figure, read in FIGURES.items():
                cells = compare([read(one) for one in anew], [read(one) for one in reused])
                lines.append(f"| {model} | {figure} | {cells} |")
                print(lines[-1], flush=True)
            (RESULTS / "reused_code_gpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
