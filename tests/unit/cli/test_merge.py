"""Files of several jobs as one, for whatever works on one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.model import Outcome
from pytest_nnopt.report.files import read_results, write_json
from pytest_nnopt.results import RunResults, ShardRecord
from tests.builders import make_check, make_environment, make_evidence, make_result

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]


def write_shard(index: int, count: int, outcome: Outcome = Outcome.PASSED) -> None:
    result = make_result(make_check(outcome=outcome), case_id=f"t.py::test_{index}", evidence=make_evidence(count=3))
    shard = ShardRecord(index=index, count=count)
    results = RunResults(environment=dict(make_environment().fields), cases=(result,), shard=shard)
    write_json(Path(f"shard-{index}.json"), results)


def test_shards_become_one_file(nnopt: Nnopt) -> None:
    write_shard(1, 2)
    write_shard(2, 2)
    said = nnopt("merge", "shard-1.json", "shard-2.json", "-o", "all.json")
    assert (said.status, said.out) == (0, "merged 2 files into all.json: 2 passed\n")
    merged = read_results(Path("all.json"))
    assert [case.id for case in merged.cases] == ["t.py::test_1", "t.py::test_2"]
    assert [part.shard and part.shard.index for part in merged.parts] == [1, 2]


def test_a_missing_shard_is_named_and_never_passes(nnopt: Nnopt) -> None:
    write_shard(2, 3)
    said = nnopt("merge", "shard-2.json", "-o", "all.json")
    assert said.status == 1
    assert said.out.splitlines()[1:] == ["shard 1 of 3 is missing", "shard 3 of 3 is missing"]
    assert read_results(Path("all.json")).problems


def test_a_failed_case_fails_the_whole(nnopt: Nnopt) -> None:
    write_shard(1, 2)
    write_shard(2, 2, Outcome.NO_BASELINE)
    said = nnopt("merge", "shard-1.json", "shard-2.json", "-o", "all.json", "--json")
    assert said.status == 1
    found = said.json()
    assert (found["file"], found["outcome"], found["problems"]) == ("all.json", "no_baseline", [])
    assert found["cases"] == {"passed": 1, "no_baseline": 1}
    assert "no_baseline: t.py::test_2" in nnopt("merge", "shard-1.json", "shard-2.json", "-o", "all.json").out


def test_a_file_that_is_not_there_or_was_cut_off_is_an_error(nnopt: Nnopt) -> None:
    write_shard(1, 2)
    Path("shard-2.json").write_text(Path("shard-1.json").read_text()[:100])
    for name in ("shard-2.json", "shard-3.json"):
        said = nnopt("merge", "shard-1.json", name, "-o", "all.json")
        assert said.status == 4
        assert name in said.err
    assert not Path("all.json").exists()


def test_a_file_is_named_once_and_not_overwritten(nnopt: Nnopt) -> None:
    write_shard(1, 1)
    assert "given twice" in nnopt("merge", "shard-1.json", "./shard-1.json", "-o", "all.json").err
    said = nnopt("merge", "shard-1.json", "-o", "shard-1.json")
    assert (said.status, "to be written" in said.err) == (4, True)


def test_other_subcommands_take_what_was_merged(nnopt: Nnopt) -> None:
    write_shard(1, 2)
    write_shard(2, 2)
    nnopt("merge", "shard-1.json", "shard-2.json", "-o", "all.json")
    accepted = nnopt("accept", "all.json")
    assert accepted.status == 0
    assert len(accepted.out.splitlines()) == 2
    rows = nnopt("compare", "all.json", "shard-1.json", "--json").json()
    assert [row["other"] for row in rows] == [[], ["only in all.json"]]
    assert nnopt("report", "all.json", "-o", "all.html").status == 0
    assert "All 2 cases passed" in Path("all.html").read_text()


def test_a_report_of_incomplete_results_says_so(nnopt: Nnopt) -> None:
    write_shard(1, 2)
    nnopt("merge", "shard-1.json", "-o", "all.json")
    nnopt("report", "all.json", "-o", "all.html")
    page = Path("all.html").read_text()
    assert "The results are not complete" in page
    assert "shard 2 of 2 is missing" in page
