"""What ranks saw apart is said together: the worst of each figure, and by which rank where they differ."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.baseline.schema import KernelRecord, MemoryRecord, OriginRecord, WorkRecord
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import CompileAttempt, CompileStatus, CompileTime, GraphBreak
from pytest_nnopt.session.joining import (
    join_comparisons_of_ranks,
    join_compile_times,
    join_environments,
    join_facts,
    join_memory,
    join_origins,
    join_processes,
    join_work,
)
from tests.builders import make_comparison, make_environment, make_facts, make_process

BREAK = GraphBreak("print", "m.py", 3, "print(x)")


def test_wrong_numbers_name_their_rank() -> None:
    joined = join_comparisons_of_ranks([make_comparison(0.5), make_comparison(7.0)])
    assert [leaf.path for leaf in joined.leaves] == ["rank0.output[0]", "rank1.output[0]"]
    assert not joined.is_within
    assert joined.worst is not None
    assert joined.worst.path == "rank1.output[0]"


def test_ranks_that_compiled_alike_are_one() -> None:
    facts = make_facts(graphs=2, graph_breaks=(BREAK,), counters={"a": 1}, kernels={"k": 2})
    assert join_facts([facts, facts]) == facts


def test_the_rank_that_compiled_worse_is_named() -> None:
    joined = join_facts([make_facts(counters={"a": 1}), make_facts(graphs=3, graph_breaks=(BREAK,), counters={"b": 2})])
    assert joined.graphs == 3
    assert joined.graph_breaks is not None
    assert [one.reason for one in joined.graph_breaks] == ["print (on rank 1)"]
    assert joined.counters == {"a": 1, "b": 2}


def test_a_rank_that_could_not_compile_fails_all() -> None:
    attempts = (CompileAttempt("default mode", error="no compiler"),)
    joined = join_facts([make_facts(), make_facts(CompileStatus.FAILED, attempts=attempts)])
    assert joined.status is CompileStatus.FAILED
    assert joined.attempts == (CompileAttempt("default mode", error="rank 1: no compiler"),)


def test_a_rank_that_fell_back_keeps_the_step_in_use() -> None:
    attempts = (CompileAttempt("max-autotune", error="no triton"), CompileAttempt("default mode"))
    joined = join_facts([make_facts(CompileStatus.FELL_BACK, attempts=attempts), make_facts()])
    assert joined.attempts == (CompileAttempt("max-autotune", error="rank 0: no triton"), attempts[1])


def test_what_one_rank_does_not_know_is_unknown() -> None:
    joined = join_facts([make_facts(), make_facts(graphs=None, graph_breaks=None)])
    assert (joined.graphs, joined.graph_breaks, joined.recompiles) == (None, None, ())


def test_of_memory_and_compile_time_the_rank_that_needs_most_counts() -> None:
    memory = join_memory([MemoryRecord(candidate_peak_bytes=1), MemoryRecord(candidate_peak_bytes=5)])
    assert (memory.candidate_peak_bytes, memory.reference_peak_bytes) == (5, None)
    times = join_compile_times([CompileTime(2.0, 1.0, 10, "x"), CompileTime(1.0, None, 30, "x")])
    assert times == CompileTime(2.0, None, 30, "x")


def test_kernels_are_the_slowest_ranks_without_those_that_wait() -> None:
    def process(seconds: float, **others: Any) -> Any:
        kernels = {"gemm": KernelRecord(count=1, seconds=seconds), "ncclDevKernel": KernelRecord(count=1, seconds=1)}
        return make_process().model_copy(update={"kernels": kernels, **others})

    joined = join_processes([process(1.0), process(2.0, concerns={"load": "busy"})])
    assert joined.kernels == {"gemm": KernelRecord(count=1, seconds=2.0)}
    assert joined.concerns == {"load": "busy"}
    assert joined.seconds == make_process().seconds


def test_how_a_kernel_is_launched_is_known_where_the_ranks_agree() -> None:
    def process(launch: str | None) -> Any:
        return make_process().model_copy(update={"kernels": {"gemm": KernelRecord(count=1, seconds=1, launch=launch)}})

    assert join_processes([process("grid 1"), process("grid 1")]).kernels["gemm"].launch == "grid 1"
    assert join_processes([process("grid 1"), process("grid 2")]).kernels["gemm"].launch is None


def test_work_is_added_up_and_origins_are_digested_together() -> None:
    assert join_work([WorkRecord(operators={"mm": 1}, elements=2), WorkRecord(operators={"mm": 2}, elements=3)]) == (
        WorkRecord(operators={"mm": 3}, elements=5)
    )
    one, other = (OriginRecord(inputs=d * 8, parameters=d * 8, structure="0" * 8) for d in "ab")
    assert join_origins([one, other]) != join_origins([one, one])
    assert join_origins([one, other]) == join_origins([one, other])


def test_the_number_of_ranks_is_part_of_the_environment() -> None:
    here = make_environment()
    two, four = join_environments([here] * 2), join_environments([here] * 4)
    assert two.fields["ranks"] == 2
    assert len({here.digest, two.digest, four.digest}) == 3
    assert two.name == here.name
    assert four.differences(two) == ["ranks: 2 → 4"]
    assert two.differences(here, ("device",)) == ["ranks: None → 2"]


def test_ranks_of_different_environments_do_not_fit_together() -> None:
    with pytest.raises(MeasurementError, match="rank 1 sees another environment than rank 0: threads: 2 → 4"):
        join_environments([make_environment(), make_environment(threads=4)])
