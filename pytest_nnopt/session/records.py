"""From what was seen to what is recorded: facts, comparisons and samples in their stored form."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.schema import (
    CompileRecord,
    GraphBreakRecord,
    KernelRecord,
    LeafRecord,
    MemoryRecord,
    ProcessRecord,
    RatioRecord,
    RecompileRecord,
)
from pytest_nnopt.files import short_path
from pytest_nnopt.model import Variant
from pytest_nnopt.statistics.estimate import drift_of, estimate_log_ratio

if TYPE_CHECKING:
    from pytest_nnopt.model import CompileFacts, CompileTime, GraphBreak, ProcessSample
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.numerics.summary import LeafSummary
    from pytest_nnopt.torch_backend.kernels import DeviceProfile
    from pytest_nnopt.torch_backend.memory import MemoryFacts
    from pytest_nnopt.torch_backend.timing import Timed


def record_process(timed: Timed, facts: CompileFacts | None = None) -> ProcessRecord:
    """Summarise one process's blocks as medians and the log-ratios that decisions use.

    Args:
        timed: what was measured.
        facts: how the candidate was compiled, where this process compiled it anew.
    """
    sample = timed.sample
    variants = tuple(sample.calls_per_block)
    return ProcessRecord(
        seconds={variant.value: statistics.median(sample.seconds(variant)) for variant in variants},
        candidate_to_reference=_ratio(sample, Variant.REFERENCE),
        candidate_to_yardstick=_ratio(sample, Variant.YARDSTICK) if Variant.YARDSTICK in variants else None,
        warmup_seconds=sample.warmup_seconds,
        is_steady=sample.is_steady,
        dropped_blocks=sample.dropped_blocks,
        disturbances=dict(sample.disturbances),
        wall_seconds=timed.wall_seconds,
        waiting=tuple(sorted(side.value for side in timed.waiting)),
        host_loop_seconds=timed.host_loop_seconds,
        kernels={} if timed.device is None else _kernels(timed.device),
        code={} if facts is None else dict(facts.code),
        concerns={concern.kind.value: concern.text for concern in timed.concerns},
    )


def _kernels(profile: DeviceProfile) -> dict[str, KernelRecord]:
    return {
        name: KernelRecord(count=kernel.count_per_call, seconds=kernel.seconds_per_call, launch=kernel.launch)
        for name, kernel in profile.kernels.items()
    }


def _ratio(sample: ProcessSample, denominator: Variant) -> RatioRecord:
    times = sample.seconds(Variant.CANDIDATE), sample.seconds(denominator)
    estimate = estimate_log_ratio(*times)
    return RatioRecord(
        log_ratio=estimate.log_ratio, variance=estimate.variance, blocks=estimate.blocks, drift=drift_of(*times)
    )


def record_memory(candidate: MemoryFacts, reference: MemoryFacts) -> MemoryRecord:
    """Keep both sides' bytes per call."""
    sides = {"candidate": candidate, "reference": reference}
    kinds = ("peak_bytes", "steady_bytes", "saved_bytes", "gradient_bytes")
    return MemoryRecord(**{f"{name}_{kind}": getattr(side, kind) for name, side in sides.items() for kind in kinds})


def record_compile(facts: CompileFacts, time: CompileTime | None = None) -> CompileRecord:
    """Keep a compilation's exact figures, what it cost, and the places and kernels behind the figures."""
    return CompileRecord(
        status=facts.status.value,
        used=facts.used,
        graphs=facts.graphs,
        graph_breaks=None if facts.graph_breaks is None else len(facts.graph_breaks),
        recompiles=None if facts.recompiles is None else len(facts.recompiles),
        eager_frames=facts.eager_frames,
        **(asdict(time) if time is not None else {}),
        breaks=_places(facts.graph_breaks or ()),
        recompiled=tuple(
            RecompileRecord(
                function=r.function, reason=r.reason, file=r.file and short_path(r.file), line=r.line, code=r.code
            )
            for r in facts.recompiles or ()
        ),
        eager_reasons=_places(facts.eager_reasons),
        skips=_places(facts.cudagraph_skips),
        kernels=None if facts.kernels is None else dict(facts.kernels),
        external_kernels=None if facts.external_kernels is None else dict(facts.external_kernels),
        graph_ops=None if facts.graph_ops is None else dict(facts.graph_ops),
        counters=dict(facts.counters),
    )


def _places(places: Iterable[GraphBreak]) -> tuple[GraphBreakRecord, ...]:
    return tuple(
        GraphBreakRecord(
            reason=place.reason, file=place.file and short_path(place.file), line=place.line, code=place.code
        )
        for place in places
    )


def record_numerics(comparison: NumericsComparison) -> dict[str, LeafRecord]:
    """Keep each measured leaf's error figures in brief, by its path."""
    return {summary.path: _record_leaf(summary) for summary in comparison.summary()}


def _record_leaf(summary: LeafSummary) -> LeafRecord:
    return LeafRecord(
        dtype=summary.dtype,
        shape=summary.shape,
        candidate_nrmse=_finite(getattr(summary.candidate, "nrmse", None)),
        candidate_max=_finite(getattr(summary.candidate, "maximum", None)),
        reference_nrmse=_finite(getattr(summary.reference, "nrmse", None)),
        reference_max=_finite(getattr(summary.reference, "maximum", None)),
        norm=_finite(summary.rms),
        sample=tuple(value for _, value in summary.sample if math.isfinite(value)),
    )


def _finite(value: float | None) -> float | None:
    """Return what JSON can hold: None for a figure that is unknown or not finite."""
    return value if value is not None and math.isfinite(value) else None
