"""How far the ratio to eager moves with the machine's own speed, and what comes of a baseline from another hour.

Run ``python -m benchmarks.machine_state``; it reads the traces that ``benchmarks.gate_quality`` has left, of processes
in the order in which they measured, and writes ``benchmarks/results/machine_state.md``.

Comparisons of processes that are drawn at random mix the machine's states. Here ten processes in a row are the
baseline, as a recording is, and eight in a row, later or earlier, are judged by it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.quality.judging import Answer, Comparison, decide_relative, judge_by_gate
from benchmarks.quality.measuring import Measured
from pytest_nnopt.model import Variant
from pytest_nnopt.statistics.decision import Decision, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.statistics.shift import machine_shift
from pytest_nnopt.units import format_percent, format_seconds
from pytest_nnopt.verdict import estimate_of

RESULTS = Path(__file__).parent / "results"
DAYS = {
    "quiet": ("gate_quality", False),
    "beside a busy neighbour": ("gate_quality", True),
    "noisy": ("gate_quality_revisions", False),
    "contended": ("gate_quality_contended", False),
}
"""By name: whose traces, and whether they are of stressed processes."""

MODELS = ("small", "medium", "large")
LIMITS = (0.05, 0.10)
BASELINE, JUDGED, STEP = 10, 8, 2
SD, MOVES = 0.015, (0.0, 0.05, 0.10, 0.15, 0.25)


def read(name: str, *, is_stressed: bool, model: str) -> list[Measured]:
    """Return the unchanged processes of a model in the order measured."""
    rows = json.loads((RESULTS / f"{name}_traces.json").read_text(encoding="utf-8"))
    found = [Measured.of(row) for row in rows]
    return [m for m in found if m.model == model and m.slowdown == 0 and m.is_stressed == is_stressed]


@dataclass(frozen=True)
class Slope:
    """How ratios go with the fixed workload's time: standard deviation of both, and the least-squares slope."""

    ratio_sd: float
    workload_sd: float
    slope: float

    @classmethod
    def of(cls, processes: Sequence[Measured]) -> Slope:
        """Fit it to processes."""
        ratios = np.array([estimate_of(m.record).log_ratio for m in processes])
        workload = np.log([m.record.seconds[Variant.YARDSTICK.value] for m in processes])
        slope = float(np.cov(ratios, workload)[0, 1] / np.var(workload, ddof=1))
        return cls(float(np.std(ratios, ddof=1)), float(np.std(workload, ddof=1)), slope)


def decide_unshifted(asked: Comparison) -> Decision:
    """Decide as if the machine were always what it was."""
    now, before = ([estimate_of(m.record) for m in side] for side in (asked.now, asked.before))
    return decide_regression(now, before, limit=asked.limit, prior=DEFAULT_CPU_PRIOR, plan=asked.plan)


def runs(processes: Sequence[Measured]) -> Iterator[tuple[Sequence[Measured], Sequence[Measured]]]:
    """Yield what is judged, and by what: all pairs of stretches that do not overlap, in steps of ``STEP``."""
    for start in range(0, len(processes) - BASELINE + 1, STEP):
        before = processes[start : start + BASELINE]
        for other in range(0, len(processes) - JUDGED + 1, STEP):
            if other + JUDGED <= start or other >= start + BASELINE:
                yield processes[other : other + JUDGED], before


def describe(answers: Sequence[Answer]) -> str:
    """Return the shares of failed and of open comparisons."""
    failed = statistics.fmean(answer.failed for answer in answers)
    still_open = statistics.fmean(not answer.failed and not answer.passed for answer in answers)
    return f"{format_percent(failed)}, {format_percent(still_open)}"


def spread_evenly(sd: float, count: int) -> list[float]:
    """Return normal figures without chance: quantiles of equal parts."""
    normal = statistics.NormalDist(0.0, sd)
    return [normal.inv_cdf((index + 0.5) / count) for index in range(count)]


def decide_unchanged(moved: float) -> Decision:
    """Decide on unchanged code whose machine has become slower by a share, under ``LIMITS[-1]``."""
    now, before = ([ProcessEstimate(y, 0.0, 40) for y in spread_evenly(SD, count)] for count in (JUDGED, BASELINE))
    workload = [time + math.log1p(moved) for time in spread_evenly(SD, JUDGED)]
    error = machine_shift(workload, spread_evenly(SD, BASELINE)).error
    return decide_regression(now, before, limit=LIMITS[-1], prior=DEFAULT_CPU_PRIOR, shift_error=error)


def tabulate_moves() -> Iterator[str]:
    """Say what can be told on a machine that has moved."""
    for moved in MOVES:
        decision = decide_unchanged(moved)
        found = format_percent(decision.certainty.minimum_detectable_effect)
        yield f"| {format_percent(moved)} | {decision.outcome.value} | {found} |"


def format_page() -> str:
    """Return the page as Markdown."""
    slopes: list[float] = []
    spread, judged = [], []
    for day, (name, is_stressed) in DAYS.items():
        for model in MODELS:
            processes = read(name, is_stressed=is_stressed, model=model)
            found = Slope.of(processes)
            slopes.append(found.slope)
            sds = f"{format_percent(found.ratio_sd)} | {format_percent(found.workload_sd)}"
            calls = sorted(m.record.seconds[Variant.CANDIDATE.value] for m in processes)
            pace = f"{format_seconds(calls[0])} to {format_seconds(calls[-1])}"
            spread.append(f"| {day} | {model} | {len(processes)} | {pace} | {sds} | {found.slope:+.2f} |")
            pairs = list(runs(processes))
            cells = [
                describe([judge_by_gate(decide, now, before, 1.0, limit=limit) for now, before in pairs])
                for limit in LIMITS
                for decide in (decide_unshifted, decide_relative)
            ]
            judged.append(f"| {day} | {model} | {len(pairs)} | {' | '.join(cells)} |")
    lines = [
        "# The machine's state between a baseline and now",
        "",
        f"Made by `python -m benchmarks.machine_state` on {date.today()} from the traces of "
        "[a quiet day and a busy neighbour](gate_quality.md), "
        "[a noisy day](gate_quality_revisions.md) and [a contended one](gate_quality_contended.md).",
        "",
        "## From process to process",
        "",
        "By how much the logarithm of candidate over eager goes with that of the fixed workload's time.",
        "",
        "| day | model | processes | the candidate's call | SD to eager | SD of the fixed workload's time | slope |",
        "|---|---|---|---|---|---|---|",
        *spread,
        "",
        f"Root mean square of the slopes: {math.sqrt(statistics.fmean(slope**2 for slope in slopes)):.2f}.",
        "",
        "## Unchanged code against a baseline of another time",
        "",
        f"{BASELINE} processes in a row are the baseline, {JUDGED} in a row before or after are judged. Failed and "
        "open, as if the machine were what it was, and with what its change leaves open.",
        "",
        "| day | model | comparisons | limit 5 %, as if | limit 5 % | limit 10 %, as if | limit 10 % |",
        "|---|---|---|---|---|---|---|",
        *judged,
        "",
        "## What can be told of a machine that has moved",
        "",
        f"Unchanged code in {JUDGED} processes, against {BASELINE}; its ratio to eager and the fixed workload's time "
        f"have a standard deviation of {format_percent(SD)}; a limit of {format_percent(LIMITS[-1])}.",
        "",
        "| the fixed workload takes longer by | unchanged code | smallest slowdown found in 95 % |",
        "|---|---|---|",
        *tabulate_moves(),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Judge, print and write the page."""
    page = format_page()
    print(page)
    (RESULTS / "machine_state.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
