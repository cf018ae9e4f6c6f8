"""Keep a few comparisons of real processes, with today's answers, for the tests to repeat.

Run ``python -m benchmarks.replay`` behind ``python -m benchmarks.gate_quality``: it draws processes from
``benchmarks/results/gate_quality_traces.json``, lets the gate judge them, and writes ``tests/recorded/timing.json``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.judging import (
    Comparison,
    Decide,
    Pool,
    decide_beside,
    decide_relative,
    pools_of,
)
from benchmarks.quality.measuring import Measured
from pytest_nnopt.config import LimitsConfig
from pytest_nnopt.verdict import estimate_of

TRACES = Path(__file__).parent / "results" / "gate_quality_traces.json"
RECORDED = Path(__file__).parents[1] / "tests" / "recorded" / "timing.json"
DRAWS = 3


def record(pool: Pool, name: str, slowdown: float, chooser: random.Random) -> Iterator[dict[str, Any]]:
    """Yield comparisons of one model with one slowdown: with a stored baseline, and beside another revision."""
    for _ in range(DRAWS):
        now, before = pool.draw(slowdown, chooser)
        limit = LimitsConfig().latency_on("cpu")
        common = {"model": name, "slowdown": slowdown, "limit": limit}
        stored = [_figures([estimate_of(m.record) for m in side]) for side in (now, before)]
        yield {**common, "now": stored[0], "before": stored[1], **_answer(decide_relative, now, before, limit)}
        both, _ = pool.draw(slowdown, chooser, is_beside=True)
        beside = [m.beside for m in both if m.beside is not None]
        if beside:
            yield {**common, "now": _figures(beside), "before": None, **_answer(decide_beside, both, (), limit)}


def _answer(decide: Decide, now: Sequence[Measured], before: Sequence[Measured], limit: float) -> dict[str, Any]:
    """Look until the gate knows, or has seen all."""
    processes, decision = 1, decide(Comparison(now[:1], before, limit))
    while decision.next_look is not None and decision.next_look <= len(now):
        processes = decision.next_look
        decision = decide(Comparison(now[:processes], before, limit))
    return {"outcome": decision.outcome.value, "processes": processes, "change": float(f"{decision.change:.6g}")}


def _figures(estimates: Sequence[Any]) -> list[list[float]]:
    return [[float(f"{e.log_ratio:.6g}"), float(f"{e.variance:.6g}"), e.blocks] for e in estimates]


def main() -> None:
    """Draw, judge and write."""
    measured = [Measured.of(row) for row in json.loads(TRACES.read_text(encoding="utf-8"))]
    chooser = random.Random(0)
    found = [
        row
        for (device, is_stressed, name), pool in sorted(pools_of(measured).items())
        if device == "cpu" and not is_stressed
        for slowdown in sorted(pool.by_slowdown)
        for row in record(pool, name, slowdown, chooser)
    ]
    RECORDED.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in found)
    RECORDED.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(found)} comparisons in {RECORDED}")


if __name__ == "__main__":
    main()
