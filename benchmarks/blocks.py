"""What the blocks of a process know of the ratio, and what processes differ by, by the number of blocks.

Run ``python -m benchmarks.blocks`` on a machine with a GPU, or with ``--device cpu``. It records a baseline of each
model in a project of its own, whose processes measure all blocks of the plan, and adds to the page of such machines
what the first few of these would have told. With ``--busy`` a process keeps another core busy meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import torch

from benchmarks.gate_seconds import MODELS, RESULTS, make_project, run
from benchmarks.quality.lanes import Lane
from pytest_nnopt.affinity import usable_cores
from pytest_nnopt.measurement.engine import Call, Plan, measure_case
from pytest_nnopt.model import Variant
from pytest_nnopt.statistics.estimate import ProcessEstimate, estimate_log_ratio
from pytest_nnopt.torch_backend.clock import fit_plan

COUNTS = (10, 14, 20, 24, 32, 40)
LIMITS = (0.1, 0.05)
OTHERS = (Variant.REFERENCE, Variant.YARDSTICK)
"""What the candidate is put over."""
KEEP_BLOCKS = """
import json
from pathlib import Path

from pytest_nnopt.measurement.engine import CaseTimer
from pytest_nnopt.torch_backend import clock

clock.ENOUGH_OF_LIMIT = 0.0
make_sample = CaseTimer.sample


def keep_blocks(timer):
    sample = make_sample(timer)
    blocks = [{each.value: seconds for each, seconds in block.seconds_per_call.items()} for block in sample.blocks]
    with (Path(__file__).parent / "blocks.jsonl").open("a") as kept:
        kept.write(json.dumps(blocks) + "\\n")
    return sample


CaseTimer.sample = keep_blocks
"""

Blocks = list[dict[str, float]]


def measure(model: str, device: str, processes: int) -> list[Blocks]:
    """Return the blocks of each process that a recording takes, in which nothing ends one early."""
    with tempfile.TemporaryDirectory() as name:
        folder = make_project(Path(name), processes)
        (folder / "conftest.py").write_text(KEEP_BLOCKS, encoding="utf-8")
        run(folder, [model], "--nnopt-update", f"--nnopt-device={device}")
        return read(folder / "blocks.jsonl")


def read(path: Path) -> list[Blocks]:
    """Read what processes have kept, one in a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rows_of(model: str, device: str, processes: Sequence[Blocks]) -> Iterator[str]:
    """Yield a row for each number of blocks that all processes have measured, and one for what the gate measures."""
    for count in COUNTS:
        if count <= min(map(len, processes)):
            yield _row(model, [blocks[:count] for blocks in processes], str(count))
    for limit in LIMITS:
        ended = [blocks[: _enough(blocks, device, limit)] for blocks in processes]
        yield _row(
            model,
            ended,
            f"{statistics.fmean(map(len, ended)):.1f}, by the rule of today under a limit of {100 * limit:g} %",
        )


def _row(model: str, processes: Sequence[Blocks], which: str) -> str:
    figures = [_figures([_estimate(blocks, other) for blocks in processes]) for other in OTHERS]
    return f"| {model} | {len(processes)} | {which} | {' | '.join(figures)} |"


class Replay:
    """The clock and the machine of a process that measures once more what it measured, block by block.

    Args:
        blocks: the seconds of a call of each variant.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._at = 0
        self._seconds = 0.0
        self.calls: dict[Variant, list[Call]] = {Variant(name): [lambda: None] for name in blocks[0]}
        self._variants = {call: variant for variant, (call,) in self.calls.items()}

    def now(self) -> float:
        """Return the seconds that all calls up to here have taken."""
        return self._seconds

    def time_calls(self, call: Call, count: int, *, warm_calls: int = 0) -> float:
        """Return what so many calls take in the present block."""
        one = self._blocks[self._at][self._variants[call].value]
        self._seconds += (warm_calls + count) * one
        return count * one

    def before(self) -> None:
        """Do nothing."""

    def after(self) -> None:
        """Go on to the next block."""
        self._at = min(self._at + 1, len(self._blocks) - 1)


def _enough(blocks: Blocks, device: str, limit: float) -> int:
    """Return after how many blocks the process would have ended."""
    replay = Replay(blocks)
    plan = fit_plan(Plan(), torch.device(device), limit=limit)
    return len(measure_case(replay.calls, replay, plan, machine=replay).blocks)


def _estimate(blocks: Blocks, other: Variant) -> ProcessEstimate:
    candidate, seconds = ([block[variant.value] for block in blocks] for variant in (Variant.CANDIDATE, other))
    return estimate_log_ratio(candidate, seconds)


def _figures(estimates: Sequence[ProcessEstimate]) -> str:
    between = statistics.stdev(estimate.log_ratio for estimate in estimates)
    known = statistics.median(math.sqrt(estimate.variance) for estimate in estimates)
    return f"{between:.2%} | {known:.2%}".replace("%", " %")


def format_section(rows: Sequence[str], machine: str) -> str:
    """Return one run's part of the page in Markdown."""
    lines = [
        "",
        f"Made by `{' '.join(['python -m benchmarks.blocks', *sys.argv[1:]])}` on {date.today()}: {machine}. The "
        "standard error is the median process's own, as its blocks know it.",
        "",
        "| model | processes | blocks | SD to eager | standard error | SD to the fixed workload | standard error |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure or read, print, and add to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--processes", type=int, default=10, help="of each model")
    parser.add_argument("--busy", action="store_true", help="a process computes beside")
    parser.add_argument("--model", choices=MODELS, action="append", help="default: all")
    parser.add_argument("--evaluate", type=Path, help="blocks of one model that were kept, instead of measuring")
    parser.add_argument("--machine", help="where they were measured, if not here")
    arguments = parser.parse_args()
    models = arguments.model or list(MODELS)
    if arguments.evaluate is not None and len(models) != 1:
        parser.error("--evaluate is of one model: name it with --model")
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # models are chosen by what torch sees
    machine = arguments.machine or f"torch {torch.__version__}, {_name_of(arguments.device)}"
    rows: list[str] = []
    with Lane("cpu").busy_neighbour() if arguments.busy else contextlib.nullcontext():
        for model in models:
            is_new = arguments.evaluate is None
            found = measure(model, arguments.device, arguments.processes) if is_new else read(arguments.evaluate)
            rows += (added := list(rows_of(model, arguments.device, found)))
            print(*added, sep="\n", flush=True)
    page = RESULTS / f"blocks_{'gpu' if arguments.device == 'cuda' else 'cpu'}.md"
    page.write_text(page.read_text(encoding="utf-8") + format_section(rows, machine), encoding="utf-8")


def _name_of(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"{len(usable_cores())} cores"


if __name__ == "__main__":
    main()
