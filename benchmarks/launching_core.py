"""What choosing the core that launches a GPU's work does to the noise between processes.

Run ``python -m benchmarks.launching_core`` on a machine with a GPU; it writes
``benchmarks/results/launching_core.md``.

Fresh processes with compiled code from one cache measure every model with the gate's own engine: free to be moved by
the scheduler, on a core that chance draws, and on one that the gate chooses and leaves once it is slowed. All of them
first prepare, then each measures while the others wait.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch

from benchmarks.warm_calls import DEVICE, MODELS, READY, RESULTS, build, finish, start
from pytest_nnopt.affinity import usable_cores
from pytest_nnopt.measurement.allocator import keep_freed_memory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.model import Variant
from pytest_nnopt.session.records import record_process
from pytest_nnopt.torch_backend import timing
from pytest_nnopt.torch_backend.isolation import probe_instruction_sets
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.torch_backend.timing import time_sides
from pytest_nnopt.units import format_percent, format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side

LIMIT = 0.05
ROUNDS = 3
WAYS = ("free", "drawn", "chosen")

Figures = dict[str, float]
"""The log-ratio to eager, its standard error from the blocks, eager's seconds and the blocks dropped."""

Found = dict[str, dict[str, list[Figures]]]
"""By model and way, round by round."""


def as_child(cache_dir: Path, seed: int, models: Sequence[str]) -> None:
    """Build, say so, and once told measure every model in all ways, round after round, and print what was found."""
    probe_instruction_sets()
    keep_freed_memory()
    chooser = random.Random(seed)
    with thread_count(None), torch.no_grad():
        sides = build(cache_dir, models)
        print(READY, flush=True)
        sys.stdin.readline()
        found: Found = {name: {way: [] for way in WAYS} for name in models}
        orders = [chooser.sample(WAYS, len(WAYS)) for _ in range(ROUNDS)]
        for order, name in itertools.product(orders, models):
            for way in order:
                with in_way(way, chooser):
                    found[name][way].append(measure(*sides[name], chooser.getrandbits(32)))
    print(json.dumps(found), flush=True)


def measure(reference: Side, candidate: Side, seed: int) -> Figures:
    """Return what one sample of the gate says."""
    record = record_process(
        time_sides([reference], [candidate], DEVICE, Plan(seed=seed), limit=LIMIT, has_kernels=False)
    )
    return {
        "ratio": record.candidate_to_reference.log_ratio,
        "error": math.sqrt(record.candidate_to_reference.variance),
        "eager": record.seconds[Variant.REFERENCE.value],
        "dropped": record.dropped_blocks,
    }


@contextmanager
def on_drawn_core(chooser: random.Random) -> Iterator[None]:
    """Let this thread run on one core alone, which leaves nothing to choose."""
    cores = usable_cores()
    os.sched_setaffinity(0, {chooser.choice(sorted(cores))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def in_way(way: str, chooser: random.Random) -> AbstractContextManager[object]:
    """Return a context in which the engine launches in one of the ways."""
    if way == "free":
        return patch.object(timing, "launching_core", lambda *_: nullcontext())
    return on_drawn_core(chooser) if way == "drawn" else nullcontext()


def measure_apart(cache_dir: Path, processes: int, models: Sequence[str]) -> list[Found]:
    """Let fresh processes build, and then measure one after the other while the rest wait."""
    options = [f"--model={name}" for name in models]
    begin = partial(start, cache_dir, module="benchmarks.launching_core")
    finish(begin(0, *options))  # fills the cache
    return [json.loads(finish(child)) for child in [begin(seed, *options) for seed in range(1, processes + 1)]]


def format_rows(processes: Sequence[Found]) -> Iterator[str]:
    """Yield a row for each model and way."""
    for name in processes[0]:
        for way in WAYS:
            figures = [one for process in processes for one in process[name][way]]
            eager = sorted(one["eager"] for one in figures)
            cells = (
                format_percent(statistics.stdev(one["ratio"] for one in figures)),
                format_percent(statistics.median(one["error"] for one in figures)),
                f"{format_seconds(eager[0])} to {format_seconds(eager[-1])}",
                f"{sum(one['dropped'] for one in figures) / len(figures):.1f}",
            )
            yield f"| {name} | {way} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--model", action="append", choices=tuple(MODELS), help="all without it")
    parser.add_argument("--child", nargs=2, metavar=("CACHE", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    models = arguments.model or tuple(MODELS)
    if arguments.child:
        as_child(Path(arguments.child[0]), int(arguments.child[1]), models)
        return
    if DEVICE.type != "cuda":
        parser.error("no GPU is here; run this where torch.cuda.is_available()")
    with tempfile.TemporaryDirectory() as cache_dir:
        processes = measure_apart(Path(cache_dir), arguments.processes, models)
    rows = list(format_rows(processes))
    lines = [
        "# The core that launches",
        "",
        f"Made by `{' '.join(['python -m benchmarks.launching_core', *sys.argv[1:]])}` on {date.today()}: Python "
        f"{platform.python_version()}, torch {torch.__version__}, {torch.cuda.get_device_name()}, "
        f"{len(usable_cores())} cores, {arguments.processes} fresh processes, each of which measured every model "
        f"free to be moved, on a core drawn by chance, and on one chosen by the gate, {ROUNDS} times each. The "
        "standard deviation is between all of these samples of identical code; the error is the median sample's own, "
        "from its blocks.",
        "",
        "| model | core | SD to eager | error by the blocks | eager, seconds a call | blocks dropped |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    print(*rows, sep="\n")
    (RESULTS / "launching_core.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
