"""How far the compiler's work and its wall time repeat between fresh processes, machine code built in each.

Run ``python benchmarks/compile_work.py``; it writes ``benchmarks/results/compile_work.md``.

Each process compiles every model as a case does: cold from an empty cache, with the C++ compiler and its precompiled
header at work where the model has kernels; warm from the cache that left; and once more to count the work. The cache's
own counters say which state each compilation found.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "compile_work.md"


def main() -> int:
    """Run every process, write the table, and return 1 where a cache was not in its state or work varied by 1 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        print(json.dumps(probe()))
        return 0
    reports = [_report(seed) for seed in range(arguments.processes)]
    models = {name: [report[name] for report in reports] for name in reports[0]}
    text = _describe(models, len(reports))
    RESULT.write_text(text, encoding="utf-8")
    print(text)
    return int(any(not _is_proven(found) or _spread(found, "work_calls") > 0.01 for found in models.values()))


def probe() -> dict[str, dict[str, object]]:
    """Compile every model in this process, each from an empty cache."""
    import torch
    from planted_model import Tower  # type: ignore[import-not-found]

    from pytest_nnopt.torch_backend.side import ExecutionMode, Side

    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
    training = ExecutionMode(is_grad_enabled=True)
    sides = {
        "library calls alone": Side(torch.nn.Linear(8, 8), (torch.ones(4, 8),)),
        "two linear layers": Side(Tower().eval(), (torch.ones(256, 64),)),
        "transformer layer, training": Side(layer, (torch.ones(2, 8, 32),), loss=torch.sum, mode=training),
        "two linear layers, after the others": Side(Tower().eval(), (torch.ones(256, 64),)),
    }
    return {name: _compile(side) for name, side in sides.items()}


def _compile(side: Any) -> dict[str, object]:
    import torch

    from pytest_nnopt.torch_backend.compile_time import CacheState, complete_compile_time
    from pytest_nnopt.torch_backend.compiling import CompileStep, compile_side
    from pytest_nnopt.torch_backend.isolation import isolated_compilation, probe_instruction_sets

    assert isinstance(side.function, torch.nn.Module)
    side = type(side)(side.function, side.args, module=side.function, loss=side.loss, mode=side.mode)
    probe_instruction_sets()
    with tempfile.TemporaryDirectory() as directory:
        with isolated_compilation(cache_dir=Path(directory)):
            cold = compile_side(side, [CompileStep()])
        time = complete_compile_time(side, CompileStep(), cold, Path(directory))
        built = len(list(Path(directory).rglob("*.so")))
    return {
        "cold_state": CacheState.of(cold.facts).value,
        "cold_seconds": time.cold_seconds,
        "warm_seconds": time.warm_seconds,
        "work_calls": time.work_calls,
        "libraries": built,
    }


def _report(seed: int) -> dict[str, dict[str, Any]]:
    paths = f"{ROOT}:{ROOT / 'tests' / 'integration'}"
    settings = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, __file__, "--probe"], env=settings, capture_output=True, text=True, check=True
    )
    report: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return report


def _is_proven(found: list[dict[str, Any]]) -> bool:
    """Whether every cold compilation missed the cache and every warm one was served by it."""
    return all(one["cold_state"] == "cold" and one["warm_seconds"] is not None for one in found)


def _spread(found: list[dict[str, Any]], name: str) -> float:
    """Return the distance of the extremes relative to the median; infinite where a figure is unknown."""
    values = [one[name] for one in found]
    if None in values:
        return float("inf")
    return float((max(values) - min(values)) / statistics.median(values))


def _describe(models: dict[str, list[dict[str, Any]]], processes: int) -> str:
    import torch

    how = f"{processes} fresh processes, Python {sys.version.split()[0]}, torch {torch.__version__}"
    return "\n".join(
        [
            "# Compile work and compile time",
            "",
            f"Made by `python benchmarks/compile_work.py`: {how}. A spread is the distance of the extremes relative to "
            "the median.",
            "",
            "| model | cold, warm proven | libraries built | cold, spread | warm, spread | work, spread |",
            "|---|---|---|---|---|---|",
            *(_format_row(name, found) for name, found in models.items()),
            "",
        ]
    )


def _format_row(name: str, found: list[dict[str, Any]]) -> str:
    cells = [name, "yes" if _is_proven(found) else "**no**", str(found[0]["libraries"])]
    for figure, unit in (("cold_seconds", " s"), ("warm_seconds", " s"), ("work_calls", " calls")):
        values = [one[figure] for one in found if one[figure] is not None]
        middle = f"{statistics.median(values):,.{0 if unit == ' calls' else 2}f}{unit}" if values else "unknown"
        cells.append(f"{middle}, {100 * _spread(found, figure):.3g} %")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
