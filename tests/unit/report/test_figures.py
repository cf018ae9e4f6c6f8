from __future__ import annotations

import pytest

from pytest_nnopt.baseline.schema import CompileRecord, Evidence, KernelRecord, MemoryRecord
from pytest_nnopt.report.figures import describe_evidence, median_seconds
from tests.builders import make_process, make_timing


def test_a_variant_of_some_processes_is_their_median() -> None:
    whole, other = make_process(0.0), make_process(0.5)
    part = other.model_copy(update={"seconds": {"candidate": 3e-3}})
    assert median_seconds([whole, part]) == {"reference": 1e-3, "candidate": 2e-3, "yardstick": 5e-4}


def test_kernels_have_a_time_of_their_own() -> None:
    kernels = {"gemm": KernelRecord(count=2, seconds=3e-4), "relu": KernelRecord(count=1, seconds=1e-4)}
    process = make_process().model_copy(update={"kernels": kernels, "wall_seconds": 9e-4})
    assert median_seconds([process])["kernels"] == pytest.approx(4e-4)
    assert median_seconds([process])["single call"] == 9e-4


def test_times_and_their_noise_are_two_lines() -> None:
    assert list(describe_evidence(Evidence(timing=make_timing(0.5, count=1)))) == [
        "times: reference 1 ms, candidate 500 µs, yardstick 500 µs a call",
        "noise: 1 process, 40 blocks, 0.10 % within one",
    ]


def test_what_is_unknown_is_not_said() -> None:
    evidence = Evidence(compile=CompileRecord(status="own_candidate"), memory=MemoryRecord())
    assert list(describe_evidence(evidence)) == ["memory: unknown", "compilation: own candidate"]
