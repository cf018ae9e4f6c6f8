from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pytest_nnopt import __version__
from pytest_nnopt.baseline.schema import CaseBaseline, Evidence
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.cli import main
from pytest_nnopt.results import RunResults
from tests.builders import (
    CASE_ID,
    make_baseline,
    make_check,
    make_environment,
    make_evidence,
    make_recording,
    make_result,
)

HERE = make_environment()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """Run the command and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["nnopt", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


@pytest.fixture
def baselines(tmp_path: Path) -> Path:
    store = BaselineStore(tmp_path / "baselines")
    recordings = (make_recording(HERE, make_evidence(0.5, count=3)), make_recording(HERE, make_evidence(0.5, count=1)))
    store.write(HERE, CaseBaseline(case=CASE_ID, recordings=recordings))
    other = make_environment(cpu="Other")
    recording = make_recording(other, Evidence(), revision="0123456789ab")
    store.write(other, CaseBaseline(case=f"{CASE_ID}#untimed", recordings=(recording,)))
    return store.root


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"pytest-nnopt {__version__}\n"


def test_show_lists_every_baseline(
    baselines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "show", "--baseline-dir", baselines) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["case", "environment", "recorded", "revision", "processes", "candidate", "speedup"]
    assert [row.split() for row in rows] == [
        [CASE_ID, "cpu-amd-epyc-2c-torch2.13", "2026-01-02", "-", "4", "500", "µs", "2.00x"],
        [f"{CASE_ID}#untimed", "cpu-other-2c-torch2.13", "2026-01-02", "0123456789ab", "0", "-", "-"],
    ]


def test_show_writes_json_for_programs(
    baselines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "show", "--json", "--baseline-dir", baselines) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == {
        "case": CASE_ID,
        "environment": "cpu-amd-epyc-2c-torch2.13",
        "recorded": "2026-01-02",
        "revision": None,
        "processes": 4,
        "candidate": "500 µs",
        "speedup": "2.00x",
    }
    assert (second["candidate"], second["speedup"]) == (None, None)


def test_show_says_where_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "show") == 0
    assert capsys.readouterr().out == "no baselines in baselines; record some with pytest --nnopt-update\n"


def test_an_id_that_looks_like_markup_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case_id = "test_model.py::test_policy[red]"
    BaselineStore(tmp_path).write(HERE, make_baseline(HERE, case=case_id))
    assert run(monkeypatch, "show", "--baseline-dir", tmp_path) == 0
    assert case_id in capsys.readouterr().out


def test_a_baseline_without_the_candidates_time_is_listed(
    baselines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = BaselineStore(baselines).path(HERE.name, CASE_ID)
    path.write_text(path.read_text().replace('"candidate":', '"elsewhere":'))
    assert run(monkeypatch, "show", "--baseline-dir", baselines) == 0
    head, row, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["processes", "speedup"]  # a column that says nothing is left out
    assert row.split()[-1] == "2.00x"


def test_a_broken_baseline_ends_with_status_four_and_one_line(
    baselines: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = BaselineStore(baselines).path(HERE.name, CASE_ID)
    path.write_text("broken")
    assert run(monkeypatch, "show", "--baseline-dir", baselines) == 4
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"nnopt: {path} cannot be read: ")
    assert output.err.count("\n") == 1


def test_an_unknown_command_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "shew") == 2


def test_report_makes_a_page_of_a_results_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, page = tmp_path / "results.json", tmp_path / "page.html"
    results.write_text(RunResults(environment={}, cases=(make_result(make_check()),)).model_dump_json(by_alias=True))
    assert run(monkeypatch, "report", results, "-o", page) == 0
    assert capsys.readouterr().out == f"wrote {page}\n"
    assert "The case passed" in page.read_text(encoding="utf-8")
    assert run(monkeypatch, "report", results, "--output", page, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"html": str(page)}


def test_report_names_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "report", tmp_path / "results.json") == 4
    assert capsys.readouterr().err.startswith("nnopt: cannot read ")
