from __future__ import annotations

from typing import Any

from pytest_nnopt.baseline.compilation import CompileLevel
from pytest_nnopt.baseline.schema import Evidence, GraphBreakRecord, KernelRecord, MemoryRecord, ProcessRecord
from pytest_nnopt.model import CheckName, GraphBreak, Outcome
from pytest_nnopt.verdict import Observed, judge
from pytest_nnopt.verdict.explanation import explain_slowdown
from tests.builders import make_compile_record, make_evidence, make_facts, make_process, make_question, make_timing

BREAK = GraphBreak("call to print", file="model.py", line=7, code="print(x)")
KERNELS = {"cpp_fused_add-1": 1}
MEMORY = MemoryRecord(candidate_peak_bytes=2**20)
COUNTERS = {"bytes_accessed": 1000, "guards": 5}


def explain(
    *, memory: MemoryRecord | None = None, timing: tuple[ProcessRecord, ...] = (), before: Evidence, **facts: Any
) -> tuple[str, ...]:
    question = make_question(is_comparing=True, baseline=before)
    return explain_slowdown(question, Observed(make_facts(**facts), timing=timing, memory=memory))


def recorded(**parts: Any) -> Evidence:
    record = make_compile_record(kernels=KERNELS, external_kernels={}, counters=COUNTERS)
    return Evidence(compile=record, memory=MEMORY, **parts)


def on_gpu(seconds: float, **kernels: float) -> ProcessRecord:
    """Make a process whose candidate takes ``seconds`` per call, with kernels of so many seconds each."""
    records = {name: KernelRecord(count=1, seconds=taken) for name, taken in kernels.items()}
    process = make_process()
    return process.model_copy(update={"kernels": records, "seconds": {**process.seconds, "candidate": seconds}})


def test_nothing_moved_says_what_was_compared_and_where_to_look() -> None:
    lines = explain(before=recorded(), memory=MEMORY, kernels=KERNELS, external_kernels={}, counters=COUNTERS)
    assert lines == (
        "nothing structural moved (graphs, graph breaks, recompiles, generated code, memory are as before): "
        "suspect the machine or a library first",
    )


def test_only_what_both_sides_know_is_said_to_be_as_before() -> None:
    assert "(graphs, graph breaks, recompiles are as before)" in explain(before=recorded())[0]


def test_a_baseline_of_times_alone_explains_nothing() -> None:
    assert explain(before=Evidence(timing=make_timing())) == (
        "what else moved is unknown: this run and its baseline have neither counters nor memory in common",
    )


def test_counters_places_kernels_and_memory_are_listed() -> None:
    lines = explain(
        before=recorded(),
        memory=MemoryRecord(candidate_peak_bytes=2**21),
        graph_breaks=(BREAK,),
        graphs=2,
        kernels={"cpp_fused_sort-2": 1},
        external_kernels={"aten.sort": 2},
        counters={"bytes_accessed": 1500, "guards": 5},
    )
    assert lines == (
        "what else moved:",
        "  graph breaks 0 → 1",
        "    new: graph break at model.py:7: call to print",
        "  accessed by kernels 1000 B → 1.46 KiB",
        "  graphs 1 → 2",
        "  generated kernel removed: cpp_fused_add-1",
        "  generated kernel added: cpp_fused_sort-2",
        "  external kernel added: aten.sort",
        "  peak memory 1 MiB → 2 MiB (+100 %)",
    )


def test_no_more_than_eight_changes_are_listed() -> None:
    kernels = {f"cpp_fused_{index}": 1 for index in range(12)}
    lines = explain(before=recorded(), kernels={**KERNELS, **kernels}, external_kernels={}, counters=COUNTERS)
    assert (len(lines), lines[-1]) == (10, "  and 4 more")


def test_a_kernel_that_is_called_more_often_is_counted() -> None:
    lines = explain(before=recorded(), kernels={"cpp_fused_add-1": 3}, external_kernels={}, counters=COUNTERS)
    assert lines[-1] == "  generated kernel cpp_fused_add-1: 1 → 3"


