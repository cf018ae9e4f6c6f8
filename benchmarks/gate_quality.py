"""How often gates fail unchanged models, and which real slowdowns they find: this one beside the usual rules.

Run ``python -m benchmarks.gate_quality`` on the machine in question; it writes ``benchmarks/results/gate_quality.md``,
a plot beside it, and ``gate_quality_traces.json`` with what each process measured (``--name`` changes the names).
``--evaluate`` makes the page anew from files that ``--rounds`` wrote, of one machine or several. ``--rejudge`` lets
this gate judge the traces again after its rule has changed; the other tools' figures need the rounds and stay.

Processes measure three models, unchanged or with extra work inside the compiled one, in random order. In each
process every model is first timed alone for a second, as the other tools do, then by the gate's engine, then beside
an unchanged copy, as ``--nnopt-against`` does. Rules that compare two processes judge pairs of them; the gate judges
up to eight against a baseline of ten. All judge the same processes, drawn anew for every comparison.

Where a host has many cores or GPUs, ``--lane`` names places that measure side by side: ``cpu@0-1 cpu@2-3`` for two
cores each, ``cuda:0@0-7`` for a GPU with eight cores. Lanes of the same GPU take turns on it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TextIO

import torch

from benchmarks.quality.judging import pools_of
from benchmarks.quality.lanes import Lane
from benchmarks.quality.measuring import SLOWDOWNS, Measured, Order, as_child, calibrate_all, collect
from benchmarks.quality.page import Kept, format_page, plot

RESULTS = Path(__file__).parent / "results"
_REGIMES = {"alone": (False,), "stressed": (True,), "both": (False, True)}


def orders_for(device: str, unchanged: int, changed: int, regimes: Sequence[bool], base_every: int) -> list[Order]:
    """Return what to measure, in an order that mixes everything, so that drift of the machine hits all alike.

    Args:
        device: ``cpu`` or ``cuda``.
        unchanged: unchanged processes in each regime.
        changed: processes of each slowdown in each regime.
        regimes: whether a busy neighbour runs beside them.
        base_every: of so many processes of a kind the first compares two revisions, too; 0 for none.
    """
    counts = {0.0: unchanged, **dict.fromkeys(SLOWDOWNS[device], changed)}
    kinds = [(slowdown, index) for slowdown, count in counts.items() for index in range(count)]
    orders = [
        Order(slowdown, is_stressed, seed, with_base=bool(base_every) and index % base_every == 0)
        for is_stressed in regimes
        for seed, (slowdown, index) in enumerate(kinds)
    ]
    return random.Random(0).sample(orders, len(orders))


def describe_machine(lanes: Sequence[Lane]) -> str:
    """Say in a line what measured."""
    gpu = f", {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if lanes[0].is_gpu else ""
    cores = len(lanes[0].cores) or len(os.sched_getaffinity(0))
    places = (
        f"{len(lanes)} places of {cores} cores each, {os.cpu_count()} in all" if len(lanes) > 1 else f"{cores} cores"
    )
    return f"{date.today()}: Python {platform.python_version()}, torch {torch.__version__}{gpu}, {places}"


def main() -> None:
    """Measure or read, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unchanged", type=int, default=100, help="unchanged processes in each regime")
    parser.add_argument("--changed", type=int, default=16, help="processes of each slowdown in each regime")
    parser.add_argument("--regime", choices=tuple(_REGIMES), default="both")
    parser.add_argument("--lane", type=Lane.parse, action="append", help="where to measure; default: cpu")
    parser.add_argument(
        "--base-every", type=int, default=1, help="compare two revisions in one of so many processes; 0 for none"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no process after so long")
    parser.add_argument("--rounds", type=Path, help="where all rounds are kept, too: a large file")
    parser.add_argument(
        "--calibration",
        type=Path,
        help="where the elements of the extra work are kept for further runs on such a machine",
    )
    parser.add_argument("--evaluate", type=Path, nargs="+", help="judge what --rounds wrote")
    parser.add_argument("--rejudge", action="store_true", help="judge the traces again, by this gate alone")
    parser.add_argument("--name", default="gate_quality", help="of the files that are written")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(as_child(arguments.child, json.load(sys.stdin))))
        return
    if arguments.rejudge:
        _rejudge(arguments.name)
        return
    if arguments.evaluate:
        _write([_read(path) for path in arguments.evaluate], arguments.name)
        return
    with tempfile.TemporaryDirectory() as folder:
        rounds = arguments.rounds or Path(folder) / "rounds.jsonl"
        _measure(arguments, rounds)
        _write([_read(rounds)], arguments.name)


