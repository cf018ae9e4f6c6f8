"""The figures behind a verdict, one line a kind."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

from pytest_nnopt.report.noise import describe_case_noise, noise_of
from pytest_nnopt.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import CompileRecord, Evidence, LeafRecord, MemoryRecord, ProcessRecord


def describe_evidence(evidence: Evidence) -> Iterator[str]:
    """Say what was measured: times, their scatter, kernels, memory, compilation, and errors by leaf."""
    noise = noise_of(evidence.timing)
    if noise is not None:
        times = [f"{variant} {format_seconds(seconds)}" for variant, seconds in median_seconds(evidence.timing).items()]
        yield f"times: {', '.join(times)} a call"
        yield f"noise: {describe_case_noise(noise)}"
    if evidence.memory is not None:
        yield f"memory: {_describe_memory(evidence.memory)}"
    if evidence.compile is not None:
        yield f"compilation: {_describe_compilation(evidence.compile)}"
    for path, leaf in evidence.numerics.items():
        yield f"{path}: {_describe_leaf(leaf)}"


def median_seconds(timing: Sequence[ProcessRecord]) -> dict[str, float]:
    """Return the seconds per call of each variant, each the median over processes.

    On a GPU those of the candidate's kernels follow, and the wall time of a single call of it.
    """
    seconds = {
        variant: median(process.seconds[variant] for process in timing if variant in process.seconds)
        for variant in dict.fromkeys(variant for process in timing for variant in process.seconds)
    }
    kernels = [process.device_seconds for process in timing if process.device_seconds is not None]
    walls = [process.wall_seconds for process in timing if process.wall_seconds is not None]
    return seconds | {
        name: median(figures) for name, figures in (("kernels", kernels), ("single call", walls)) if figures
    }


def _describe_memory(memory: MemoryRecord) -> str:
    peaks = {"candidate": memory.candidate_peak_bytes, "reference": memory.reference_peak_bytes}
    known = [f"{side} {format_bytes(peak)}" for side, peak in peaks.items() if peak is not None]
    return f"{', '.join(known)} at the peak of a call" if known else "unknown"


def _describe_compilation(record: CompileRecord) -> str:
    counts = {
        "graphs": record.graphs,
        "graph breaks": record.graph_breaks,
        "recompiles": record.recompiles,
        "eager frames": record.eager_frames,
    }
    parts = [record.status.replace("_", " ") + (f" with {record.used}" if record.used else "")]
    parts += [f"{count} {name}" for name, count in counts.items() if count is not None]
    if record.cold_seconds is not None:
        parts.append(f"{format_seconds(record.cold_seconds)} from nothing")
    return ", ".join(parts)


def _describe_leaf(leaf: LeafRecord) -> str:
    shape = "x".join(map(str, leaf.shape)) or "scalar"
    errors = {
        "rms error": (leaf.candidate_nrmse, leaf.reference_nrmse),
        "largest error": (leaf.candidate_max, leaf.reference_max),
    }
    known = [
        f"{name} {candidate:.2g}" + ("" if reference is None else f" (reference {reference:.2g})")
        for name, (candidate, reference) in errors.items()
        if candidate is not None
    ]
    return ", ".join([f"{leaf.dtype} {shape}", *known])
