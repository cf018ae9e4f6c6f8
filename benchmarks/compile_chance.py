"""How often two compilations of the same model differ in the kernels that they generate, call and launch.

    python -m benchmarks.compile_chance                     # 12 processes, writes benchmarks/results/compile_chance.md
    python -m benchmarks.compile_chance --processes 4 --tuned          # with modes that take most of a minute each

The compiler settles some questions by timing: whether to pad the operands of a matrix product, and, where asked to,
which implementation of a product is the fastest. Each process here compiles every model anew, with empty caches, and
counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.slow_models import CPU_MODELS, GPU_MODELS

RESULTS = Path(__file__).parent / "results"
FIGURES = ("generated_kernels", "external_kernels", "bytes_accessed", "launches", "timed_choices")
_WIDTH = {"cpu": 128, "cuda": 1024}
_TUNED = "max-autotune-no-cudagraphs"

Make = Callable[[], tuple[nn.Module, torch.Tensor]]


def models_on(device: str, *, is_tuning: bool) -> Mapping[str, tuple[Make, str | None]]:
    """Return what is compiled, by name, with the mode that it is compiled in."""
    width = _WIDTH[device]
    plain: dict[str, tuple[Make, str | None]] = {
        name: (make, None) for name, make in (GPU_MODELS if device == "cuda" else CPU_MODELS).items()
    }
    plain["odd widths"] = lambda: (_products(width - 3, width - 5), torch.randn(width, width - 3)), None
    if is_tuning:
        plain["products, tuned"] = lambda: (_products(width, width // 2), torch.randn(width, width)), _TUNED
    return plain


def _products(width: int, hidden: int) -> nn.Module:
    """Return matrix products with something between them that could be fused into them."""
    layers = (nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)) for _ in range(4))
    return nn.Sequential(*layers)


def probe(*, is_tuning: bool) -> dict[str, dict[str, float]]:
    """Compile every model once and count."""
    from pytest_nnopt.torch_backend.compiling import CompileStep, compile_side
    from pytest_nnopt.torch_backend.isolation import isolated_compilation
    from pytest_nnopt.torch_backend.side import ExecutionMode, Side

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found: dict[str, dict[str, float]] = {}
    for name, (make, mode) in models_on(device, is_tuning=is_tuning).items():
        torch.manual_seed(0)
        model, x = make()
        model, x = model.eval().to(device), x.to(device)
        side = Side(model, (x,), module=model, mode=ExecutionMode())
        with isolated_compilation():
            compiled = compile_side(side, [CompileStep(mode=mode)])
            assert compiled.side is not None, compiled.facts.attempts
            counters = compiled.facts.counters
            found[name] = {figure: counters[figure] for figure in FIGURES if figure in counters}
            if device == "cuda":
                found[name]["launches"] = _launches(compiled.side.step)
    return found


def _launches(side: Callable[[], object]) -> float:
    from pytest_nnopt.torch_backend.kernels import profile_kernels

    return profile_kernels([side], torch.device("cuda")).launches_per_call


def main() -> None:
    """Run every process, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--at-once", type=int, default=1, help="processes that compile at the same time")
    parser.add_argument("--tuned", action="store_true", help="also models whose products are tuned")
    parser.add_argument("--name", default="compile_chance", help="of the page")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        print(json.dumps(probe(is_tuning=arguments.tuned)))
        return
    with ThreadPoolExecutor(arguments.at_once) as pool:
        options = ["--tuned"] * arguments.tuned
        reports = list(pool.map(partial(_report, options=options), range(arguments.processes)))
    text = _page(reports)
    print(text)
    (RESULTS / f"{arguments.name}.md").write_text(text, encoding="utf-8")


def _report(index: int, *, options: Sequence[str]) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.compile_chance", "--probe", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parents[1], check=False)
    if done.returncode:
        raise SystemExit(f"process {index} failed:\n{done.stderr}")
    print(f"process {index} is done", file=sys.stderr)
    report: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return report


def _page(reports: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    machine = f"{date.today()}: Python {platform.python_version()}, torch {torch.__version__}{gpu}"
    command = f"python -m benchmarks.compile_chance {' '.join(sys.argv[1:])}".strip()
    rows = [
        f"| {name} | {' | '.join(_spread([report[name].get(figure) for report in reports]) for figure in FIGURES)} |"
        for name in reports[0]
    ]
    return "\n".join(
        [
            "# What chance decides in a compilation",
            "",
            f"Made by `{command}` on {machine}. {len(reports)} processes, each of which compiled every model anew. A",
            "figure of several is given with the processes that it was found in.",
            "",
            f"| model | {' | '.join(figure.replace('_', ' ') for figure in FIGURES)} |",
            f"|---|{'---|' * len(FIGURES)}",
            *rows,
            "",
        ]
    )


def _spread(values: Sequence[float | None]) -> str:
    counts = Counter("-" if value is None else f"{value:g}" for value in values)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count})" for value, count in counts.most_common())


if __name__ == "__main__":
    main()
