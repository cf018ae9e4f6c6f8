"""The figures of a run as OpenMetrics text, which GitLab compares between the branches of a merge request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pytest_nnopt.model import CheckName
from pytest_nnopt.report.figures import median_seconds

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult, RunResults


class _Metric(NamedTuple):
    name: str
    unit: str
    help: str
    figure: Callable[[CaseResult], float | None]


def render_openmetrics(results: RunResults) -> str:
    """Return one gauge a figure with one sample a case; a figure that was not measured has no sample."""
    lines = [line for metric in _METRICS for line in _family(metric, results.cases)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _family(metric: _Metric, results: Sequence[CaseResult]) -> list[str]:
    figures = {result.id: metric.figure(result) for result in results}
    samples = [
        f'{metric.name}{{case="{_escape(case_id)}"}} {figure!r}'
        for case_id, figure in figures.items()
        if figure is not None
    ]
    unit = [f"# UNIT {metric.name} {metric.unit}"] if metric.unit else []
    return [f"# TYPE {metric.name} gauge", *unit, f"# HELP {metric.name} {metric.help}", *samples] if samples else []


def _seconds(variant: str) -> Callable[[CaseResult], float | None]:
    return lambda result: median_seconds(result.timing).get(variant)


def _check_value(name: CheckName) -> Callable[[CaseResult], float | None]:
    return lambda result: next((check.value for check in result.checks if check.name is name), None)


def _peak_bytes(result: CaseResult) -> float | None:
    return None if result.memory is None else result.memory.candidate_peak_bytes


def _graph_breaks(result: CaseResult) -> float | None:
    return None if result.compile is None else result.compile.graph_breaks


def _recompiles(result: CaseResult) -> float | None:
    return None if result.compile is None else result.compile.recompiles


def _compile_seconds(result: CaseResult) -> float | None:
    return None if result.compile is None else result.compile.cold_seconds


_METRICS = (
    _Metric("nnopt_failed", "", "1 where the case fails its test.", lambda result: int(result.outcome.is_failure)),
    _Metric("nnopt_speedup_ratio", "ratio", "Reference time over candidate time.", lambda result: result.speedup),
    _Metric(
        "nnopt_latency_change_ratio", "ratio", "Latency change against the baseline.", _check_value(CheckName.LATENCY)
    ),
    _Metric("nnopt_candidate_seconds", "seconds", "Candidate's time per call.", _seconds("candidate")),
    _Metric("nnopt_reference_seconds", "seconds", "Reference's time per call.", _seconds("reference")),
    _Metric("nnopt_kernels_seconds", "seconds", "The candidate's kernels' own time per call.", _seconds("kernels")),
    _Metric("nnopt_peak_memory_bytes", "bytes", "Candidate's memory at the peak of a call.", _peak_bytes),
    _Metric("nnopt_compile_seconds", "seconds", "Wall time of compiling from nothing.", _compile_seconds),
    _Metric("nnopt_graph_breaks", "", "Graph breaks.", _graph_breaks),
    _Metric("nnopt_recompiles", "", "Recompilations.", _recompiles),
)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
