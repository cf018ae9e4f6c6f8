from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.baseline.compilation import CompileLevel, foreign_compilation
from pytest_nnopt.baseline.schema import CaseBaseline, Evidence
from pytest_nnopt.baseline.store import BaselineStore
from tests.builders import (
    CASE_ID,
    RECORDED,
    make_compile_record,
    make_environment,
    make_evidence,
    make_process,
    make_recording,
)

HERE = make_environment(isa="AVX2")


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path)


def record(store: BaselineStore, graphs: int, *, age: int = 0, **fields: Any) -> str:
    """Store a compilation of another environment, ``age`` days older than the newest; return the environment's name."""
    there = make_environment(**{"isa": "AVX2", **fields})
    recording = make_recording(there, make_evidence(compiled=make_compile_record(graphs=graphs)))
    recording = recording.model_copy(update={"recorded": RECORDED - timedelta(days=age)})
    store.write(there, CaseBaseline(case=CASE_ID, recordings=(recording,)))
    return there.name


def found(store: BaselineStore) -> CompileLevel | None:
    return foreign_compilation(store, CASE_ID, HERE)


def test_there_is_none_where_nothing_is_recorded(store: BaselineStore) -> None:
    assert found(store) is None


def test_another_machine_with_the_same_instructions_compares_wholly(store: BaselineStore) -> None:
    name = record(store, 7, cpu="Other")
    assert found(store) == CompileLevel(make_compile_record(graphs=7), name)


def test_other_instructions_keep_generated_code_from_being_compared(store: BaselineStore) -> None:
    name = record(store, 7, cpu="Other", isa="AVX512", threads=4)
    level = found(store)
    assert level == CompileLevel(make_compile_record(graphs=7), name, ("isa: AVX512 → AVX2", "threads: 4 → 2"))


def test_what_its_processes_compiled_belongs_to_it(store: BaselineStore) -> None:
    there = make_environment(isa="AVX2", cpu="Other")
    compiled = make_process().model_copy(update={"code": {"generated_kernels": 6}})
    parts = Evidence(timing=(compiled, make_process())), Evidence(compile=make_compile_record())
    recordings = tuple(make_recording(there, evidence) for evidence in parts)
    store.write(there, CaseBaseline(case=CASE_ID, recordings=recordings))
    level = found(store)
    assert level is not None
    assert level.further == ({"generated_kernels": 6},)


@pytest.mark.parametrize(
    "fields",
    [
        {"torch": "2.12.1"},
        {"device": "cuda", "gpu": "H200"},
        {"deterministic": True},
        {"compiler_settings": "TORCHINDUCTOR_MAX_AUTOTUNE=1"},
    ],
)
def test_other_graphs_are_not_compared(store: BaselineStore, fields: dict[str, Any]) -> None:
    record(store, 7, cpu="Other", **fields)
    assert found(store) is None


def test_the_nearest_is_taken_and_of_equals_the_newest(store: BaselineStore) -> None:
    record(store, 1, cpu="Far", isa="AVX512")
    record(store, 2, cpu="Old", age=3)
    record(store, 3, cpu="New", age=1)
    level = found(store)
    assert level is not None
    assert level.record.graphs == 3


def test_a_recording_without_a_compilation_or_fingerprint_is_passed_over(store: BaselineStore) -> None:
    there = make_environment(cpu="Other", isa="AVX2")
    unknown = make_recording(make_environment(cpu="Unknown"))
    store.write(there, CaseBaseline(case=CASE_ID, recordings=(unknown, make_recording(there, Evidence()))))
    assert found(store) is None