def test_kernels_of_the_runs_own_compilation_explain_no_times_of_processes_that_compiled_otherwise() -> None:
    before = Evidence(compile=make_compile_record(kernels=KERNELS, counters={"generated_kernels": 1}))
    alike, otherwise = (make_process().model_copy(update={"code": {"generated_kernels": count}}) for count in (2, 1))
    own: dict[str, Any] = {"kernels": {**KERNELS, "pad-2": 1}, "counters": {"generated_kernels": 2, "timed_choices": 1}}
    lines = explain(before=before, timing=(alike,), **own)
    assert lines == ("what else moved:", "  generated kernels 1 → 2", "  generated kernel added: pad-2")
    assert "nothing structural moved" in explain(before=before, timing=(otherwise,), **own)[0]


def test_generated_code_of_another_environment_is_not_compared() -> None:
    level = CompileLevel(make_compile_record(kernels=KERNELS), "server", ("isa: AVX512 → AVX2",))
    question = make_question(is_comparing=True, foreign_compilation=level)
    (line,) = explain_slowdown(question, Observed(make_facts(kernels={"other": 1})))
    assert "(graphs, graph breaks, recompiles are as before)" in line


def test_kernels_and_host_time_of_a_gpu_are_compared() -> None:
    before = recorded(timing=(on_gpu(1e-3, gemm=5e-4, old=1e-5, same=1e-5),))
    lines = explain(before=before, timing=(on_gpu(2e-3, gemm=6e-4, same=1e-5),))
    assert lines == (
        "what else moved:",
        "  kernel gemm: 500 µs → 600 µs per call",
        "  kernel removed: old (10 µs per call)",
        "  time outside the kernels 480 µs → 1.39 ms per call (+190 %)",
    )


def test_kernels_within_their_noise_did_not_move() -> None:
    before = recorded(timing=(on_gpu(1e-3, gemm=5e-4),))
    lines = explain(before=before, timing=(on_gpu(1.001e-3, gemm=5.01e-4),))
    assert "recompiles, kernels are as before" in lines[0]


def test_what_is_little_beside_the_latency_explains_nothing() -> None:
    before = recorded(timing=(on_gpu(1.002e-3, gemm=1e-3),))
    assert "nothing structural moved" in explain(before=before, timing=(on_gpu(1.006e-3, gemm=1e-3),))[0]
    (_, line) = explain(before=before, timing=(on_gpu(1.02e-3, gemm=1e-3),))
    assert line == "  time outside the kernels 2 µs → 20 µs per call (+900 %)"


def test_a_gpu_that_is_never_idle_has_no_host_time_to_compare() -> None:
    before = recorded(timing=(on_gpu(1e-3, gemm=2e-3),))
    assert "nothing structural moved" in explain(before=before, timing=(on_gpu(2e-3, gemm=2e-3),))[0]


def test_a_failed_latency_carries_its_explanation_and_a_passed_one_none() -> None:
    question = make_question(is_comparing=True, baseline=make_evidence(0.5), asked=frozenset({CheckName.LATENCY}))
    for ratio, outcome, has_explanation in ((0.8, Outcome.FAILED, True), (0.5, Outcome.PASSED, False)):
        check = judge(question, Observed(make_facts(), timing=make_timing(ratio)))[CheckName.LATENCY]
        assert check.outcome is outcome
        assert any("nothing structural moved" in detail for detail in check.details) is has_explanation


def test_operations_of_the_graphs_are_named() -> None:
    before = Evidence(timing=make_timing(), compile=make_compile_record(graph_ops={"linear": 2, "relu": 1}))
    lines = explain(before=before, graph_ops={"linear": 2, "sort": 1})
    assert lines == ("what else moved:", "  operation removed: relu", "  operation added: sort")


def test_as_many_breaks_in_other_places_are_a_change() -> None:
    recorded_break = GraphBreakRecord(reason="call to print", file="model.py", line=3, code="print(y)")
    record = make_compile_record(graph_breaks=1, breaks=(recorded_break,))
    assert explain(before=Evidence(timing=make_timing(), compile=record), graph_breaks=(BREAK,)) == (
        "what else moved:",
        "  graph breaks: as many as before, but not the same",
        "    new: graph break at model.py:7: call to print",
    )


def test_figures_that_a_version_cannot_tell_are_not_said_to_be_as_before() -> None:
    assert "(graphs, recompiles are as before)" in explain(before=recorded(), graph_breaks=None)[0]
