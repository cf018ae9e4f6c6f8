"""What looking at a compilation costs beyond compiling once: the copies, the observer, the second call, the facts.

Run ``python benchmarks/structural_pass.py``; it writes ``benchmarks/results/structural_pass.md``.

Each model is compiled as a case does it, several times. The first call, in which torch compiles, is what a user pays
anyway; everything else is the cost of looking: the model's copy, what the observer's listeners do within that call, the
second call that shows a model which compiles every time, the state put back, the facts read and recorded. Both parts
are timed directly, because the difference of two whole compilations drowns in the noise of either. Machine code is at
hand and compiled graphs are not, so that every compilation is whole and no C++ compiler runs. Seconds are of processor
time, which other processes on the machine disturb least.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "integration"))

from planted_model import Branches, Tower  # type: ignore[import-not-found]

from pytest_nnopt.session.records import record_compile
from pytest_nnopt.torch_backend import compiling, counters
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_side
from pytest_nnopt.torch_backend.isolation import graph_caches_off, isolated_compilation
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.units import format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.model import CompileFacts

RESULT = Path(__file__).parent / "results" / "structural_pass.md"
REPEATS = 3
LIMIT_SECONDS = 0.2
LISTENERS = ("graph", "module", "scheduler", "cudagraph_skip")


def main() -> int:
    """Measure every model, write the table, and return 1 where looking costs more than the limit."""
    rows, costs = [], []
    with tempfile.TemporaryDirectory() as directory, graph_caches_off():
        for name, side in models().items():
            look(side, Path(directory))  # imports what the compiler imports, and builds the machine code
            looks = [look(side, Path(directory)) for _ in range(REPEATS)]
            costs.append(statistics.median(cost for _, cost, _ in looks))
            rows.append(format_row(name, looks))
    text = describe(rows)
    RESULT.write_text(text, encoding="utf-8")
    print(text)
    return int(max(costs) > LIMIT_SECONDS)


def models() -> dict[str, Side]:
    """Return small and larger models, whole and broken, in use and in training."""
    torch.manual_seed(0)
    training = ExecutionMode(is_grad_enabled=True)
    text = torch.randn(4, 16, 64)
    return {
        "two linear layers": side_of(Tower().eval(), torch.randn(256, 64)),
        "the same with a graph break": side_of(Branches().eval(), torch.randn(256, 64)),
        "6 transformer layers": side_of(encoder(6).eval(), text),
        "2 transformer layers, training step": side_of(encoder(2), text, loss=torch.sum, mode=training),
    }


def encoder(layers: int) -> torch.nn.Module:
    """Make a stack of transformer layers."""
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    return torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def side_of(module: torch.nn.Module, x: torch.Tensor, **fields: Any) -> Side:
    """Make a side of a module with one input."""
    return Side(module, (x,), module=module, **fields)


def look(side: Side, machine_code: Path) -> tuple[float, float, CompileFacts]:
    """Compile as a case does; return the seconds of compiling, those of looking, and what was seen."""
    processor_time = mock.patch.object(compiling, "time", SimpleNamespace(perf_counter=time.process_time))
    with isolated_compilation(cache_dir=machine_code), timed_listeners() as listened, processor_time:
        start = time.process_time()
        compiled = compile_side(side, [CompileStep()])
        record_compile(compiled.facts)
        whole = time.process_time() - start
    assert compiled.seconds is not None
    heard = sum(listened)
    return compiled.seconds - heard, whole - compiled.seconds + heard, compiled.facts


@contextmanager
def timed_listeners() -> Iterator[list[float]]:
    """Collect the seconds that each call of a listener takes."""
    seconds: list[float] = []

    def timed(listener: Callable[..., None]) -> Callable[..., None]:
        def listen(*args: Any, **kwargs: Any) -> None:
            start = time.process_time()
            listener(*args, **kwargs)
            seconds.append(time.process_time() - start)

        return listen

    originals = {name: getattr(counters._Heard, name) for name in LISTENERS}
    for name, original in originals.items():
        setattr(counters._Heard, name, timed(original))
    try:
        yield seconds
    finally:
        for name, original in originals.items():
            setattr(counters._Heard, name, original)


def format_row(name: str, looks: list[tuple[float, float, CompileFacts]]) -> str:
    """Return a table row: medians, and the range of the cost."""
    once, looking, facts = zip(*looks, strict=True)
    figures = f"{facts[0].graphs} | {facts[0].counters['calls_captured']}"
    medians = " | ".join(format_seconds(statistics.median(seconds)) for seconds in (once, looking))
    return f"| {name} | {figures} | {medians} | {format_seconds(min(looking))} to {format_seconds(max(looking))} |"


def describe(rows: list[str]) -> str:
    """Return the page."""
    return "\n".join(
        [
            "# Cost of looking at a compilation",
            "",
            f"Made by `python benchmarks/structural_pass.py`: Python {platform.python_version()}, torch "
            f"{torch.__version__}, {os.cpu_count()} cores, {REPEATS} compilations a model, processor time.",
            "",
            "| model | graphs | calls captured | compiling once | looking | range |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Limit {format_seconds(LIMIT_SECONDS)} a case, held by the median. Looking is the model's copy, the "
            "observer, the second call that shows a model which compiles every time, the state put back, the facts.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
