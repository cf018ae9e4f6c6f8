"""Run the compiler's tests under several torch releases, and show what each release can tell.

    python benchmarks/torch_versions.py 2.4.1 2.13.0
    python benchmarks/torch_versions.py --python venv-2.4/bin/python --python venv-new/bin/python

A version gets a fresh virtual environment with this checkout in it. On Linux PyPI's torch brings gigabytes of CUDA
libraries; ``--index-url https://download.pytorch.org/whl/cpu`` avoids them. An interpreter given by ``--python`` is
used as it is; it needs torch and the other dependencies, hypothesis and pytest. The table goes to
``benchmarks/results/torch_versions.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "torch_versions.md"
ROOMS = ("isolation", "compiling", "counters", "output_code", "reasons", "memory", "compile_time", "work")
TESTS = [f"tests/unit/torch_backend/test_{room}.py" for room in ROOMS]


def main() -> int:
    """Test every release asked for, print the table, and return 1 if one fails."""
    arguments = _parse_arguments()
    if arguments.probe:
        print(json.dumps(probe()))
        return 0
    with tempfile.TemporaryDirectory(prefix="nnopt-versions-") as directory:
        built = [_build(Path(directory), version, arguments.index_url) for version in arguments.versions]
        reports = [_report(python) for python in [*arguments.python, *built]]
    text = _page(reports)
    RESULT.write_text(text, encoding="utf-8")
    print(text)
    return int(any(report["failed"] for report in reports))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", help="torch releases to install")
    parser.add_argument("--python", type=Path, action="append", default=[], help="a prepared interpreter")
    parser.add_argument("--index-url", help="where to install torch from")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _build(directory: Path, version: str, index_url: str | None) -> Path:
    environment = directory / version
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    source = ["--index-url", index_url] if index_url else []
    for packages in ([*source, f"torch=={version}"], ["setuptools", "hypothesis", "pytest", str(ROOT)]):
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return python


def _report(python: Path) -> dict[str, Any]:
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    pytest = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:nnopt",
        "--show-capture=no",
        *TESTS,
    ]
    tests = subprocess.run(pytest, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    probed = subprocess.run([python, __file__, "--probe"], env=settings, capture_output=True, text=True, check=True)
    if tests.returncode:
        print(tests.stdout, tests.stderr, file=sys.stderr)
    lines = [line.strip("= ") for line in tests.stdout.splitlines() if line.strip()]
    summary = (lines[-1] if lines else "no test ran").partition(" in ")[0]
    return {**json.loads(probed.stdout.splitlines()[-1]), "tests": summary, "failed": tests.returncode != 0}


def _page(reports: list[dict[str, Any]]) -> str:
    """Return a table with a column for each release."""
    names = [name for name in reports[0] if name not in ("failed", "torch")]
    columns = [report["torch"] for report in reports]
    rows = [[name, *(_cell(report[name]) for report in reports)] for name in names]
    return "\n".join(
        [
            "# What each torch release can tell",
            "",
            f"Made by `python benchmarks/torch_versions.py`: Python {sys.version.split()[0]}, CPU.",
            "",
            f"| | {' | '.join(columns)} |",
            f"|{'---|' * (len(columns) + 1)}",
            *(f"| {' | '.join(row)} |" for row in rows),
            "",
        ]
    )


def _cell(value: object) -> str:
    """Return a value as a cell; text of the compiler's as code."""
    if value is None:
        return "unknown"
    return str(value).replace("|", "\\|")


def probe() -> dict[str, object]:
    """Plant a few faults in the running interpreter and return what the facts say about each."""
    import torch

    facts = _planted_facts()
    (broken, *_), (printed, *_) = facts["branches"].graph_breaks, facts["prints"].graph_breaks
    changing, counting, storm, coded = (facts[name] for name in ("changing", "counting", "storm", "coded"))
    return {
        "torch": torch.__version__,
        "branch on a value: reason": _short(broken.reason),
        "its line": f"`{broken.code}`",
        "the same in a method that `forward` calls": _short(facts["branches inside"].graph_breaks[0].reason),
        "`print`: reason": _short(printed.reason),
        "explanation and advice, lines": len(printed.notes),
        "recompiles, three static shapes": len(changing.recompiles),
        "their reason": changing.recompiles[0].reason,
        "a counter that a guard reads": counting.recompiles[0].reason,
        "line of that guard": counting.recompiles[0].code,
        "storm of shapes: recompiles, eager frames": f"{len(storm.recompiles)}, {storm.eager_frames}",
        "reason at the limit": _short(storm.eager_reasons[0].reason) if storm.eager_reasons else None,
        "a linear layer in the histogram": " ".join(facts["layer"].graph_ops),
        "external kernels of a sort": " ".join(coded.external_kernels),
        **{
            name.replace("_", " "): coded.counters.get(name)
            for name in ("generated_kernels", "guards", "nodes_before_fusion", "fused_nodes", "bytes_accessed")
        },
        "cudagraph skips": coded.counters.get("cudagraph_skips"),
        "cache misses": coded.counters.get("fx_cache_misses"),
    }


def _planted_facts() -> dict[str, Any]:
    """Compile a model for each fault and return the facts by its name."""
    import torch

    class Counts(torch.nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x * self.calls

    class BranchesInside(torch.nn.Module):
        def disturb(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.disturb(x)

    def branching(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1

    def printing(x: torch.Tensor) -> torch.Tensor:
        print("looking", file=sys.stderr)
        return x + 1

    def sorting(x: torch.Tensor) -> torch.Tensor:
        return (x.sin().sort(dim=-1).values + 1).sum()

    return {
        "branches": _facts_of(branching, 4, backend="eager"),
        "branches inside": _facts_of(BranchesInside(), 4, backend="eager"),
        "prints": _facts_of(printing, 4, backend="eager"),
        "changing": _facts_of(torch.sin, 2, 3, 4, backend="eager", dynamic=False),
        "counting": _facts_of(Counts(), 4, backend="eager"),
        "storm": _facts_of(torch.sin, *range(2, 14), backend="eager", dynamic=False),
        "layer": _facts_of(torch.nn.Linear(8, 8), 4, backend="eager"),
        "coded": _facts_of(sorting, 4),
    }


def _facts_of(function: Any, *sizes: int, **step: Any) -> Any:
    import torch

    from pytest_nnopt.torch_backend.compiling import CompileStep, Inputs, compile_side
    from pytest_nnopt.torch_backend.isolation import isolated_compilation
    from pytest_nnopt.torch_backend.side import Side

    first, *others = [torch.ones(size, 8) for size in sizes]
    samples: list[Inputs] = [((sample,), {}) for sample in others]
    with isolated_compilation():
        return compile_side(Side(function, (first,)), [CompileStep(**step)], samples=samples).facts


def _short(reason: str) -> str:
    return reason if len(reason) <= 60 else f"{reason[:58]} …"


if __name__ == "__main__":
    sys.exit(main())
