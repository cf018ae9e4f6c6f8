"""``nnopt history`` over the shared history, and ``nnopt send``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.cli.history import shortened
from pytest_nnopt.history.schema import Selection
from pytest_nnopt.history.store import open_history
from pytest_nnopt.session.sharing import UNSENT
from tests.builders import CASE_ID, make_baseline, make_entry, make_environment, make_evidence

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

HERE = make_environment()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/history"


@pytest.fixture
def stepped(url: str) -> str:
    """A history of sixteen runs, the last six of them 10 % slower."""
    entries = [
        make_entry(hours=24 * number, revision=f"{number:040x}", evidence=make_evidence(0.5 if number < 10 else 0.55))
        for number in range(16)
    ]
    other = [make_entry(branch="topic", hours=1), make_entry(case=f"{CASE_ID}_other")]
    open_history(url, timeout_seconds=30).append([*entries, *other])
    return url


def test_a_step_is_found_between_two_revisions(nnopt: Nnopt, stepped: str) -> None:
    head, line, change, *table = nnopt("history", CASE_ID, "--history", stepped).out.splitlines()
    assert head == CASE_ID
    assert line == f"{HERE.name}  {'█' * 10}{'▁' * 6}  1.82x to 2.00x"
    assert change.startswith("change: 2.000x → 1.818x (-9.09 %) between 000000000000 (2026-01-11) and 000000000000")
    assert len(table) == 17


def test_the_step_is_on_its_run_in_json(nnopt: Nnopt, stepped: str) -> None:
    rows = nnopt("history", CASE_ID, "--history", stepped, "--json").json()
    assert [row["change"] for row in rows] == [None] * 10 + [-0.0909] + [None] * 5
    assert {row["source"] for row in rows} == {"history"}


def test_other_branches_are_shown_when_asked(nnopt: Nnopt, stepped: str) -> None:
    ask = ("history", CASE_ID, "--history", stepped, "--json")
    assert len(nnopt(*ask, "--branch=topic").json()) == 1
    assert len(nnopt(*ask, "--all-branches").json()) == 17
    assert len(nnopt(*ask, "--runs=3").json()) == 3


def test_baselines_and_runs_are_shown_together(nnopt: Nnopt, stepped: str) -> None:
    BaselineStore(Path("baselines")).write(HERE, make_baseline(HERE))
    Path("pyproject.toml").write_text(f'[tool.nnopt]\nhistory = "{stepped}"\n')
    rows = nnopt("history", CASE_ID, "--json").json()
    assert [row["source"] for row in rows].count("baseline") == 1
    assert len(rows) == 17


def test_a_part_of_an_id_is_enough(nnopt: Nnopt, stepped: str) -> None:
    assert nnopt("history", "_other", "--history", stepped).out.startswith(f"{CASE_ID}_other\n")
    assert f"or run in {stepped} has 'nothing' in its" in nnopt("history", "nothing", "--history", stepped).err


def test_a_long_table_is_cut_and_a_long_line_shortened(nnopt: Nnopt, url: str) -> None:
    open_history(url, timeout_seconds=30).append([make_entry(hours=number) for number in range(90)])
    _, line, note, *table = nnopt("history", CASE_ID, "--history", url).out.splitlines()
    assert len(line.split()[1]) == 60
    assert note == "the newest 30 of 90, which --json prints all:"
    assert len(table) == 31
    assert shortened([1.0, 3.0]) == [1.0, 3.0]


def test_changes_are_drawn(nnopt: Nnopt, stepped: str) -> None:
    pytest.importorskip("matplotlib")
    assert nnopt("history", CASE_ID, "--history", stepped, "--plot=plot.svg").status == 0
    assert "stroke-dasharray" in Path("plot.svg").read_text()


def test_a_url_that_is_none_is_refused_without_its_secret(nnopt: Nnopt) -> None:
    said = nnopt("history", CASE_ID, "--history", "mysql://me:hidden@host/x")
    assert said.status == 4
    assert "is no URL of a history" in said.err
    assert "hidden" not in said.err


def test_what_was_kept_is_sent_and_deleted(nnopt: Nnopt, url: str) -> None:
    entries = [make_entry(), make_entry(case="b")]
    UNSENT.mkdir(parents=True)
    (UNSENT / "run.jsonl").write_text("".join(f"{entry.to_text()}\n" for entry in entries))
    assert f"added 2 cases of run {entries[0].run} to {url}" in nnopt("send", "--history", url).out
    assert list(UNSENT.iterdir()) == []
    assert len(open_history(url, timeout_seconds=30).labels("b", Selection(5))) == 1


def test_programs_learn_what_was_sent(nnopt: Nnopt, url: str) -> None:
    entry = make_entry()
    UNSENT.mkdir(parents=True)
    (UNSENT / "run.jsonl").write_text(f"{entry.to_text()}\n")
    (sent,) = nnopt("send", "--history", url, "--json").json()["sent"]
    assert sent == {"file": str(UNSENT / "run.jsonl"), "run": entry.run, "cases": 1}


def test_sending_needs_a_history(nnopt: Nnopt) -> None:
    assert "there is no shared history; give its URL with --history" in nnopt("send").err
