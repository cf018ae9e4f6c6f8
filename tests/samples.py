"""A run with every kind of outcome, as a reviewer may get to see it."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from pytest_nnopt.baseline.schema import CompileRecord, Evidence, GraphBreakRecord, KernelRecord, MemoryRecord
from pytest_nnopt.model import Check, CheckName, Interval, Outcome, Verdict
from pytest_nnopt.results import CaseContext, CaseResult, HistoryRecord, LeafResult, RatioSummary, RunResults
from tests.builders import RECORDED, make_check, make_compile_record, make_environment, make_process, make_timing

HERE = make_environment(python="3.11.7", gpu=None)
THERE = make_environment(python="3.12.1", gpu=None)

BREAK = GraphBreakRecord(reason="Failed to trace builtin print", file="model.py", line=14, code="print(y.mean())")


def make_ratio(ratio: float, *, spread: float = 0.02, processes: int = 8) -> RatioSummary:
    """An estimate with an interval of the given relative half width."""
    return RatioSummary(
        ratio=ratio, low=ratio * (1 - spread), high=ratio * (1 + spread), confidence=0.95, processes=processes
    )


def make_leaf(path: str = "output", excess: float | None = 0.1, **fields: Any) -> LeafResult:
    """A leaf whose errors are that multiple of their limits."""
    share = excess or 0.0
    usual: dict[str, Any] = {
        "kind": "output",
        "dtype": "float32",
        "shape": (64, 256),
        "lane": "float64",
        "candidate_nrmse": 1e-6 * share,
        "candidate_max": 4e-6 * share,
        "reference_nrmse": 5e-7,
        "reference_max": 1e-6,
        "limit_nrmse": 1e-6,
        "limit_max": 5e-6,
    }
    return LeafResult(path=path, excess=excess, **{**usual, **fields})


def make_context(ratio: float = 0.5, before: float = 0.5, **fields: Any) -> CaseContext:
    """What belongs to a case that was timed and compared."""
    history = tuple(
        HistoryRecord(
            recorded=RECORDED + timedelta(days=7 * index), revision=f"{index:012x}", times=make_ratio(before * factor)
        )
        for index, factor in enumerate((1.02, 0.99, 1.0))
    )
    level = Evidence(
        timing=make_timing(before, count=10),
        compile=make_compile_record(cold_seconds=8.0, counters={"generated_kernels": 4, "guards": 30}),
        memory=MemoryRecord(candidate_peak_bytes=2**20),
    )
    usual: dict[str, Any] = {
        "environment": dict(HERE.fields),
        "baseline_environment": dict(HERE.fields),
        "leaves": (make_leaf("output[0]"), make_leaf("grad.body.weight", 0.4)),
        "times": make_ratio(ratio, spread=0.03, processes=4),
        "level": level,
        "level_times": make_ratio(before),
        "history": history,
    }
    return CaseContext(**{**usual, **fields})


def make_case(name: str, *checks: Check, context: CaseContext | None = None, **evidence: Any) -> CaseResult:
    """One case of the sample."""
    return CaseResult.of(Verdict(f"tests/models/test_zoo.py::{name}", checks), Evidence(**evidence), context)


def sample_run() -> RunResults:
    """Return the run: every outcome occurs, and every kind of evidence."""
    cases = (_slow_case(), _wrong_case(), _new_case(), _unsure_case(), _better_case(), *_good_cases(), _empty_case())
    return RunResults(environment=dict(HERE.fields), cases=cases)


def _slow_case() -> CaseResult:
    interval = Interval(0.12, 0.28, 0.98)
    return make_case(
        "test_policy_value_net[batch=64-width=128]",
        make_check(
            CheckName.COMPILE,
            Outcome.FAILED,
            "1 graph break, the limit is 0",
            value=1.0,
            limit=0.0,
            details=("graph break at model.py:14: Failed to trace builtin print\n    print(y.mean())",),
            remedy="mend what is listed above; or, if it is intended, allow it with "
            "@pytest.mark.nnopt_limits(graph_breaks=1)",
        ),
        make_check(
            CheckName.LATENCY,
            Outcome.FAILED,
            "latency +20.0 % against the baseline [+12.0 %, +28.0 %] is beyond the limit of 5.00 %",
            value=0.2,
            baseline=0.0,
            limit=0.05,
            interval=interval,
            details=("4 processes, one process varies by 2.10 %",),
        ),
        make_check(CheckName.NUMERICS, reason="2 leaves agree, the worst at 0.4 of its limit"),
        make_check(
            CheckName.MEMORY,
            Outcome.FAILED,
            "peak memory 4 MiB against 1 MiB in the baseline",
            value=2.0**22,
            baseline=2.0**20,
            limit=0.02,
        ),
        context=make_context(0.6, baseline_environment=dict(THERE.fields)),
        timing=tuple(
            make_process(math.log(ratio)).model_copy(update={"concerns": {"load": "the load average is 9"}})
            for ratio in (0.6, 0.61, 0.59, 0.6)
        ),
        compile=CompileRecord(
            status="compiled",
            graphs=2,
            graph_breaks=1,
            recompiles=0,
            eager_frames=0,
            cold_seconds=7.5,
            breaks=(BREAK,),
            counters={"generated_kernels": 6, "cudagraph_skips": 0},
        ),
        memory=MemoryRecord(candidate_peak_bytes=2**22, reference_peak_bytes=2**21),
    )


def _wrong_case() -> CaseResult:
    leaves = (
        make_leaf("output[0]", 2500.0, problem="rms error too large"),
        make_leaf("output.logits", None, problem="NaN where the reference has none", candidate_nrmse=None),
        make_leaf("grad.encoder.layers.11.attention.self.query.weight", 0.2, note="no float64 run served"),
        make_leaf("output.mask", 0.0, dtype="bool", shape=(), lane="exact", candidate_nrmse=None, candidate_max=None),
    )
    return make_case(
        "test_quantised_encoder",
        make_check(
            CheckName.NUMERICS,
            Outcome.FAILED,
            "output[0]: rms error too large (rms 2.5e-03, limit 1e-06)",
            value=2500.0,
            limit=1.0,
            details=("worst at [3, 7]: actual 1.25, expected 0.5",),
        ),
        make_check(
            CheckName.SPEEDUP,
            reason="speedup 2.00x [1.90, 2.10] is above the minimum of 1.15x",
            value=2.0,
            limit=1.15,
            interval=Interval(1.9, 2.1, 0.98),
        ),
        context=make_context(leaves=leaves, level=None, level_times=None, history=(), baseline_environment=None),
        timing=make_timing(0.5, count=2),
        compile=make_compile_record(breaks=(BREAK,), graph_breaks=1),
    )


def _new_case() -> CaseResult:
    reason = "no baseline for 'test_new' on 'cpu-amd-epyc-2c-torch2.13'; record one with pytest --nnopt-update"
    return make_case("test_new", make_check(CheckName.LATENCY, Outcome.NO_BASELINE, reason, limit=0.05))


def _unsure_case() -> CaseResult:
    interval = Interval(-0.03, 0.11, 0.98)
    reason = (
        "latency +4.00 % against the baseline [-3.00 %, +11.0 %] is not clearly on either side of the limit of 5.00 %"
    )
    check = make_check(
        CheckName.LATENCY, Outcome.INCONCLUSIVE, reason, value=0.04, baseline=0.0, limit=0.05, interval=interval
    )
    context = make_context(0.52, times=make_ratio(0.52, spread=0.07))
    return make_case("test_noisy", check, make_check(), context=context, timing=make_timing(0.52, count=6))


def _better_case() -> CaseResult:
    """A case on a GPU, whose kernels became fewer."""
    before = {"triton_poi_fused_add_0": (2.0, 4e-5), "triton_red_fused_norm_1": (1.0, 6e-5), "gemm": (4.0, 2e-4)}
    now = {"triton_red_fused_add_norm_0": (1.0, 5e-5), "gemm": (3.0, 1.9e-4)}
    level = Evidence(
        timing=tuple(_with_kernels(before, scale) for scale in (1.0, 1.002, 0.999)), compile=make_compile_record()
    )
    interval = Interval(-0.21, -0.19, 0.999)
    return make_case(
        "test_decoder#prefill",
        make_check(
            CheckName.DEVICE_TIME,
            Outcome.IMPROVED,
            "device time -20.0 % against the baseline",
            value=-0.2,
            baseline=0.0,
            limit=0.02,
            interval=interval,
        ),
        context=make_context(0.48, level=level),
        timing=tuple(_with_kernels(now, scale) for scale in (1.0, 1.001)),
        compile=make_compile_record(),
    )


def _with_kernels(kernels: dict[str, tuple[float, float]], scale: float) -> Any:
    found = {name: KernelRecord(count=count, seconds=seconds * scale) for name, (count, seconds) in kernels.items()}
    return make_process(math.log(0.5)).model_copy(update={"kernels": found})


def _good_cases() -> list[CaseResult]:
    check = make_check(CheckName.LATENCY, reason="latency -0.31 % against the baseline", value=-0.0031, limit=0.05)
    return [
        make_case(
            f"test_family[{name}]",
            check,
            make_check(),
            context=make_context(0.499),
            timing=make_timing(0.499, count=4),
            compile=make_compile_record(),
            memory=MemoryRecord(candidate_peak_bytes=2**20),
        )
        for name in ("resnet", "vit", "unet")
    ]


def _empty_case() -> CaseResult:
    reason = "the test's own candidate is not compiled by torch.compile"
    return make_case("test_own_candidate", make_check(CheckName.COMPILE, Outcome.SKIPPED, reason))
