"""What a call that is not timed, before each timing, does to the noise between processes.

Run ``python -m benchmarks.warm_calls`` on a machine with nothing else to do; it writes
``benchmarks/results/warm_calls.md``, or with a GPU ``warm_calls_gpu.md``.

Fresh processes with compiled code from one cache measure every model with the gate's own engine, with such calls and
without, in random order. On a CPU one process is there at a time. On a GPU all of them first prepare, then each
measures while the others wait.
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
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from benchmarks.slow_models import CPU_MODELS, GPU_MODELS, feed_forward
from pytest_nnopt.measurement.allocator import keep_freed_memory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.model import Variant
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_copy
from pytest_nnopt.torch_backend.isolation import isolated_compilation, probe_instruction_sets
from pytest_nnopt.torch_backend.pair import PairRequest, build_side
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.torch_backend.timing import time_sides
from pytest_nnopt.units import format_percent

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if HAS_GPU else "cpu")
MODELS = GPU_MODELS if HAS_GPU else {**CPU_MODELS, "wide": lambda: (feed_forward(512, 3).eval(), torch.randn(64, 512))}
WAYS = {
    "without": Plan(warm_call_seconds=0.0),
    **({"without, in blocks of 10 ms": Plan(warm_call_seconds=0.0, block_seconds=0.01)} if HAS_GPU else {}),
    "with": Plan(),
}
READY = "ready"

Found = dict[str, dict[str, dict[str, float]]]
"""By model and way: log-ratios of the candidate to the reference and to the yardstick, the standard deviation of the
former between blocks, and the candidate's calls in a timing."""


def build(cache_dir: Path, models: Sequence[str] = tuple(MODELS)) -> dict[str, tuple[Side, Side]]:
    """Return both sides of the named models, the optimised one compiled."""
    sides = {}
    for name in models:
        model, x = MODELS[name]()
        inputs = (x.to(DEVICE),)
        request = PairRequest(model.to(DEVICE), inputs, {}, mode=ExecutionMode.capture(is_training_step=False))
        reference = build_side(request, device=None)
        with isolated_compilation(cache_dir=cache_dir / name):
            candidate = compile_copy(reference, CompileStep())
            candidate.step()
        sides[name] = reference, candidate
    return sides


def measure(reference: Side, candidate: Side, plan: Plan) -> dict[str, float]:
    """Return one process's figures of one model, measured in one way."""
    timed = time_sides([reference], [candidate], DEVICE, plan, limit=0.0)
    ours, eager, fixed = (
        list(map(math.log, timed.sample.seconds(variant)))
        for variant in (Variant.CANDIDATE, Variant.REFERENCE, Variant.YARDSTICK)
    )
    return {
        "ratio": statistics.fmean(ours) - statistics.fmean(eager),
        "absolute": statistics.fmean(ours) - statistics.fmean(fixed),
        "block": statistics.stdev(a - b for a, b in zip(ours, eager, strict=True)),
        "calls": timed.sample.calls_per_block[Variant.CANDIDATE] / 2,
    }


def as_child(cache_dir: Path, seed: int) -> None:
    """Build, say so, and once told to measure every model in every way and print what was found."""
    probe_instruction_sets()
    keep_freed_memory()
    chooser = random.Random(seed)
    with thread_count(None), torch.no_grad():
        sides = build(cache_dir)
        print(READY, flush=True)
        sys.stdin.readline()
        found = {
            name: {
                way: measure(*sides[name], replace(WAYS[way], seed=seed))
                for way in chooser.sample(list(WAYS), len(WAYS))
            }
            for name in MODELS
        }
    print(json.dumps(found), flush=True)


def start(cache_dir: Path, seed: int, *options: str, module: str = "benchmarks.warm_calls") -> subprocess.Popen[str]:
    """Return a fresh process that builds."""
    command = [sys.executable, "-m", module, "--child", str(cache_dir), str(seed), *options]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(child: subprocess.Popen[str]) -> str:
    """Wait until it has built, let it measure, and return the line that says what it found once it is gone."""
    assert child.stdout is not None
    while (line := child.stdout.readline()).strip() != READY:
        if not line:
            raise RuntimeError(f"a measuring process ended with code {child.wait()}, its errors are above")
    output, _ = child.communicate("\n")
    return output.splitlines()[-1]


def measure_apart(cache_dir: Path, processes: int) -> list[Found]:
    """Measure in fresh processes, one at a time."""
    finish(start(cache_dir, 0))  # fills the cache
    seeds = range(1, processes + 1)
    if HAS_GPU:
        return [json.loads(finish(child)) for child in [start(cache_dir, seed) for seed in seeds]]
    return [json.loads(finish(start(cache_dir, seed))) for seed in seeds]


def format_rows(processes: Sequence[Found]) -> Iterator[str]:
    """Yield a row for each model and way."""
    for name in MODELS:
        for way in WAYS:
            figures = [process[name][way] for process in processes]
            sds = [statistics.stdev(one[what] for one in figures) for what in ("ratio", "absolute")]
            spreads = [*sds, statistics.median(one["block"] for one in figures)]
            speedup = math.exp(-statistics.fmean(one["ratio"] for one in figures))
            calls = Counter(int(one["calls"]) for one in figures)
            shown = ", ".join(f"{count} in {processes}" for count, processes in sorted(calls.items()))
            yield f"| {name} | {way} | {speedup:.3f}x | {' | '.join(map(format_percent, spreads))} | {shown} |"


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--child", nargs=2, metavar=("CACHE", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        as_child(Path(arguments.child[0]), int(arguments.child[1]))
        return
    with tempfile.TemporaryDirectory() as cache_dir:
        processes = measure_apart(Path(cache_dir), arguments.processes)
    where = f", {torch.cuda.get_device_name()}" if HAS_GPU else ""
    lines = [
        "# A call that is not timed before each timing",
        "",
        f"Made by `{' '.join(['python -m benchmarks.warm_calls', *sys.argv[1:]])}` on {date.today()}: Python "
        f"{platform.python_version()}, torch {torch.__version__}{where}, {arguments.processes} fresh processes, each "
        "of which measured every model in all ways. Standard deviations are between processes that run identical code, "
        "and of blocks within the median process.",
        "",
        "| model | such calls | speedup | SD to eager | to the fixed workload | of blocks | calls in a timing |",
        "|---|---|---|---|---|---|---|",
        *format_rows(processes),
    ]
    print(*lines[-len(WAYS) * len(MODELS) :], sep="\n")
    page = RESULTS / f"warm_calls{'_gpu' if HAS_GPU else ''}.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
