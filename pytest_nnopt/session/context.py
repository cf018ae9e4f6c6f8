"""What readers of a report want to see beside verdict and evidence, gathered once a case is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_nnopt.results import CaseContext, HistoryRecord, LeafResult, RatioSummary
from pytest_nnopt.statistics.distributions import t_quantile
from pytest_nnopt.statistics.evidence import summarise_processes
from pytest_nnopt.verdict import estimate_of

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord, Recording
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.numerics import LeafComparison
    from pytest_nnopt.statistics.prior import VariancePrior
    from pytest_nnopt.verdict import Observed, Question

_CONFIDENCE = 0.95
_LARGEST_LOG_RATIO = 69.0
"""Beyond any two times, and its exponential is a ratio that a results file may hold."""


def describe_context(
    question: Question,
    observed: Observed,
    environment: Environment,
    recordings: Sequence[Recording] = (),
    recorded: Environment | None = None,
) -> CaseContext:
    """Gather the context of a judged case.

    Args:
        question: what the case was asked.
        observed: what was seen of it.
        environment: fingerprint of this process.
        recordings: the baseline's recordings that may be compared with, oldest first.
        recorded: fingerprint of the baseline, where it is known.
    """
    level = question.baseline
    return CaseContext(
        environment=dict(environment.fields),
        baseline_environment=None if recorded is None else dict(recorded.fields),
        leaves=tuple(_describe_leaf(leaf) for leaf in observed.numerics.leaves) if observed.numerics else (),
        seeds=dict(observed.numerics.seeds) if observed.numerics else {},
        times=summarise_times(observed.timing, question.prior),
        level=level,
        level_times=None if level is None else summarise_times(level.timing, question.prior),
        history=tuple(_describe_history(recordings, question.prior)),
    )


def summarise_times(timing: Sequence[ProcessRecord], prior: VariancePrior) -> RatioSummary | None:
    """Return candidate's time over the reference's with its 95 % interval; None of no processes."""
    if not timing:
        return None
    evidence = summarise_processes([estimate_of(process) for process in timing], prior)
    tail = (1 - _CONFIDENCE) / 2
    half = t_quantile(tail, evidence.noise.degrees_of_freedom) * evidence.standard_error
    ratio, low, high = (_exponential(evidence.log_ratio + shift) for shift in (0.0, -half, half))
    return RatioSummary(ratio=ratio, low=low, high=high, confidence=_CONFIDENCE, processes=len(timing))


def _exponential(log_ratio: float) -> float:
    return math.exp(min(max(log_ratio, -_LARGEST_LOG_RATIO), _LARGEST_LOG_RATIO))


def _describe_history(recordings: Sequence[Recording], prior: VariancePrior) -> list[HistoryRecord]:
    summaries = [(recording, summarise_times(recording.evidence.timing, prior)) for recording in recordings]
    return [
        HistoryRecord(recorded=recording.recorded, revision=recording.revision, times=times)
        for recording, times in summaries
        if times is not None
    ]


def _describe_leaf(leaf: LeafComparison) -> LeafResult:
    figures = {"candidate": leaf.candidate, "reference": leaf.reference, "limit": leaf.limits}
    nrmse = {f"{side}_nrmse": _finite(getattr(found, "nrmse", None)) for side, found in figures.items()}
    maximum = {f"{side}_max": _finite(getattr(found, "maximum", None)) for side, found in figures.items()}
    return LeafResult(
        path=leaf.path,
        kind=leaf.kind.value,
        dtype=leaf.dtype,
        shape=leaf.shape,
        lane=leaf.lane.value,
        problem=leaf.problem,
        excess=_finite(leaf.excess),
        note=leaf.note,
        **nrmse,
        **maximum,
    )


def _finite(value: float | None) -> float | None:
    """Return what JSON can hold: None for a figure that is unknown or not finite."""
    return value if value is not None and math.isfinite(value) else None
