from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.baseline.schema import Evidence, MemoryRecord
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.cli.evidence import _extract_files
from pytest_nnopt.report.files import write_json
from pytest_nnopt.results import RunResults
from tests.builders import CASE_ID, make_baseline, make_compile_record, make_environment, make_evidence, make_result

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

HERE, THERE = make_environment(), make_environment(cpu="Other")


def write_results(path: str, evidence: Evidence, case_id: str = CASE_ID) -> None:
    write_json(
        Path(path), RunResults(environment=dict(HERE.fields), cases=(make_result(case_id=case_id, evidence=evidence),))
    )


def test_a_slowdown_between_two_files_is_told_from_noise(nnopt: Nnopt) -> None:
    write_results("a.json", make_evidence(0.5).model_copy(update={"memory": MemoryRecord(candidate_peak_bytes=100)}))
    slow = make_evidence(0.6, compiled=make_compile_record(graphs=2, graph_breaks=1))
    write_results("b.json", slow.model_copy(update={"memory": MemoryRecord(candidate_peak_bytes=150)}))
    (row,) = nnopt("compare", "a.json", "b.json", "--json").json()
    assert (row["case"], row["environment"], row["verdict"]) == (CASE_ID, "", "slower")
    assert row["low"] < row["change"] < row["high"]
    assert row["change"] == pytest.approx(0.2, rel=0.01)
    assert (row["memory"], row["other"]) == (0.5, ["graphs 1 → 2", "graph breaks 0 → 1"])
    text = nnopt("compare", "b.json", "a.json").out
    assert "faster" in text
    assert "graph breaks 1 → 0" in text


def test_equal_files_show_no_difference(nnopt: Nnopt) -> None:
    write_results("a.json", make_evidence(0.5))
    text = nnopt("compare", "a.json", "a.json").out
    assert "no difference shown" in text
    assert "+0.00 % [-" in text


def test_a_case_on_one_side_alone_is_named(nnopt: Nnopt) -> None:
    write_results("a.json", make_evidence())
    write_results("b.json", Evidence(), "test_b.py::test_b")
    rows = nnopt("compare", "a.json", "b.json", "--json").json()
    assert {row["case"]: row["other"] for row in rows} == {
        CASE_ID: ["only in a.json"],
        "test_b.py::test_b": ["only in b.json"],
    }


def test_environments_are_compared_case_by_case(nnopt: Nnopt) -> None:
    store = BaselineStore(Path("baselines"))
    store.write(HERE, make_baseline(HERE, make_evidence(0.5)))
    store.write(THERE, make_baseline(THERE, make_evidence(0.4)))
    (row,) = nnopt("compare", HERE.name, THERE.name, "--json").json()
    assert row["verdict"] == "faster"


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(nnopt: Nnopt) -> None:
    """A repository whose second commit halves the speedup in one of two environments."""
    git("init", "-q", "-b", "main")
    store = BaselineStore(Path("baselines"))
    for evidence in (make_evidence(0.5), make_evidence(1.0)):
        store.write(HERE, make_baseline(HERE, evidence))
        store.write(THERE, make_baseline(THERE, make_evidence(0.5)))
        git("add", ".")
        git("commit", "-q", "-m", "baselines")


@pytest.mark.usefixtures("repository")
def test_revisions_are_compared_in_each_environment(nnopt: Nnopt) -> None:
    rows = nnopt("compare", "HEAD~1", "HEAD", "--json").json()
    assert {row["environment"]: row["verdict"] for row in rows} == {
        HERE.name: "slower",
        THERE.name: "no difference shown",
    }
    assert HERE.name in nnopt("compare", "HEAD~1", "HEAD").out


@pytest.mark.usefixtures("repository")
def test_a_revision_is_compared_with_a_results_file(nnopt: Nnopt) -> None:
    write_results("now.json", make_evidence(1.0))
    rows = {row["environment"]: row for row in nnopt("compare", "HEAD~1", "now.json", "--json").json()}
    assert rows[HERE.name]["verdict"] == "slower"
    assert rows[THERE.name]["other"] == ["only in HEAD~1"]


@pytest.mark.usefixtures("repository")
def test_what_is_nothing_is_refused_with_what_there_is(nnopt: Nnopt) -> None:
    said = nnopt("compare", "HEAD", "nowhere")
    assert said.status == 4
    assert "'nowhere' is no results file, no environment in baselines (there are: " in said.err
    assert HERE.name in said.err


def test_a_name_outside_of_any_repository_is_refused(nnopt: Nnopt) -> None:
    assert "(there are: none) and no git revision" in nnopt("compare", "HEAD", "HEAD").err


def test_an_archive_writes_nothing_outside_of_its_directory(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("../out.json", "env/in.json"):
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"{}"))
    buffer.seek(0)
    (tmp_path / "inside").mkdir()
    with tarfile.open(fileobj=buffer) as tar:
        _extract_files(tar, tmp_path / "inside")
    assert [path.name for path in tmp_path.rglob("*.json")] == ["in.json"]


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("name", ["--upload-pack=touch gone", "-x", "--output=gone", "HEAD:../..", "a..b", "\0"])
def test_what_is_no_revision_is_never_an_option(nnopt: Nnopt, name: str) -> None:
    said = nnopt("compare", "--", name, "HEAD")
    assert said.status == 4
    assert "is no results file, no environment in baselines" in said.err
    assert not Path("gone").exists()


@pytest.mark.usefixtures("repository")
def test_a_revision_with_far_too_much_is_refused(nnopt: Nnopt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_nnopt.cli.evidence._LARGEST_ARCHIVE_BYTES", 10)
    said = nnopt("compare", "HEAD", "HEAD")
    assert said.status == 4
    assert "bytes, and 10 are read at most; look for what else is in baselines there" in said.err


def test_a_table_of_hostile_names_commands_nothing(nnopt: Nnopt) -> None:
    hostile = f"{'x' * 397}::error::boom ##[error]boom \x1b[2J\u202e"
    for path in ("a.json", "b.json"):
        write_results(path, make_evidence(0.5), hostile)
    for arguments in (["compare", "a.json", "b.json"], ["compare", "a.json", "b.json", "--json"]):
        said = nnopt(*arguments)
        assert said.status == 0
        assert not [line for line in said.out.splitlines() if line.lstrip().startswith("::")]
        assert not set("\x1b\u202e") & set(said.out)
        assert "##[" not in said.out
