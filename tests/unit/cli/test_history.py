from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.baseline.schema import CaseBaseline
from pytest_nnopt.baseline.store import LARGEST_FILE_BYTES, BaselineStore
from pytest_nnopt.cli.history import sparkline
from tests.builders import CASE_ID, make_environment, make_evidence, make_recording

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

HERE = make_environment()


def write(*ratios: float, days: int = 0, case: str = CASE_ID) -> None:
    recordings = []
    for number, ratio in enumerate(ratios):
        recording = make_recording(HERE, make_evidence(ratio))
        recordings.append(recording.model_copy(update={"recorded": recording.recorded + timedelta(days=days + number)}))
    BaselineStore(Path("baselines")).write(HERE, CaseBaseline(case=case, recordings=tuple(recordings)))


def commit() -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "baselines")):
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_a_line_of_bars_from_the_lowest_to_the_highest() -> None:
    assert sparkline([1.0, 1.5, 2.0]) == "▁▅█"
    assert sparkline([1.0, 1.0]) == "▅▅"


def test_recordings_are_shown_oldest_first(nnopt: Nnopt) -> None:
    write(1.0, 0.5)
    head, line, *table = nnopt("history", CASE_ID).out.splitlines()
    assert head == CASE_ID
    assert line == "cpu-amd-epyc-2c-torch2.13  ▁█  1.00x to 2.00x"
    assert [row.split()[1] for row in table[1:]] == ["2026-01-02", "2026-01-03"]


def test_levels_that_were_replaced_are_found_in_git(nnopt: Nnopt) -> None:
    write(1.0)
    commit()
    write(0.8, days=10)
    Path("baselines", HERE.name, "broken.json").write_text("")
    commit()
    write(0.8, 0.5, days=10)
    rows = nnopt("history", "test_policy", "--json").json()
    assert [row["speedup"] for row in rows] == [1.0, 1.25, 2.0]


def test_a_version_that_is_no_baseline_is_left_out(nnopt: Nnopt) -> None:
    write(1.0)
    path = BaselineStore(Path("baselines")).path(HERE.name, CASE_ID)
    sound = path.read_text()
    for text in ("{", "{}"):
        path.write_text(text)
        commit()
    path.write_text(sound)
    assert len(nnopt("history", CASE_ID, "--json").json()) == 1


def test_an_id_that_is_unknown_or_not_the_only_one_is_refused(nnopt: Nnopt) -> None:
    write(1.0)
    write(1.0, case=f"{CASE_ID}#b")
    assert nnopt("history", CASE_ID).status == 0
    assert "'policy' is part of several ids: " in nnopt("history", "policy").err
    assert "has 'other' in its case's id; nnopt show lists them" in nnopt("history", "other").err


def test_recordings_without_times_are_said_to_have_none(nnopt: Nnopt) -> None:
    evidence = make_evidence().model_copy(update={"timing": ()})
    BaselineStore(Path("baselines")).write(
        HERE, CaseBaseline(case=CASE_ID, recordings=(make_recording(HERE, evidence),))
    )
    said = nnopt("history", CASE_ID)
    assert said.out.splitlines()[1:] == ["no recording of it holds times; record some with pytest --nnopt-update"]


def test_it_is_drawn(nnopt: Nnopt) -> None:
    pytest.importorskip("matplotlib")
    write(1.0, 0.5)
    assert nnopt("history", CASE_ID, "--plot=plot.svg").status == 0
    assert "<svg" in Path("plot.svg").read_text()
    assert "cannot write plot.xyz" in nnopt("history", CASE_ID, "--plot=plot.xyz").err


def test_drawing_names_what_is_missing(nnopt: Nnopt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.dates", None)
    write(1.0)
    assert "pip install 'pytest-nnopt[report]'" in nnopt("history", CASE_ID, "--plot=plot.svg").err


def test_what_git_holds_is_read_within_bounds(nnopt: Nnopt) -> None:
    write(1.0)
    path = BaselineStore(Path("baselines")).path(HERE.name, CASE_ID)
    sound = path.read_text()
    for text in ("[" * 100_000, sound.replace("40", "NaN", 1), sound + " " * LARGEST_FILE_BYTES):
        path.write_text(text)
        commit()
    path.write_text(sound)
    assert len(nnopt("history", CASE_ID, "--json").json()) == 1


def test_a_case_whose_name_reads_as_a_formula_is_drawn(nnopt: Nnopt) -> None:
    pytest.importorskip("matplotlib")
    write(1.0, case="test_a.py::test[$\\frac$]")
    assert nnopt("history", "test_a", "--plot=plot.svg").status == 0
