from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.baseline import imported
from pytest_nnopt.baseline.imported import IMPORTED_FILE, ImportedTime, newest_times
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.errors import BaselineError, ResultsError
from tests.builders import CASE_ID, RECORDED

TIME = ImportedTime(seconds=1e-3, rounds=5, recorded=RECORDED, machine="AMD EPYC", source="0001_a.json")


def write_benchmarks(path: Path, median: float = 1e-3, *, day: int = 2, **values: Any) -> None:
    """Write a file as pytest-benchmark does, in brief."""
    entry = {"fullname": CASE_ID, "stats": {"median": median, "rounds": 7, "iterations": 1}, "extra_info": {}}
    defaults = {
        "benchmarks": [entry],
        "datetime": f"2026-01-{day:02d}T00:00:00+00:00",
        "machine_info": {"cpu": {"brand_raw": "AMD EPYC"}, "python_version": "3.11.7"},
        "commit_info": {"id": "0123456789abcdef0123"},
        "version": "5.0",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**defaults, **values}))


def test_the_newest_time_of_each_test_is_taken_from_any_machine(tmp_path: Path) -> None:
    for machine, day, median in (("A", 3, 3e-3), ("B", 5, 5e-3), ("C", 4, 4e-3)):
        write_benchmarks(tmp_path / f"Linux-{machine}" / f"000{day}_x.json", median, day=day)
    found, left_out = newest_times(tmp_path)
    assert found == {
        CASE_ID: ImportedTime(
            seconds=5e-3,
            rounds=7,
            recorded=datetime(2026, 1, 5, tzinfo=timezone.utc),
            machine="AMD EPYC, Python 3.11.7",
            source="0005_x.json",
            revision="0123456789ab",
        )
    }
    assert left_out == []


def test_one_file_is_enough_and_what_it_does_not_say_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    write_benchmarks(path, datetime="2026-01-02T00:00:00", machine_info={}, commit_info={"id": "unversioned"})
    found, _ = newest_times(path)
    assert (found[CASE_ID].machine, found[CASE_ID].revision) == ("an unknown machine", None)
    assert found[CASE_ID].recorded == datetime(2026, 1, 2, tzinfo=timezone.utc)
    write_benchmarks(path, machine_info={"machine": "x86_64", "cpu": "a text"}, commit_info={})
    assert newest_times(path)[0][CASE_ID].machine == "x86_64"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Expecting property name"),
        ("[]", "Input should be a valid dictionary"),
        (
            '{"benchmarks": [{"fullname": "a", "stats": {"median": NaN, "rounds": 1}}], "datetime": "2026-01-02"}',
            "median",
        ),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_nothing_of_the_kind_is_left_out_and_named(text: str, why: str, tmp_path: Path) -> None:
    write_benchmarks(tmp_path / "0001_sound.json")
    (tmp_path / "0002_odd.json").write_text(text)
    found, (left_out,) = newest_times(tmp_path)
    assert list(found) == [CASE_ID]
    assert left_out.startswith(f"{tmp_path / '0002_odd.json'}: ")
    assert why in left_out


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "_LARGEST_FILE_BYTES", 10)
    write_benchmarks(tmp_path / "0001_sound.json")
    found, (left_out,) = newest_times(tmp_path)
    assert found == {}
    assert "larger than 10 bytes" in left_out


def test_a_storage_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"there is no .*absent; name pytest-benchmark's storage"):
        newest_times(tmp_path / "absent")


def test_imported_times_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    assert store.imported() == {}
    store.write_imported({CASE_ID: TIME, "test_b.py::test_b": TIME})
    assert BaselineStore(tmp_path).imported()[CASE_ID] == TIME
    assert store.environments() == []
    assert store.environments_with(CASE_ID) == []


def test_one_that_is_replaced_is_forgotten_and_the_last_one_takes_the_file_along(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    store.write_imported({CASE_ID: TIME, "test_b.py::test_b": TIME})
    store.replace_imported("test_unknown.py::test")
    store.replace_imported(CASE_ID)
    assert list(store.imported()) == ["test_b.py::test_b"]
    store.replace_imported("test_b.py::test_b")
    assert store.imported() == {}
    assert not (tmp_path / IMPORTED_FILE).exists()


def test_a_broken_file_ends_the_run_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / IMPORTED_FILE).write_text('{"schema": 1, "cases": {"a": {"seconds": 0}}}')
    with pytest.raises(BaselineError, match=r"imported\.json is not a valid baseline: cases\.a\.seconds"):
        BaselineStore(tmp_path).verify()
