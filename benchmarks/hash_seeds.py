"""Compile the same models in fresh processes with different hash seeds, and show that every counter is the same.

    python benchmarks/hash_seeds.py            # 20 processes, writes benchmarks/results/hash_seeds.md
    python benchmarks/hash_seeds.py --processes 2 --backend aot_eager --dry-run

The order of sets and of dictionaries keyed by objects changes with the seed; a compiler that iterates over one would
generate other code. The processes share machine code, found by the hash of its source, and no compiled graphs. Compared
are all figures, lists of places and reasons, hashes of generated code, operations and bytes of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "hash_seeds.md"
MACHINE_CODE, BACKEND = "NNOPT_MACHINE_CODE", "NNOPT_BACKEND"


def main() -> int:
    """Run every process, print the table, and return 1 where a counter differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--backend", default="inductor")
    parser.add_argument("--dry-run", action="store_true", help="write no file")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        print(json.dumps(probe()))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {
            MACHINE_CODE: directory,
            BACKEND: arguments.backend,
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
            "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
        }
        reports = [_report(seed) for seed in range(arguments.processes)]
    lines = [line for model in reports[0] for line in _compare(model, [report[model] for report in reports])]
    text = _describe(lines, len(reports), arguments.backend)
    print(text)
    if not arguments.dry_run:
        RESULT.write_text(text, encoding="utf-8")
    return int(any(" 0 |" not in line for line in lines))


def _describe(lines: list[str], processes: int, backend: str) -> str:
    import torch

    how = f"{processes} fresh processes with hash seeds from 0 on, backend {backend}, torch {torch.__version__}"
    heading = ["# Counters under other hash seeds", "", f"Made by `python benchmarks/hash_seeds.py`: {how}.", ""]
    return "\n".join([*heading, "| model | figures | differing |", "|---|---|---|", *lines, ""])


def _report(seed: int) -> dict[str, dict[str, Any]]:
    settings = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'integration'}"}
    done = subprocess.run(
        [sys.executable, __file__, "--probe"], env=settings, capture_output=True, text=True, check=True
    )
    report: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return report


def _compare(model: str, reports: list[dict[str, Any]]) -> list[str]:
    """Describe one model's reports in a row; figures that differ are named below it."""
    names = sorted({name for report in reports for name in report})
    differing = [name for name in names if len({json.dumps(report.get(name)) for report in reports}) > 1]
    return [f"| {model} | {len(names)} | {len(differing)} |", *(f"| | {name} differs | |" for name in differing)]


class AppliesInTurn:
    """A callable that applies another function each time."""

    def __init__(self, *functions: Any) -> None:
        self.functions = functions
        self.calls = 0

    def __call__(self, x: Any) -> Any:
        """Apply the next function."""
        self.calls += 1
        return self._apply(self.functions[self.calls % len(self.functions)], x)

    @staticmethod
    def _apply(function: Any, x: Any) -> Any:
        return function(x) + 1


def probe() -> dict[str, dict[str, object]]:
    """Compile each model in this process and return every figure, flat."""
    import torch
    from planted_model import Branches, Sorts, Tower  # type: ignore[import-not-found]

    models = {"healthy": Tower, "branch on a value": Branches, "unfusable operation": Sorts}
    reports = {name: _figures(make().eval(), 1) for name, make in models.items()}
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
    reports["transformer layer, training"] = _figures(layer, 1, shape=(2, 8, 32), loss=torch.sum)
    reports["three batch sizes"] = _figures(Tower().eval(), 3)
    reports["a function that changes"] = _figures(AppliesInTurn(torch.sin, torch.cos), 1)
    return reports


def _figures(module: Any, batches: int, *, shape: tuple[int, ...] = (256, 64), loss: Any = None) -> dict[str, object]:
    import torch

    from pytest_nnopt.session.records import record_compile, record_memory
    from pytest_nnopt.torch_backend.compiling import CompileStep, Inputs, compile_side
    from pytest_nnopt.torch_backend.isolation import isolated_compilation
    from pytest_nnopt.torch_backend.memory import measure_memory
    from pytest_nnopt.torch_backend.side import ExecutionMode, Side

    mode = ExecutionMode(is_grad_enabled=True) if loss is not None else ExecutionMode()
    owner = module if isinstance(module, torch.nn.Module) else None
    side = Side(module, (torch.ones(shape),), module=owner, loss=loss, mode=mode)
    samples: list[Inputs] = [((torch.ones(shape[0] + extra, *shape[1:]),), {}) for extra in range(1, batches)]
    with isolated_compilation(cache_dir=Path(os.environ[MACHINE_CODE])):
        compiled = compile_side(side, [CompileStep(backend=os.environ[BACKEND])], samples=samples)
        assert compiled.side is not None
        memory = record_memory(measure_memory(compiled.side), measure_memory(side)).model_dump()
    record = record_compile(compiled.facts).model_dump()
    return {**record, **memory, **record.pop("counters"), **(record.pop("graph_ops") or {})}


if __name__ == "__main__":
    sys.exit(main())