def _measure(arguments: argparse.Namespace, rounds: Path) -> None:
    """Measure into a file of JSON lines, so that what was measured outlives an interruption."""
    lanes: list[Lane] = arguments.lane or [Lane("cpu")]
    orders = orders_for(
        lanes[0].torch_device.type,
        arguments.unchanged,
        arguments.changed,
        _REGIMES[arguments.regime],
        arguments.base_every,
    )
    command = f"python -m benchmarks.gate_quality {' '.join(sys.argv[1:])}".strip()
    heading = f"Made by `{command}` on {describe_machine(lanes)}."
    kept: Path | None = arguments.calibration
    elements = json.loads(kept.read_text(encoding="utf-8")) if kept is not None and kept.is_file() else None
    with rounds.open("w", encoding="utf-8", buffering=1) as file:
        file.write(json.dumps(heading) + "\n")
        if elements is None:
            elements = calibrate_all(lanes)
        if kept is not None:
            kept.write_text(json.dumps(elements), encoding="utf-8")
        collect(lanes, orders, elements, seconds=arguments.seconds, keep=lambda rows: _append(file, rows))


def _rejudge(name: str) -> None:
    page, traces = RESULTS / f"{name}.md", RESULTS / f"{name}_traces.json"
    kept = Kept(page.read_text(encoding="utf-8"))
    measured = [Measured.of(row) for row in json.loads(traces.read_text(encoding="utf-8"))]
    command = f"python -m benchmarks.gate_quality {' '.join(sys.argv[1:])}"
    again = f"Made by `{command}` on {date.today()}: the rows of this gate, from `{traces.name}`."
    headings = [line for line in kept.headings if "--rejudge" not in line] + [again]
    _save(measured, [line for heading in headings for line in (heading, "")], name, kept)


def _append(file: TextIO, rows: Sequence[object]) -> None:
    file.writelines(json.dumps(row) + "\n" for row in rows)


def _read(rounds: Path) -> tuple[str, list[Measured]]:
    """Read who measured, and what."""
    heading, *rows = map(json.loads, rounds.read_text(encoding="utf-8").splitlines())
    return heading, [Measured.of(row) for row in rows]


def _write(parts: Sequence[tuple[str, list[Measured]]], name: str) -> None:
    measured = [m for _, found in parts for m in found]
    if not all(pool.by_slowdown.get(0.0) for pool in pools_of(measured).values()):
        raise SystemExit("too few unchanged processes were measured to judge anything; allow more --seconds")
    _save(measured, [line for heading, _ in parts for line in (heading, "")], name)
    traces = [m.to_json(with_rounds=False) for m in measured]
    (RESULTS / f"{name}_traces.json").write_text(json.dumps(traces) + "\n", encoding="utf-8")


def _save(measured: Sequence[Measured], headings: Sequence[str], name: str, kept: Kept | None = None) -> None:
    """Write the page and its plot."""
    has_plot = not all(m.is_stressed for m in measured)
    plotted = [f"![Share of comparisons that fail, by slowdown]({name}.svg)"] if has_plot else []
    page = format_page(measured, [*headings, *plotted], kept)
    print(page)
    (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
    if has_plot:
        plot(measured, RESULTS / f"{name}.svg", kept)


if __name__ == "__main__":
    main()
