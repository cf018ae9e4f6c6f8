"""What the engine's own loop adds to every timed call, beside ``timeit`` and as a share of the shortest sample.

Run ``python benchmarks/loop_overhead.py``; it writes ``benchmarks/results/loop_overhead.md``.

An empty function is timed through the clock and by ``timeit``, in turn. The function's own cost cannot be told from
the loop's, so the whole reading serves as the upper bound that is held against the limits. The shortest sample is one
timing of the smallest model.
"""

from __future__ import annotations

import platform
import statistics
import timeit
from collections.abc import Sequence
from pathlib import Path

import torch

from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.torch_backend.clock import WallClock
from pytest_nnopt.units import format_percent, format_seconds

RESULT = Path(__file__).parent / "results" / "loop_overhead.md"
REPEATS = 200
CALLS = 2000
LIMIT_SECONDS = 1e-6
LIMIT_SHARE = 0.01


def do_nothing() -> None:
    """Cost one call."""


def measure_loops() -> tuple[list[float], list[float]]:
    """Return seconds per call of an empty function through the clock and by ``timeit``, measured in turn."""
    clock, timer = WallClock(), timeit.Timer(do_nothing)
    through_clock, by_timeit = [], []
    for _ in range(REPEATS):
        through_clock.append(clock.time_calls(do_nothing, CALLS) / CALLS)
        by_timeit.append(timer.timeit(CALLS) / CALLS)
    return through_clock, by_timeit


def measure_single_timing() -> list[float]:
    """Return the seconds that a timing of one call of an empty function reads: all that the clock adds to a sample."""
    clock = WallClock()
    return [clock.time_calls(do_nothing, 1) for _ in range(REPEATS * 10)]


def measure_small_model() -> list[float]:
    """Return seconds per call of a linear layer of 8 x 8, about the fastest model there is."""
    clock, model, x = WallClock(), torch.nn.Linear(8, 8), torch.randn(1, 8)
    with torch.inference_mode():
        clock.time_calls(lambda: model(x), CALLS)
        return [clock.time_calls(lambda: model(x), CALLS // 20) / (CALLS // 20) for _ in range(REPEATS)]


def format_row(what: str, seconds: Sequence[float]) -> str:
    """Return a table row: median, and the middle half of the repeats."""
    low, median, high = statistics.quantiles(seconds, n=4)
    return f"| {what} | {format_seconds(median)} | {format_seconds(low)} to {format_seconds(high)} |"


def format_report(rows: Sequence[tuple[str, Sequence[float]]], conclusion: str) -> str:
    """Return the whole page in Markdown."""
    lines = [
        "# Cost of the timing loop",
        "",
        "Made by `python benchmarks/loop_overhead.py`: "
        f"Python {platform.python_version()}, torch {torch.__version__}, {REPEATS} repeats of {CALLS} calls.",
        "",
        "| what | median | middle half of the repeats |",
        "|---|---|---|",
        *(format_row(what, seconds) for what, seconds in rows),
        "",
        conclusion,
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the page.

    Raises:
        SystemExit: the loop costs more than its limits.
    """
    through_clock, by_timeit = measure_loops()
    single, model = measure_single_timing(), measure_small_model()
    sample_seconds = Plan().block_seconds / 2
    per_call, per_timing = statistics.median(through_clock), statistics.median(single)
    calls = sample_seconds / statistics.median(model)
    share = (calls * per_call + per_timing) / sample_seconds
    report = format_report(
        [
            ("empty function through the clock, per call", through_clock),
            ("empty function by timeit, per call", by_timeit),
            ("one timing of one empty call, whole", single),
            ("linear layer of 8 x 8 through the clock, per call", model),
        ],
        f"The loop with its call costs {format_seconds(per_call)} a call (limit {format_seconds(LIMIT_SECONDS)}), "
        f"{format_percent(per_call / statistics.median(by_timeit) - 1, signed=True)} against `timeit`. A timing of "
        f"{format_seconds(sample_seconds)} makes {calls:.0f} calls of the smallest model; loop and clock are at most "
        f"{format_percent(share)} of it (limit {format_percent(LIMIT_SHARE)}).",
    )
    print(report)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report, encoding="utf-8")
    if per_call >= LIMIT_SECONDS or share >= LIMIT_SHARE:
        raise SystemExit("the loop costs more than its limits")


if __name__ == "__main__":
    main()
