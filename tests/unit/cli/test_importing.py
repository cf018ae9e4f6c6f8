from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.store import BaselineStore
from tests.builders import CASE_ID, make_baseline, make_environment
from tests.unit.baseline.test_imported import write_benchmarks

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

FILE = Path(".benchmarks/Linux-CPython-3.11-64bit/0001_x.json")


def test_times_are_taken_over_and_said_to_be_advice(nnopt: Nnopt) -> None:
    write_benchmarks(FILE)
    said = nnopt("import")
    assert said.out.splitlines() == [
        f"{CASE_ID}: imported, 1 ms from 0001_x.json",
        "1 in baselines/imported.json: advice that decides nothing; record baselines with pytest --nnopt-update",
    ]
    row = nnopt("show", "--json").json()[0]
    assert (row["case"], row["environment"], row["candidate"]) == (CASE_ID, "imported, advisory", "1 ms")


def test_a_later_import_adds_to_the_first(nnopt: Nnopt) -> None:
    write_benchmarks(FILE)
    nnopt("import")
    entry = {"fullname": "test_b.py::test_b", "stats": {"median": 2e-3, "rounds": 1}}
    write_benchmarks(FILE, benchmarks=[entry])
    assert nnopt("import", FILE).status == 0
    assert sorted(BaselineStore(Path("baselines")).imported()) == ["test_b.py::test_b", CASE_ID]


def test_a_test_with_a_baseline_is_left_alone(nnopt: Nnopt) -> None:
    here = make_environment()
    BaselineStore(Path("baselines")).write(here, make_baseline(here))
    write_benchmarks(FILE)
    assert nnopt("import").out == f"{CASE_ID}: has a baseline\n"
    assert not Path("baselines/imported.json").exists()


def test_a_trial_writes_nothing(nnopt: Nnopt) -> None:
    write_benchmarks(FILE)
    FILE.with_name("0002_odd.json").write_text("{}")
    said = nnopt("import", "--dry-run")
    assert said.out.splitlines()[0] == f"{CASE_ID}: would be imported, 1 ms from 0001_x.json"
    assert said.out.splitlines()[1].startswith(
        f"left out: {FILE.with_name('0002_odd.json')}: benchmarks: Field required"
    )
    assert nnopt("import", "--dry-run", "--json").json()["cases"][0]["is_imported"] is False
    assert not Path("baselines").exists()


def test_programs_learn_the_same(nnopt: Nnopt) -> None:
    write_benchmarks(FILE)
    (case,) = nnopt("import", "--json", "--case=policy").json()["cases"]
    assert (case["case"], case["seconds"], case["is_imported"]) == (CASE_ID, 1e-3, True)


def test_nothing_to_import_is_an_error(nnopt: Nnopt) -> None:
    assert "there is no .benchmarks" in nnopt("import").err
    write_benchmarks(FILE)
    assert "holds no time of a test with other in its id" in nnopt("import", "--case=other").err
    FILE.write_text("{}")
    said = nnopt("import")
    assert said.status == 4
    assert "left out: " in said.err
