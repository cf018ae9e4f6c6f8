from __future__ import annotations

import pytest

from pytest_nnopt.baseline.schema import CompileRecord, GraphBreakRecord, KernelRecord, ProcessRecord, RecompileRecord
from pytest_nnopt.report.html.changes import (
    Change,
    changed_code,
    changed_events,
    changed_figures,
    changed_kernels,
    describe_events,
)
from tests.builders import make_compile_record, make_process

BREAK = GraphBreakRecord(reason="no print", file="model.py", line=14, code="print(x)")
PLAIN = make_compile_record()


def with_kernels(**kernels: tuple[float, float]) -> ProcessRecord:
    """A process whose kernels have these launches and seconds."""
    found = {name: KernelRecord(count=count, seconds=seconds) for name, (count, seconds) in kernels.items()}
    return make_process().model_copy(update={"kernels": found})


@pytest.mark.parametrize(("now", "before"), [(None, PLAIN), (PLAIN, None), (PLAIN, PLAIN)])
def test_nothing_changed_where_a_side_is_unknown_or_both_are_alike(
    now: CompileRecord | None, before: CompileRecord | None
) -> None:
    assert changed_events(now, before) == []
    assert changed_figures(now, before) == []
    assert changed_code(now, before) == []


def test_a_graph_break_that_came_is_added() -> None:
    now = make_compile_record(breaks=(BREAK,))
    assert changed_events(now, PLAIN) == [Change("+", "graph break model.py:14: no print — print(x)")]
    assert changed_events(PLAIN, now) == [Change("-", "graph break model.py:14: no print — print(x)")]


def test_a_graph_break_whose_line_moved_is_the_same() -> None:
    moved = BREAK.model_copy(update={"line": 20})
    assert changed_events(make_compile_record(breaks=(moved,)), make_compile_record(breaks=(BREAK,))) == []


def test_a_second_break_like_the_first_is_added() -> None:
    now, before = make_compile_record(breaks=(BREAK, BREAK)), make_compile_record(breaks=(BREAK,))
    assert [change.sign for change in changed_events(now, before)] == ["+"]


def test_every_kind_of_event_is_described() -> None:
    record = make_compile_record(
        breaks=(GraphBreakRecord(reason="somewhere"),),
        eager_reasons=(GraphBreakRecord(reason="not traced", file="model.py"),),
        skips=(BREAK,),
        recompiled=(
            RecompileRecord(function="forward", reason="shape", file="model.py", line=3),
            RecompileRecord(function="f"),
        ),
    )
    assert describe_events(record) == [
        "graph break: somewhere",
        "run eagerly model.py: not traced",
        "no CUDA graph model.py:14: no print — print(x)",
        "recompile of forward model.py:3: shape",
        "recompile of f: reason unknown",
    ]
    assert describe_events(None) == []


def test_figures_are_added_removed_or_altered() -> None:
    before = make_compile_record(counters={"guards": 3, "gone": 1})
    now = make_compile_record(graph_breaks=2, counters={"guards": 4, "new_one": 5})
    assert changed_figures(now, before) == [
        Change("~", "graph breaks 0 → 2"),
        Change("~", "guards 3 → 4"),
        Change("-", "gone 1"),
        Change("+", "new one 5"),
    ]


def test_kernels_of_the_generated_code_are_counted() -> None:
    before = make_compile_record(kernels={"a": 1, "b": 2, "same": 1}, external_kernels={"mm": 1})
    now = make_compile_record(kernels={"b": 3, "c": 1, "same": 1}, external_kernels=None)
    assert changed_code(now, before) == [
        Change("-", "generated kernel a x1"),
        Change("+", "generated kernel c x1"),
        Change("~", "generated kernel b x2 → x3"),
    ]


def test_device_kernels_are_ordered_by_what_their_change_costs() -> None:
    before = with_kernels(gone=(1, 1e-5), slower=(2, 1e-4), same=(1, 5e-4), free=(1, 0.0))
    now = with_kernels(slower=(3, 3e-4), same=(1, 5.001e-4), new=(1, 2e-5), free=(1, 1e-9))
    assert changed_kernels([now], [make_process(), before]) == [
        Change("~", "kernel slower: 100 µs → 300 µs per call (+200 %), launched 2 → 3 times"),
        Change("+", "kernel new: 20 µs per call, launched 1 times"),
        Change("-", "kernel gone: 10 µs per call, launched 1 times"),
        Change("~", "kernel free: 0 ns → 1 ns per call"),
    ]


def test_a_kernel_launched_in_another_way_says_how() -> None:
    def launched(launch: str | None, seconds: float) -> ProcessRecord:
        kernels = {"norm": KernelRecord(count=1, seconds=seconds, launch=launch)}
        return make_process().model_copy(update={"kernels": kernels})

    words = "kernel norm: 100 µs → 200 µs per call (+100 %)"
    assert changed_kernels([launched("grid 2", 2e-4)], [launched("grid 1", 1e-4)]) == [
        Change("~", f"{words}, launched with grid 2 (was grid 1)")
    ]
    assert changed_kernels([launched("grid 2", 2e-4)], [launched(None, 1e-4)]) == [Change("~", words)]


def test_a_side_without_kernels_says_nothing() -> None:
    assert changed_kernels([make_process()], [with_kernels(a=(1, 1e-5))]) == []
    assert changed_kernels([with_kernels(a=(1, 1e-5))], []) == []
