"""What each part of the default rule is for: planted cases of rounding that are called errors without it.

Run with ``python -m benchmarks.numerics_ablation`` in the root. Writes ``benchmarks/results/numerics_ablation.md``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch

from pytest_nnopt.numerics import compare, judge, tolerance
from pytest_nnopt.numerics.judge import Neighbours
from pytest_nnopt.numerics.systematic import Uncertainty
from pytest_nnopt.numerics.tolerance import Floor
from tests.corpus.honest import HONEST
from tests.corpus.planted import Observed, observe_case

RESULTS = Path(__file__).parent / "results" / "numerics_ablation.md"
SEEDS = range(11, 31)
SLOW = ("whole tensor normalised by its norm", "sum of a million in blocks")


def main() -> None:
    """Judge the corpus without one part of the rule after the other, and write which cases go wrong."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    runs = {
        (case.name, seed): observe_case(case, seed) for case in HONEST.cases if case.name not in SLOW for seed in SEEDS
    }
    lines = [
        f"Cases of rounding called errors, of {len(SEEDS)} seeds each.",
        "",
        "| without | cases of rounding that fail |",
        "|---|---|",
        *(f"| {name} | {wrong_cases(runs, change)} |" for name, change in CHANGES.items()),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def wrong_cases(runs: dict[tuple[str, int], Observed], change: Callable[[], object]) -> str:
    """Return how often which case fails under a change of the rule."""
    wrong: dict[str, int] = {}
    with change():  # type: ignore[attr-defined]
        for (name, _), observed in runs.items():
            if not observed.compare().is_within:
                wrong[name] = wrong.get(name, 0) + 1
    return "; ".join(f"{name}: {count}" for name, count in wrong.items()) or "none"


def float32_floor(rms: float) -> Callable[[], object]:
    """Make a change of the floor of float32."""
    return lambda: patch.dict(tolerance._WITH_TRUTH, {"float32": Floor(rms, 8)})


CHANGES: dict[str, Callable[[], object]] = {
    "nothing (the rule as it is)": lambda: patch.dict({}),
    "a floor of 16 eps in float32: 8": float32_floor(8),
    "a floor of 16 eps in float32: 1": float32_floor(1),
    "the wider factor of strata": lambda: patch.object(judge, "_STRATUM_FACTORS", 1.0),
    "the wider factor of few elements": lambda: patch.object(judge, "_SMALL_SAMPLE", 0.0),
    "the nudged run, strata kept": lambda: patch.object(judge, "_known", lambda figures: [figures.reference]),
    "neighbours of noise": lambda: patch.object(Neighbours, "of", lambda leaves: Neighbours(0.0)),
    "rows and channels that err together": lambda: patch.object(
        compare, "shared_uncertainty", lambda *_: Uncertainty(0.0, 0.0)
    ),
}


if __name__ == "__main__":
    main()
