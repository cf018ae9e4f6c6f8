from __future__ import annotations

import math

import pytest

from pytest_nnopt.baseline.schema import CompileRecord, GraphBreakRecord, LeafRecord
from pytest_nnopt.measurement.machine import ConcernKind, MachineConcern
from pytest_nnopt.model import Block, CompileAttempt, CompileFacts, CompileStatus, GraphBreak, ProcessSample, Variant
from pytest_nnopt.numerics import Lane, LeafComparison, NumericsComparison
from pytest_nnopt.numerics.leaves import LeafKind
from pytest_nnopt.numerics.summary import ErrorFigures, LeafSummary
from pytest_nnopt.session.records import record_compile, record_numerics, record_process
from pytest_nnopt.torch_backend.nvml import GpuState, Neighbours, find_gpu_concerns
from pytest_nnopt.torch_backend.timing import Timed
from tests.fakes import FakeGpu

SECONDS = {Variant.REFERENCE: 2e-3, Variant.CANDIDATE: 1e-3, Variant.YARDSTICK: 1e-2}


def sample_of(*variants: Variant) -> ProcessSample:
    """Eleven blocks in which the candidate takes half the reference's time and a tenth of the yardstick's."""
    blocks = tuple(Block({variant: SECONDS[variant] * (1 + i / 1000) for variant in variants}) for i in range(11))
    return ProcessSample(
        blocks,
        dict.fromkeys(variants, 4),
        warmup_seconds=0.5,
        is_steady=False,
        dropped_blocks=2,
        disturbances={"heat": 2},
    )


def test_a_process_is_its_medians_and_log_ratios() -> None:
    record = record_process(Timed(sample_of(*SECONDS), ()))
    assert record.seconds == pytest.approx({"reference": 2.01e-3, "candidate": 1.005e-3, "yardstick": 1.005e-2})
    assert record.candidate_to_reference.log_ratio == pytest.approx(math.log(0.5))
    assert record.candidate_to_reference.blocks == 11
    assert record.candidate_to_yardstick is not None
    assert record.candidate_to_yardstick.log_ratio == pytest.approx(math.log(0.1))
    assert (record.warmup_seconds, record.is_steady, record.dropped_blocks) == (0.5, False, 2)
    assert record.disturbances == {"heat": 2}
    assert not record.concerns


def test_a_process_without_a_yardstick_knows_no_ratio_to_it() -> None:
    record = record_process(Timed(sample_of(Variant.REFERENCE, Variant.CANDIDATE), ()))
    assert record.candidate_to_yardstick is None
    assert set(record.seconds) == {"reference", "candidate"}


def test_concerns_about_the_machine_are_kept() -> None:
    concern = MachineConcern(ConcernKind.LOAD, "the load average is 9; stop other work")
    assert record_process(Timed(sample_of(*SECONDS), (concern,))).concerns == {"load": concern.text}


def test_what_is_said_of_the_gpu_does_not_take_the_place_of_what_is_said_of_the_host() -> None:
    host = [MachineConcern(kind, "the host") for kind in (ConcernKind.LOAD, ConcernKind.FREQUENCY, ConcernKind.THERMAL)]
    neighbours = Neighbours(FakeGpu())
    neighbours.pids = {1}
    gpu = find_gpu_concerns(GpuState(event_reasons=0x44, foreign=frozenset({1})), neighbours)
    kept = record_process(Timed(sample_of(*SECONDS), (*host, *gpu))).concerns
    assert sorted(kept.values()) == sorted(concern.text for concern in (*host, *gpu))
    assert len(kept) == 6


def test_the_code_of_a_process_is_kept_where_it_compiled_anew() -> None:
    timed, counters = Timed(sample_of(*SECONDS), ()), {"generated_kernels": 3, "guards": 7}
    assert record_process(timed).code == {}
    facts = CompileFacts(CompileStatus.COMPILED, counters={**counters, "timed_choices": 1})
    assert record_process(timed, facts).code == {"generated_kernels": 3, "timed_choices": 1}


def test_a_compilation_is_its_counts_and_where_its_graph_broke() -> None:
    facts = CompileFacts(
        CompileStatus.FELL_BACK,
        (CompileAttempt("mode='max-autotune'", "it broke"), CompileAttempt("default mode")),
        graphs=2,
        graph_breaks=(GraphBreak("call to print", "model.py", 7, "print(x)"),),
        recompiles=(),
        eager_frames=0,
        counters={"guards": 12},
    )
    assert record_compile(facts) == CompileRecord(
        status="fell_back",
        used="default mode",
        graphs=2,
        graph_breaks=1,
        recompiles=0,
        eager_frames=0,
        breaks=(GraphBreakRecord(reason="call to print", file="model.py", line=7, code="print(x)"),),
        counters={"guards": 12},
    )


def test_what_is_unknown_of_a_compilation_stays_unknown() -> None:
    assert record_compile(CompileFacts(CompileStatus.OWN_CANDIDATE)) == CompileRecord(status="own_candidate")


def comparison_of(summary: LeafSummary | None) -> NumericsComparison:
    leaf = LeafComparison("output", LeafKind.OUTPUT, "float32", (3,), Lane.FLOAT64, summary=summary)
    return NumericsComparison((leaf,), Lane.FLOAT64, "a float64 run serves as the truth")


def test_a_leaf_is_its_errors_and_a_sample_of_its_values() -> None:
    summary = LeafSummary(
        path="output",
        kind=LeafKind.OUTPUT,
        dtype="float32",
        shape=(3,),
        candidate=ErrorFigures(nrmse=1e-7, maximum=2e-7, gain=0.0, offset=0.0),
        reference=None,
        rms=0.5,
        maximum=1.0,
        sample=((0, 0.25), (1, math.nan), (2, math.inf)),
    )
    assert record_numerics(comparison_of(summary)) == {
        "output": LeafRecord(
            dtype="float32", shape=(3,), candidate_nrmse=1e-7, candidate_max=2e-7, norm=0.5, sample=(0.25,)
        )
    }


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_a_figure_that_is_not_finite_is_unknown(figure: float) -> None:
    errors = ErrorFigures(nrmse=figure, maximum=figure, gain=0.0, offset=0.0)
    summary = LeafSummary("output", LeafKind.OUTPUT, "float32", (3,), errors, errors, figure, figure, ())
    assert record_numerics(comparison_of(summary)) == {"output": LeafRecord(dtype="float32", shape=(3,))}


def test_a_leaf_that_could_not_be_measured_is_left_out() -> None:
    assert record_numerics(comparison_of(None)) == {}
