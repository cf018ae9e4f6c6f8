"""How much one model's times differ between processes that run identical code, and the C allocator's part in it.

Run ``python -m benchmarks.process_noise`` on a machine with nothing else to do; it writes
``benchmarks/results/process_noise.md``.

Every round starts one process for each way of measuring, in random order. A process measures every model with the
gate's own engine. The ways differ in what the process did before and in what its allocator does with freed memory.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from enum import Enum
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.slow_models import convolutions, feed_forward
from pytest_nnopt.measurement.allocator import keep_freed_memory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.model import Variant
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_copy, copy_side
from pytest_nnopt.torch_backend.isolation import isolated_compilation, probe_instruction_sets
from pytest_nnopt.torch_backend.layout import place_copies
from pytest_nnopt.torch_backend.pair import PairRequest, build_side
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.torch_backend.timing import time_sides
from pytest_nnopt.units import format_percent, format_seconds

COPIES = 4
RESULT = Path(__file__).parent / "results" / "process_noise.md"

Figures = dict[str, dict[str, float]]
"""By model: log-ratio of candidate to reference and to yardstick, and seconds per call of both sides."""


class Way(str, Enum):
    """What a measuring process does before it measures."""

    COMPILES = "compiles the models itself"
    FRESH = "fresh, compiled code from the cache"
    KEEPS = "fresh, and keeps freed memory"
    COPIES = "the same, with copies at four places in memory"


class Pointwise(nn.Module):
    """Maps ``(rows, columns)`` to ``(rows,)``: nothing but memory traffic and arithmetic on single elements."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a sum over each row."""
        return (torch.sin(x) * x + torch.cos(x)).sum(-1)


def models() -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    """Yield the models with an input of each."""
    torch.manual_seed(0)
    yield "convolutions", convolutions().eval(), torch.randn(8, 3, 64, 64)
    yield "feed-forward", feed_forward(512, 6).eval(), torch.randn(64, 512)
    yield "pointwise", Pointwise(), torch.randn(512, 1024)
    yield "two small layers", feed_forward(64, 2).eval(), torch.randn(8, 64)


def _pair_of(eager: Side) -> tuple[Side, Side]:
    return copy_side(eager), compile_copy(eager, CompileStep())


def measure_here(way: Way, cache_dir: Path, seed: int) -> Figures:
    """Measure every model in this process."""
    probe_instruction_sets()
    if way in (Way.KEEPS, Way.COPIES):
        keep_freed_memory()
    figures = {}
    for name, model, x in models():
        mode = ExecutionMode.capture(is_training_step=False)
        with thread_count(None), torch.no_grad():
            reference = build_side(PairRequest(model, (x,), {}, mode=mode), device=None)
            own_cache = None if way is Way.COMPILES else cache_dir / name.replace(" ", "-")
            with isolated_compilation(cache_dir=own_cache):
                count = COPIES if way is Way.COPIES else 1
                placed = place_copies(
                    partial(_pair_of, reference),
                    count,
                    device=torch.device("cpu"),
                    random=random.Random(seed),
                )
                references, candidates = zip(*placed.copies, strict=True)
                timed = time_sides(references, candidates, torch.device("cpu"), Plan(seed=seed), limit=0.0)
                sample = timed.sample
        candidate, eager, yardstick = (sample.seconds(variant) for variant in VARIANTS)
        figures[name] = {
            "ratio": statistics.fmean(math.log(a / b) for a, b in zip(candidate, eager, strict=True)),
            "absolute": statistics.fmean(math.log(a / b) for a, b in zip(candidate, yardstick, strict=True)),
            "candidate": statistics.median(candidate),
            "eager": statistics.median(eager),
        }
    return figures


VARIANTS = (Variant.CANDIDATE, Variant.REFERENCE, Variant.YARDSTICK)


def measure_apart(way: Way, cache_dir: Path, seed: int) -> Figures:
    """Measure every model in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.process_noise", "--child", way.name, str(cache_dir), str(seed)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: Figures = json.loads(output.splitlines()[-1])
    return figures


def spread(values: list[float]) -> str:
    """Return the standard deviation of logarithms as a percentage."""
    return format_percent(statistics.stdev(values))


def format_rows(found: dict[tuple[Way, str], list[dict[str, float]]]) -> Iterator[str]:
    """Yield the rows of the table."""
    for (way, name), processes in sorted(found.items(), key=lambda item: (item[0][1], list(Way).index(item[0][0]))):
        ratios = [process["ratio"] for process in processes]
        speedup = math.exp(-statistics.fmean(ratios))
        range_ = f"{math.exp(-max(ratios)):.2f} to {math.exp(-min(ratios)):.2f}"
        yield (
            f"| {name} | {way.value} | {speedup:.2f}x | {range_} | {spread(ratios)} | "
            f"{spread([process['absolute'] for process in processes])} | "
            f"{format_seconds(statistics.median(process['eager'] for process in processes))} | "
            f"{format_seconds(statistics.median(process['candidate'] for process in processes))} |"
        )


def format_report(found: dict[tuple[Way, str], list[dict[str, float]]], rounds: int) -> str:
    """Return the whole page in Markdown."""
    lines = [
        "# Noise between processes, and the C allocator",
        "",
        f"Made by `python -m benchmarks.process_noise --rounds {rounds}` on {date.today()}: "
        f"Python {platform.python_version()}, torch {torch.__version__}, {rounds} processes a row.",
        "",
        "Standard deviations are between processes that run identical code: of candidate over eager time, and of",
        "candidate time over the fixed workload's.",
        "",
        "| model | the process | speedup | range | SD to eager | SD to workload | eager | candidate |",
        "|---|---|---|---|---|---|---|---|",
        *format_rows(found),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--child", nargs=3, metavar=("WAY", "CACHE", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        way, cache_dir, seed = arguments.child
        print(json.dumps(measure_here(Way[way], Path(cache_dir), int(seed))))
        return
    found: dict[tuple[Way, str], list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as cache_dir:
        measure_apart(Way.FRESH, Path(cache_dir), 0)  # fills the cache
        for round_ in range(arguments.rounds):
            for way in random.sample(list(Way), len(Way)):
                print(f"round {round_ + 1} of {arguments.rounds}: {way.value}", file=sys.stderr)
                for name, figures in measure_apart(way, Path(cache_dir), round_).items():
                    found[way, name].append(figures)
    report = format_report(found, arguments.rounds)
    print(report)
    RESULT.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
