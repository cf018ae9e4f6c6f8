"""A case's facts as flat figures by name, as experiment trackers take them; what is unknown is left out."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from pytest_nnopt.results import speedup_of

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, Evidence
    from pytest_nnopt.results import CaseResult

_COMPILE = ("graphs", "graph_breaks", "recompiles", "eager_frames", "cold_seconds", "warm_seconds", "work_calls")


def compile_figures(compilation: CompileRecord) -> dict[str, float]:
    """Return the counters of a compilation and what it cost: ``compile/graph_breaks``."""
    values = {name: getattr(compilation, name) for name in _COMPILE} | dict(compilation.counters)
    return {f"compile/{name}": float(value) for name, value in values.items() if value is not None}


def measured_figures(evidence: Evidence) -> dict[str, float]:
    """Return speedup, median seconds of each side over processes, and bytes: ``memory/candidate_peak_bytes``.

    On a GPU also the candidate's device time and launches per call: ``time/device_seconds``, ``time/launches``.
    """
    memory = {} if evidence.memory is None else evidence.memory.model_dump(exclude_none=True)
    figures = {f"memory/{name}": float(value) for name, value in memory.items()}
    for side in ("reference", "candidate"):
        seconds = [process.seconds[side] for process in evidence.timing if side in process.seconds]
        if seconds:
            figures[f"time/{side}_seconds"] = statistics.median(seconds)
    for name in ("device_seconds", "launches"):
        values = [value for process in evidence.timing if (value := getattr(process, name)) is not None]
        if values:
            figures[f"time/{name}"] = statistics.median(values)
    speedup = speedup_of(evidence.timing)
    return figures if speedup is None else {**figures, "time/speedup": speedup}


def verdict_figures(result: CaseResult) -> dict[str, float]:
    """Return whether the case failed, and the value of each check that has one: ``check/latency``."""
    values = {f"check/{check.name.value}": check.value for check in result.checks if check.value is not None}
    return {**values, "failed": float(result.outcome.is_failure)}
