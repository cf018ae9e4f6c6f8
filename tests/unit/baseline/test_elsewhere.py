from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.baseline.elsewhere import Elsewhere, level_elsewhere
from pytest_nnopt.baseline.schema import CaseBaseline, Evidence
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.environment import DECISIVE_FIELDS, Match, fields_to_match
from tests.builders import CASE_ID, RECORDED, make_environment, make_evidence, make_recording

HERE = make_environment(isa="AVX2")
COMPATIBLE = fields_to_match("times", Match.COMPATIBLE, "cpu")


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path)


def record(store: BaselineStore, count: int, *, age: int = 0, **fields: Any) -> None:
    there = make_environment(**{"isa": "AVX2", **fields})
    recording = make_recording(there, make_evidence(count=count))
    recording = recording.model_copy(update={"recorded": RECORDED - timedelta(days=age)})
    store.write(there, CaseBaseline(case=CASE_ID, recordings=(recording,)))


def found(store: BaselineStore, required: tuple[str, ...] = COMPATIBLE) -> Elsewhere | None:
    return level_elsewhere(store, CASE_ID, HERE, required, lambda evidence: evidence.timing)


def test_there_is_none_where_nothing_is_recorded(store: BaselineStore) -> None:
    assert found(store) is None


def test_a_level_that_agrees_in_what_is_required_is_found_and_its_differences_are_named(store: BaselineStore) -> None:
    record(store, 3, cores=4)
    level = found(store)
    assert level is not None
    assert len(level.evidence.timing) == 3
    assert level.description == "compared with the baseline of 'cpu-amd-epyc-4c-torch2.13' (cores: 4 → 2)"
    assert found(store, DECISIVE_FIELDS) is None


def test_one_that_differs_in_what_is_required_is_not(store: BaselineStore) -> None:
    record(store, 3, cpu_family="AuthenticAMD 25-1")
    assert found(store) is None
    assert found(store, ("device",)) is not None


def test_the_nearest_is_taken_and_of_equals_the_newest(store: BaselineStore) -> None:
    record(store, 1, cores=4, governor="powersave")
    record(store, 2, cores=8, age=3)
    record(store, 3, cores=16, age=1)
    level = found(store)
    assert level is not None
    assert len(level.evidence.timing) == 3


def test_what_holds_no_such_part_or_has_no_fingerprint_is_passed_over(store: BaselineStore) -> None:
    there = make_environment(isa="AVX2", cores=4)
    unknown = make_recording(make_environment(cpu="Unknown"))
    store.write(there, CaseBaseline(case=CASE_ID, recordings=(unknown, make_recording(there, Evidence()))))
    assert found(store) is None
