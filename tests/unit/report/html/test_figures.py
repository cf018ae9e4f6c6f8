from __future__ import annotations

import pytest

from pytest_nnopt.baseline.schema import KernelRecord, MemoryRecord, ProcessRecord
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.html.figures import FigureRow, _launches, list_figures, list_leaves, worst_leaves
from tests.builders import make_check, make_compile_record, make_process, make_result, make_timing
from tests.samples import make_case, make_context, make_leaf, sample_run


def rows_of(name: str) -> dict[str, FigureRow]:
    """The rows of a sample case by their names."""
    (case,) = (case for case in sample_run().cases if name in case.id)
    return {row.name: row for row in list_figures(case)}


def test_both_sides_stand_beside_each_other() -> None:
    rows = rows_of("test_policy_value_net")
    assert rows["time over eager's"] == FigureRow(
        "time over eager's", "-", "0.5 [0.49, 0.51]", "0.6 [0.582, 0.618]", "+20.0 %", "failed"
    )
    assert rows["time per call"] == FigureRow("time per call", "1 ms", "500 µs", "600 µs", "+20.0 %")
    assert rows["peak memory"] == FigureRow("peak memory", "2 MiB", "1 MiB", "4 MiB", "+300 %", "failed")
    assert rows["cold compile"] == FigureRow("cold compile", "-", "8 s", "7.5 s", "-6.25 %")
    assert rows["graph breaks"] == FigureRow("graph breaks", "-", "0", "1", "", "failed")
    assert rows["recompiles"] == FigureRow("recompiles", "-", "0", "0", "")
    assert "kernels launched" not in rows


def test_a_gpu_has_its_kernels_time() -> None:
    rows = rows_of("test_decoder")
    assert rows["kernels' time per call"].outcome == "improved"
    assert rows["kernels' time per call"].change == "-20.0 %"
    assert (rows["kernels launched"].baseline, rows["kernels launched"].here) == ("7", "4")


def test_what_is_unknown_on_both_sides_is_left_out() -> None:
    assert list_figures(make_result(make_check())) == ()


def test_a_case_without_a_level_has_figures_of_its_own() -> None:
    case = make_case(
        "test_new",
        make_check(CheckName.LATENCY, Outcome.NO_BASELINE),
        timing=make_timing(0.5, count=1),
        compile=make_compile_record(),
        memory=MemoryRecord(candidate_peak_bytes=0, candidate_steady_bytes=1024),
    )
    rows = {row.name: row for row in list_figures(case)}
    assert (rows["peak memory"].baseline, rows["peak memory"].here) == ("-", "0 B")
    assert rows["memory between calls"].here == "1 KiB"
    assert (rows["time per call"].here, rows["time per call"].change) == ("500 µs", "")
    assert "cold compile" not in rows


def test_growth_from_nothing_is_not_told() -> None:
    context = make_context()
    assert context.level is not None
    level = context.level.model_copy(update={"memory": MemoryRecord(candidate_peak_bytes=0)})
    case = make_case(
        "test_a",
        context=context.model_copy(update={"level": level, "times": None}),
        memory=MemoryRecord(candidate_peak_bytes=5),
    )
    rows = {row.name: row for row in list_figures(case)}
    assert rows["peak memory"].change == ""
    assert (rows["time over eager's"].here, rows["time over eager's"].change) == ("-", "")


def test_leaves_with_problems_come_first_then_the_closest_to_their_limits() -> None:
    leaves = [
        make_leaf("near", 0.9),
        make_leaf("far", 0.1),
        make_leaf("nan", None, problem="NaN"),
        make_leaf("off", 3.0, problem="off"),
    ]
    assert [leaf.path for leaf in worst_leaves(leaves)] == ["nan", "off", "near", "far"]
    assert len(worst_leaves([make_leaf()] * 100)) == 16


def test_a_leaf_is_a_row_of_errors_and_limits() -> None:
    (row, broken) = list_leaves(
        [make_leaf("output", 2.0, problem="off", note="by far"), make_leaf(excess=None, shape=(), limit_max=None)]
    )
    assert (row.number, row.path, row.about) == ("#1", "output", "output, float32[64, 256], against float64")
    assert row.rms == ("2e-06", "5e-07", "1e-06")
    assert (row.share, row.problem, row.is_within) == ("2x", "off; by far", False)
    assert (broken.about, broken.share, broken.maximum[2]) == ("output, float32, against float64", "must match", "-")
    assert [row.share for row in list_leaves([make_leaf(excess=0.25), make_leaf(excess=1e30)])] == [
        "25.0 %",
        "over 1000x",
    ]


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [((18, 20), (20, 18), ("18", "18")), ((18, 19), (20, 21), ("19", "20")), ((18, 20), (17,), ("18", "17"))],
)
def test_launches_of_several_processes_are_told_as_the_check_takes_them(
    before: tuple[int, ...], now: tuple[int, ...], shown: tuple[str, str]
) -> None:
    level, case = ([launching(count) for count in counts] for counts in (before, now))
    assert _launches(level, case) == tuple(map(float, shown))


def launching(count: int) -> ProcessRecord:
    return make_process().model_copy(update={"kernels": {"sums": KernelRecord(count=count, seconds=1e-3)}})
