from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pytest_benchmark.cli import main as benchmark_main

from pytest_nnopt.report.benchmark_json import render_benchmark_json
from pytest_nnopt.results import RunResults
from tests.builders import RECORDED, make_environment, make_process
from tests.unit.report.samples import BETTER, RUN, SLOW, case


def written(run: RunResults = RUN) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(render_benchmark_json(run, written=RECORDED, revision="0123456789ab"))
    return values


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of two runs, as pytest-benchmark keeps them."""
    folder = tmp_path / "store" / "Linux-CPython-3.11-64bit"
    folder.mkdir(parents=True)
    for number in ("0001", "0002"):
        (folder / f"{number}_nnopt.json").write_text(render_benchmark_json(RUN, written=RECORDED))
    return tmp_path / "store"


def run_benchmark_command(monkeypatch: pytest.MonkeyPatch, store: Path, *arguments: str) -> None:
    monkeypatch.chdir(store.parent)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr(sys, "argv", ["pytest-benchmark", "--storage", f"file://{store}", *arguments])
    benchmark_main()


def test_both_sides_of_each_timed_case_are_written() -> None:
    entries = written()["benchmarks"]
    assert [entry["fullname"] for entry in entries] == [
        f"{name}{side}"
        for name in (BETTER.id, "tests/test_model.py::test_open", SLOW.id)
        for side in ("", " (reference)")
    ]
    slow = entries[-2]
    assert (slow["name"], slow["group"], slow["extra_info"]["nnopt_outcome"]) == ("test_slow", SLOW.id, "failed")
    assert slow["stats"]["rounds"] == len(slow["stats"]["data"]) == 8
    assert slow["stats"]["median"] == pytest.approx(8e-4)


def test_a_side_that_was_not_timed_has_no_entry() -> None:
    process = make_process().model_copy(update={"seconds": {"candidate": 1e-3}})
    results = RunResults(environment={}, cases=(case("test", timing=(process,)),))
    assert [entry["name"] for entry in written(results)["benchmarks"]] == ["test"]


def test_where_and_of_what_is_told() -> None:
    values = written()
    assert values["machine_info"]["cpu"] == {"brand_raw": "AMD EPYC", "count": 2}
    assert values["machine_info"]["torch"] == make_environment().fields["torch"]
    assert (values["commit_info"]["id"], values["datetime"]) == ("0123456789ab", RECORDED.isoformat())


def test_the_compare_command_of_pytest_benchmark_reads_it(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_benchmark_command(monkeypatch, store, "compare", "--group-by=fullname", "--columns=median,ops,rounds")
    text = capsys.readouterr().out
    assert text.count("test_slow (0001_nnopt") == text.count("test_slow (0002_nnopt") == 1
    assert "test_slow (reference) (0001_nnopt" in text


def test_its_histogram_is_drawn(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_benchmark_command(monkeypatch, store, "compare", "--histogram=plot")
    drawn = (store.parent / "plot-tests_test_model.py_test_slow.svg").read_text()
    assert "test_slow" in drawn
    assert "Generated histogram" in capsys.readouterr().err


def test_github_action_benchmark_finds_what_its_documented_shape_names() -> None:
    class ActionStats(BaseModel):
        mean: float
        stddev: float
        ops: float
        rounds: int

    class Entry(BaseModel):
        fullname: str
        stats: ActionStats

    entries = [Entry.model_validate(entry) for entry in written()["benchmarks"]]
    assert entries[-2].stats.ops == pytest.approx(1 / entries[-2].stats.mean)
    assert entries[2].stats.stddev == 0


def test_bencher_finds_what_its_documented_shape_names() -> None:
    class BencherStats(BaseModel):
        median: float
        iqr: float

    class Entry(BaseModel):
        fullname: str
        stats: BencherStats

    class File(BaseModel):
        machine_info: dict[str, Any]
        commit_info: dict[str, Any]
        benchmarks: list[Entry]

    file = File.model_validate(written())
    assert file.benchmarks[-2].stats.median == pytest.approx(8e-4)
    assert all(entry.stats.iqr >= 0 for entry in file.benchmarks)
