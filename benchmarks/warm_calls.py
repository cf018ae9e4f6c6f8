"""What a call that is not timed, before each timing, does to the noise between processes on a CPU.

Run ``python -m benchmarks.warm_calls`` on a machine with nothing else to do; it writes
``benchmarks/results/warm_calls.md``.

Fresh processes with compiled code from one cache measure every model twice with the gate's own engine, with such calls
and without, in random order.
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
from datetime import date
from pathlib import Path

import torch

from benchmarks.slow_models import CPU_MODELS, feed_forward
from pytest_nnopt.measurement.allocator import keep_freed_memory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.model import Variant
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_copy
from pytest_nnopt.torch_backend.isolation import isolated_compilation, probe_instruction_sets
from pytest_nnopt.torch_backend.pair import PairRequest, build_side
from pytest_nnopt.torch_backend.side import ExecutionMode
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.torch_backend.timing import time_sides
from pytest_nnopt.units import format_percent

RESULT = Path(__file__).parent / "results" / "warm_calls.md"
ROOT = Path(__file__).parents[1]
MODELS = {**CPU_MODELS, "wide": lambda: (feed_forward(512, 3).eval(), torch.randn(64, 512))}
WAYS = {"without": 0.0, "with": Plan().warm_call_seconds}

Found = dict[str, dict[str, dict[str, float]]]
"""By model and way: log-ratios of the candidate to the reference and to the yardstick, and its calls in a timing."""


def measure_here(cache_dir: Path, seed: int) -> Found:
    """Measure every model in both ways in this process."""
    probe_instruction_sets()
    keep_freed_memory()
    chooser = random.Random(seed)
    found: Found = {}
    with thread_count(None), torch.no_grad():
        for name, make in MODELS.items():
            model, x = make()
            request = PairRequest(model, (x,), {}, mode=ExecutionMode.capture(is_training_step=False))
            reference = build_side(request, device=None)
            with isolated_compilation(cache_dir=cache_dir / name):
                candidate = compile_copy(reference, CompileStep())
                for way in chooser.sample(list(WAYS), len(WAYS)):
                    plan = Plan(seed=seed, warm_call_seconds=WAYS[way])
                    timed = time_sides([reference], [candidate], torch.device("cpu"), plan, limit=0.0)
                    ours, eager, fixed = (
                        statistics.fmean(map(math.log, timed.sample.seconds(variant)))
                        for variant in (Variant.CANDIDATE, Variant.REFERENCE, Variant.YARDSTICK)
                    )
                    calls = timed.sample.calls_per_block[Variant.CANDIDATE] / 2
                    figures = {"ratio": ours - eager, "absolute": ours - fixed, "calls": calls}
                    found.setdefault(name, {})[way] = figures
    return found


def measure_apart(cache_dir: Path, seed: int) -> Found:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.warm_calls", "--child", str(cache_dir), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def format_rows(processes: Sequence[Found]) -> Iterator[str]:
    """Yield a row for each model and way."""
    for name in MODELS:
        for way in WAYS:
            figures = [process[name][way] for process in processes]
            sds = [format_percent(statistics.stdev(one[what] for one in figures)) for what in ("ratio", "absolute")]
            speedup = math.exp(-statistics.fmean(one["ratio"] for one in figures))
            calls = Counter(int(one["calls"]) for one in figures)
            shown = ", ".join(f"{count} in {processes}" for count, processes in sorted(calls.items()))
            yield f"| {name} | {way} | {speedup:.2f}x | {' | '.join(sds)} | {shown} |"


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--child", nargs=2, metavar=("CACHE", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure_here(Path(arguments.child[0]), int(arguments.child[1]))))
        return
    with tempfile.TemporaryDirectory() as cache_dir:
        measure_apart(Path(cache_dir), 0)  # fills the cache
        processes = [measure_apart(Path(cache_dir), seed) for seed in range(1, arguments.processes + 1)]
    lines = [
        "# A call that is not timed before each timing",
        "",
        f"Made by `{' '.join(['python -m benchmarks.warm_calls', *sys.argv[1:]])}` on {date.today()}: Python "
        f"{platform.python_version()}, torch {torch.__version__}, {arguments.processes} fresh processes, each of which "
        "measured every model in both ways. Standard deviations are between processes that run identical code.",
        "",
        "| model | such calls | speedup | SD to eager | SD to the fixed workload | calls in a timing |",
        "|---|---|---|---|---|---|",
        *format_rows(processes),
    ]
    print(*lines[-2 * len(MODELS) :], sep="\n")
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
