from __future__ import annotations

import pytest

from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord, RatioRecord
from pytest_nnopt.model import Outcome
from pytest_nnopt.verdict.device_time import check_device_time
from pytest_nnopt.verdict.growth import check_compile_time, check_memory

MIB = 2**20


def process(**kernels: tuple[float, float]) -> ProcessRecord:
    """Make a process whose kernels, by name, have (launches, seconds) per call."""
    return ProcessRecord(
        seconds={"candidate": 1e-3},
        candidate_to_reference=RatioRecord(log_ratio=0.0, variance=1e-6, blocks=40),
        warmup_seconds=0.0,
        is_steady=True,
        kernels={name: KernelRecord(count=count, seconds=seconds) for name, (count, seconds) in kernels.items()},
    )


@pytest.mark.parametrize(
    ("now", "before", "outcome"),
    [
        (103 * MIB, 100 * MIB, Outcome.FAILED),
        (101 * MIB, 100 * MIB, Outcome.PASSED),
        (90 * MIB, 100 * MIB, Outcome.IMPROVED),
        (0, 0, Outcome.PASSED),
        (1, 0, Outcome.FAILED),
    ],
)
def test_memory_may_grow_by_its_limit(now: int, before: int, outcome: Outcome) -> None:
    assert check_memory(now, before, 0.02).outcome is outcome


def test_a_failure_names_both_figures_the_growth_and_the_limit() -> None:
    assert check_memory(110 * MIB, 100 * MIB, 0.02).reason == (
        "peak memory 110 MiB against 100 MiB in the baseline (+10.0 %) is beyond the limit of 2.00 %"
    )
    assert check_compile_time(50.0, 10.0, 3.0).reason == (
        "cold compile time 50 s against 10 s in the baseline (+400 %) is beyond the limit of 300 %"
    )


def test_device_time_within_its_limit_passes() -> None:
    check = check_device_time([process(gemm=(2, 1.001e-4))] * 2, [process(gemm=(2, 1e-4))] * 10, 0.02)
    assert check.outcome is Outcome.PASSED
    assert check.details == ()


def test_slower_kernels_fail_and_are_named_costliest_first() -> None:
    before = process(gemm=(2, 1e-4), copy=(1, 1e-5), old=(1, 1e-6))
    now = process(gemm=(2, 1.5e-4), copy=(1, 1e-5), new=(1, 2e-6))
    check = check_device_time([now] * 4, [before] * 10, 0.02)
    assert check.outcome is Outcome.FAILED
    assert "is beyond the limit of 2.00 %" in check.reason
    assert check.details == (
        "kernel gemm: 100 µs → 150 µs per call",
        "kernel added: new (2 µs per call)",
        "kernel removed: old (1 µs per call)",
    )


def test_one_more_launch_fails_whatever_its_time() -> None:
    check = check_device_time([process(gemm=(3, 1e-4))], [process(gemm=(2, 1e-4))] * 10, 0.02)
    assert check.outcome is Outcome.FAILED
    assert check.reason == "3 kernels are launched per call, the baseline has 2"


def test_a_change_between_levels_is_left_open_with_the_kernels() -> None:
    check = check_device_time([process(gemm=(2, 1.02e-4))], [process(gemm=(2, 1e-4))] * 10, 0.02)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert check.details == ("kernel gemm: 100 µs → 102 µs per call",)
