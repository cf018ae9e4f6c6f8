from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.baseline.schema import KernelRecord, MemoryRecord, ProcessRecord, RatioRecord
from pytest_nnopt.model import Check, CompileTime, Outcome
from pytest_nnopt.verdict.device_time import check_device_time
from pytest_nnopt.verdict.growth import check_compile_time, check_memory
from pytest_nnopt.verdict.launched import kernel_in_words
from tests.builders import make_compile_record

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


def peaks(now: int, before: int) -> tuple[MemoryRecord, MemoryRecord]:
    return MemoryRecord(candidate_peak_bytes=now), MemoryRecord(candidate_peak_bytes=before)


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
    check = check_memory(*peaks(now, before), 0.02)
    assert check is not None
    assert check.outcome is outcome


def test_every_kind_of_memory_is_judged_and_the_one_that_grew_is_the_reason() -> None:
    before = MemoryRecord(candidate_peak_bytes=MIB, candidate_steady_bytes=MIB, candidate_saved_bytes=MIB)
    now = before.model_copy(update={"candidate_saved_bytes": 2 * MIB, "candidate_peak_bytes": MIB // 2})
    check = check_memory(now, before, 0.02)
    assert check is not None
    assert check.reason.startswith("memory saved for backward 2 MiB against 1 MiB in the baseline (+100 %) is beyond")
    assert [detail.split(" against")[0] for detail in check.details] == ["peak memory 512 KiB", "steady memory 1 MiB"]


def test_memory_of_which_nothing_is_known_has_no_answer() -> None:
    assert check_memory(MemoryRecord(), MemoryRecord(candidate_peak_bytes=1), 0.02) is None


class TestCompileTime:
    BEFORE = make_compile_record(cold_seconds=10.0, warm_seconds=1.0, work_calls=10**6, work_conditions="python 3.11")

    def check(self, **figures: Any) -> Check:
        usual = {"cold_seconds": 10.0, "warm_seconds": 1.0, "work_calls": 10**6, "work_conditions": "python 3.11"}
        check = check_compile_time(CompileTime(**{**usual, **figures}), self.BEFORE, time_limit=3.0, work_limit=0.1)
        assert check is not None
        return check

    def test_as_before_passes_with_every_figure(self) -> None:
        check = self.check()
        assert (check.outcome, len(check.details)) == (Outcome.PASSED, 2)

    @pytest.mark.parametrize(
        ("figures", "reason"),
        [
            (
                {"cold_seconds": 50.0},
                "cold compile time 50 s against 10 s in the baseline (+400 %) is beyond the limit of 300 %",
            ),
            (
                {"warm_seconds": 5.0},
                "warm compile time 5 s against 1 s in the baseline (+400 %) is beyond the limit of 300 %",
            ),
            (
                {"work_calls": 1_200_000},
                "compile work 1,200,000 calls against 1,000,000 calls in the baseline (+20.0 %) is beyond the limit "
                "of 10.0 %",
            ),
            (
                {"warm_seconds": None},
                "the compiler's cache no longer serves this model: a warm compile took 1 s in the baseline",
            ),
        ],
    )
    def test_a_failure_names_the_figures_the_growth_and_the_limit(self, figures: dict[str, Any], reason: str) -> None:
        check = self.check(**figures)
        assert (check.outcome, check.reason) == (Outcome.FAILED, reason)

    def test_work_counts_under_equal_versions_alone(self) -> None:
        check = self.check(work_calls=10**9, work_conditions="python 3.12")
        assert check.outcome is Outcome.PASSED
        assert check.details[-1] == "compile work is not compared: python 3.11 → python 3.12"

    def test_nothing_known_on_both_sides_has_no_answer(self) -> None:
        before = make_compile_record(warm_seconds=1.0)
        assert check_compile_time(CompileTime(), before, time_limit=1.0, work_limit=1.0) is None


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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("triton_poi_fused_add_0", "triton_poi_fused_add_0"),
        ("void at::native::sort<2, -1>(at::Tensor, (anonymous)::Less)", "at::native::sort<2, -1>"),
        ("Memcpy DtoD (Device -> Device)", "Memcpy DtoD (Device -> Device)"),
        ("unbalanced)", "unbalanced)"),
    ],
)
def test_a_kernel_is_named_without_its_parameters(name: str, shown: str) -> None:
    assert kernel_in_words(name) == shown


def test_names_that_templates_make_long_are_cut_where_they_are_alike() -> None:
    names = [f"void at::elementwise_kernel<{'at::functor, ' * 30}{last}>(int)" for last in ("Multiply", "Divide")]
    shown = [kernel_in_words(name) for name in names]
    assert [len(name) for name in shown] == [120, 120]
    assert shown[0].startswith("at::elementwise_kernel<at::functor, ")
    assert shown[0].endswith("at::functor, Multiply>")
    assert shown[1].endswith("at::functor, Divide>")
    now, before = process(**{names[0]: (1, 2e-4)}), process(**{names[1]: (1, 1e-4)})
    check = check_device_time([now] * 4, [before] * 10, 0.02)
    assert check.details == (
        f"kernel added: {shown[0]} (200 µs per call)",
        f"kernel removed: {shown[1]} (100 µs per call)",
    )


def test_one_more_launch_fails_whatever_its_time() -> None:
    check = check_device_time([process(gemm=(3, 1e-4))] * 4, [process(gemm=(2, 1e-4))] * 10, 0.02)
    assert check.outcome is Outcome.FAILED
    assert check.reason == "3 kernels are launched per call, the baseline has 2"


def test_a_change_between_levels_is_left_open_with_the_kernels() -> None:
    check = check_device_time([process(gemm=(2, 1.02e-4))], [process(gemm=(2, 1e-4))] * 10, 0.02)
    assert check.outcome is Outcome.INCONCLUSIVE
    assert check.details == ("kernel gemm: 100 µs → 102 µs per call",)
