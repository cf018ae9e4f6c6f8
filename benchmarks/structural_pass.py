"""What looking at a compilation costs beyond compiling once: the counters, the copies, the second call.

Run ``python benchmarks/structural_pass.py``; it writes ``benchmarks/results/structural_pass.md``.

Each model is compiled in turn by plain ``torch.compile`` with one call, and as a case compiles it: on copies, with the
observer listening, once more on the same inputs, and with what was seen as a record. Both have an empty compiler that
finds machine code at hand and no compiled graphs, so that no C++ compiler's seconds hide the difference. The cost is
the median of the differences within pairs, whose order changes from one to the next.
"""

from __future__ import annotations

import copy
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "integration"))

from planted_model import Branches, Tower

from pytest_nnopt.session.records import record_compile
from pytest_nnopt.torch_backend.compile_time import graph_caches_off
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_side
from pytest_nnopt.torch_backend.isolation import isolated_compilation
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.units import format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.model import CompileFacts

RESULT = Path(__file__).parent / "results" / "structural_pass.md"
PAIRS = 10
LIMIT_SECONDS = 0.2


def main() -> int:
    """Measure every model, write the table, and return 1 where looking costs more than the limit."""
    rows, costs = [], []
    with tempfile.TemporaryDirectory() as directory, graph_caches_off():
        for name, side in models().items():
            plain, looked, facts = measure(side, Path(directory))
            costs.append([with_facts - without for with_facts, without in zip(looked, plain, strict=True)])
            rows.append(format_row(name, facts, plain, looked, costs[-1]))
    text = describe(rows)
    RESULT.write_text(text, encoding="utf-8")
    print(text)
    return int(any(statistics.median(cost) > LIMIT_SECONDS for cost in costs))


def models() -> dict[str, Side]:
    """Return small and larger models, whole and broken, in use and in training."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    stack = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    training = ExecutionMode(is_grad_enabled=True)
    text = torch.randn(4, 16, 64)
    return {
        "two linear layers": side_of(Tower().eval(), torch.randn(256, 64)),
        "the same with a graph break": side_of(Branches().eval(), torch.randn(256, 64)),
        "6 transformer layers": side_of(stack.eval(), text),
        "6 transformer layers, training step": side_of(
            copy.deepcopy(stack).train(), text, loss=torch.sum, mode=training
        ),
    }


def side_of(module: torch.nn.Module, x: torch.Tensor, **fields: Any) -> Side:
    """Make a side of a module with one input."""
    return Side(module, (x,), module=module, **fields)


def measure(side: Side, machine_code: Path) -> tuple[list[float], list[float], CompileFacts]:
    """Return the seconds of compiling without and with a look, pair by pair, and what was seen."""
    compile_with_facts(side, machine_code)  # imports what the compiler imports, and builds the machine code
    plain, looked, facts = [], [], []
    for pair in range(PAIRS):
        for is_looking in (False, True) if pair % 2 else (True, False):
            if is_looking:
                seconds, found = compile_with_facts(side, machine_code)
                looked.append(seconds)
                facts.append(found)
            else:
                plain.append(compile_alone(side, machine_code))
    return plain, looked, facts[0]


def compile_alone(side: Side, machine_code: Path) -> float:
    """Compile a copy as a user does and call it once; return the seconds."""
    module = copy.deepcopy(side.module)
    assert module is not None
    with isolated_compilation(cache_dir=machine_code), side.mode.active():
        start = time.perf_counter()
        output = torch.compile(module)(*side.args)
        if side.loss is not None:
            side.loss(output).backward()
        return time.perf_counter() - start


def compile_with_facts(side: Side, machine_code: Path) -> tuple[float, CompileFacts]:
    """Compile as a case does and record what was seen; return the seconds and the facts."""
    with isolated_compilation(cache_dir=machine_code):
        start = time.perf_counter()
        facts = compile_side(side, [CompileStep()]).facts
        record_compile(facts)
        return time.perf_counter() - start, facts


def format_row(name: str, facts: CompileFacts, plain: list[float], looked: list[float], cost: list[float]) -> str:
    """Return a table row: medians, and the middle half of the pairs' differences."""
    low, _, high = statistics.quantiles(cost, n=4)
    medians = [format_seconds(statistics.median(side)) for side in (plain, looked)]
    figures = f"{facts.graphs} | {facts.counters['calls_captured']} | {medians[0]} | {medians[1]}"
    middle = f"{1e3 * low:+.0f} to {1e3 * high:+.0f} ms"
    return f"| {name} | {figures} | {1e3 * statistics.median(cost):+.0f} ms | {middle} |"


def describe(rows: list[str]) -> str:
    """Return the page."""
    return "\n".join(
        [
            "# Cost of looking at a compilation",
            "",
            f"Made by `python benchmarks/structural_pass.py`: Python {platform.python_version()}, torch "
            f"{torch.__version__}, {os.cpu_count()} cores, {PAIRS} pairs of compilations a model.",
            "",
            "| model | graphs | calls captured | compiled alone | with facts | cost | middle half of the pairs |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Limit {format_seconds(LIMIT_SECONDS)} a case. The cost holds the model's copy, the observer, the second "
            "call that shows a model which compiles on every call, the state put back, and the reading of the facts.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
