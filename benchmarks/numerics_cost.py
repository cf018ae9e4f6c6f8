"""Time and memory of a comparison, beside ``torch.testing.assert_close`` on the same tensors.

Run with ``python benchmarks/numerics_cost.py [elements]``; 100 million by default. One thread, float32, best of three.
Writes ``benchmarks/results/numerics_cost.md``.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from pytest_nnopt.numerics import NumericsComparison, Observation, Tolerance, compare_observations
from pytest_nnopt.numerics.leaves import ArrayLeaf, Chunk, LeafKind
from pytest_nnopt.torch_backend.tensors import leaves_of

RESULTS = Path(__file__).parent / "results" / "numerics_cost.md"


def main() -> None:
    """Measure and write the table."""
    torch.set_num_threads(1)
    elements = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000_000
    lines = [
        f"{elements:,} float32 elements, one thread, torch {torch.__version__}, best of three.",
        "",
        "| comparison | seconds | times assert_close | passes | extra copies of the leaf |",
        "|---|---|---|---|---|",
        *(measure_rows(elements)),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def measure_rows(elements: int) -> list[str]:
    """Return a table row for each way to compare."""
    torch.manual_seed(0)
    truth = torch.randn(elements, dtype=torch.float64)
    reference, candidate = truth.float(), (truth * (1 + 2.0**-25)).float()
    spoilt = candidate.clone()
    spoilt[elements // 2] += 0.01
    nudged = truth * (1 + 2.0**-24)
    base, base_copies = best_of_three(
        lambda: torch.testing.assert_close(candidate, reference, rtol=1e-3, atol=1e-3), reference
    )
    rows = [f"| `torch.testing.assert_close` | {base:.2f} | 1.0 | | {base_copies:.2f} |"]
    for name, actual, true, moved, tolerance in (
        ("declared tolerance", candidate, None, None, Tolerance(rtol=1e-3, atol=1e-3)),
        ("no float64 run", candidate, None, None, Tolerance()),
        ("against float64", candidate, truth, None, Tolerance()),
        ("against float64, nudged", candidate, truth, nudged, Tolerance()),
        ("the same with one wrong element", spoilt, truth, nudged, Tolerance()),
    ):
        runs = [counted(tensor) for tensor in (actual, reference, true, moved)]
        seconds, copies = best_of_three(partial(compare, runs, tolerance), reference)
        passes = ((runs[0] and runs[0][1][0]) or 0) / 3
        rows.append(f"| {name} | {seconds:.2f} | {seconds / base:.1f} | {passes:.0f} | {copies:.2f} |")
    return rows


Counted = tuple[ArrayLeaf, list[int]]


def counted(tensor: torch.Tensor | None) -> Counted | None:
    """Make a leaf that counts how often it is read from start to end."""
    if tensor is None:
        return None
    (leaf,) = leaves_of("output", LeafKind.OUTPUT, tensor)
    assert isinstance(leaf, ArrayLeaf)
    reads = [0]
    read = leaf.read

    def count() -> Iterator[Chunk]:
        reads[0] += 1
        return read()

    return ArrayLeaf(leaf.path, leaf.kind, leaf.shape, leaf.dtype, leaf.device, leaf.strides, leaf.layout, count), reads


def compare(runs: list[Counted | None], tolerance: Tolerance) -> NumericsComparison:
    """Compare the runs' leaves."""
    candidate, reference, truth, nudged = (run and Observation((run[0],)) for run in runs)
    assert candidate is not None
    assert reference is not None
    return compare_observations(candidate, reference, truth, tolerance, nudged=nudged)


def best_of_three(run: Callable[[], object], leaf: torch.Tensor) -> tuple[float, float]:
    """Return the shortest time in seconds and the growth of the process's peak memory in copies of the leaf."""
    before = reset_peak()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), max(0, peak_bytes() - before) / (leaf.numel() * leaf.element_size())


def reset_peak() -> int:
    """Reset the kernel's record of the peak resident size where that is allowed, and return the peak in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("peak memory cannot be reset here; copies are a lower bound", file=sys.stderr)
    return peak_bytes()


def peak_bytes() -> int:
    """Return the largest resident size so far, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
