from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.baseline.numbers import NumericsLevel, foreign_numerics
from pytest_nnopt.baseline.schema import CaseBaseline, Evidence, LeafRecord
from pytest_nnopt.baseline.store import BaselineStore
from tests.builders import CASE_ID, RECORDED, make_environment, make_recording

HERE = make_environment(isa="AVX2")
LEAVES = {"output": LeafRecord(dtype="float32", shape=(2,), norm=1.0)}


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path)


def record(store: BaselineStore, *, norm: float = 1.0, age: int = 0, **fields: Any) -> str:
    """Store numbers of another environment, ``age`` days old; return the environment's name."""
    there = make_environment(**{"isa": "AVX2", "cpu": "Other", **fields})
    leaves = {"output": LEAVES["output"].model_copy(update={"norm": norm})}
    recording = make_recording(there, Evidence(numerics=leaves))
    recording = recording.model_copy(update={"recorded": RECORDED - timedelta(days=age)})
    store.write(there, CaseBaseline(case=CASE_ID, recordings=(recording,)))
    return there.name


def found(store: BaselineStore) -> NumericsLevel | None:
    return foreign_numerics(store, CASE_ID, HERE)


def test_there_are_none_where_nothing_is_recorded(store: BaselineStore) -> None:
    assert found(store) is None


def test_another_machine_that_rounds_alike_compares_wholly(store: BaselineStore) -> None:
    name = record(store)
    assert found(store) == NumericsLevel(LEAVES, None, name)


def test_other_rounding_is_named(store: BaselineStore) -> None:
    name = record(store, isa="AVX512", threads=4, matmul_precision="high")
    differences = ("matmul_precision: high → None", "isa: AVX512 → AVX2", "threads: 4 → 2")
    assert found(store) == NumericsLevel(LEAVES, None, name, differences)


@pytest.mark.parametrize("fields", [{"torch": "2.12.1"}, {"device": "cuda", "gpu": "H200"}])
def test_other_random_numbers_are_not_compared(store: BaselineStore, fields: dict[str, Any]) -> None:
    record(store, **fields)
    assert found(store) is None


def test_recordings_without_numbers_or_fingerprint_are_passed_over(store: BaselineStore) -> None:
    there = make_environment(isa="AVX2", cpu="Other")
    store.write(there, CaseBaseline(case=CASE_ID, recordings=(make_recording(there, Evidence()),)))
    assert found(store) is None
    record(store)
    (store.root / there.name / "environment.json").unlink()
    assert found(store) is None


def test_the_nearest_is_taken_and_of_like_ones_the_newest(store: BaselineStore) -> None:
    record(store, norm=1.0, cpu="A", isa="AVX512")
    record(store, norm=2.0, cpu="B", age=2)
    record(store, norm=3.0, cpu="C", age=1)
    level = found(store)
    assert level is not None
    assert level.leaves["output"].norm == 3.0
