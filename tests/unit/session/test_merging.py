"""What was spread over jobs is one run again only if nothing is missing and all of it fits together."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.results import CaseContext, CaseResult, PartRecord, RunResults, ShardRecord
from pytest_nnopt.session.merging import Part, merge_results
from tests.builders import make_check, make_environment, make_result

PASSED = make_check(outcome=Outcome.PASSED)
FAILED = make_check(outcome=Outcome.FAILED)


def case(case_id: str, outcome: Outcome = Outcome.PASSED, **environment: Any) -> CaseResult:
    context = CaseContext(environment=dict(make_environment(**environment).fields))
    return make_result(make_check(outcome=outcome), case_id=case_id).model_copy(update={"context": context})


def part(name: str, *cases: CaseResult, shard: tuple[int, int] | None = None, revision: str | None = None) -> Part:
    fields = dict(make_environment().fields) if cases else {}
    label = None if shard is None else ShardRecord(index=shard[0], count=shard[1])
    return Part(name, RunResults(environment=fields, cases=cases, shard=label, revision=revision))


def test_shards_become_one_run_in_the_order_of_ids() -> None:
    merged = merge_results(
        [
            part("b.json", case("t.py::b"), case("t.py::c"), shard=(2, 2), revision="abc"),
            part("a.json", case("t.py::a"), shard=(1, 2), revision="abc"),
        ]
    )
    assert [one.id for one in merged.cases] == ["t.py::a", "t.py::b", "t.py::c"]
    assert (merged.outcome, merged.problems, merged.revision) == (Outcome.PASSED, (), "abc")
    assert merged.environment == make_environment().fields
    assert merged.parts == (
        PartRecord(name="b.json", shard=ShardRecord(index=2, count=2), revision="abc", cases=2),
        PartRecord(name="a.json", shard=ShardRecord(index=1, count=2), revision="abc", cases=1),
    )


def test_each_missing_shard_is_named_and_nothing_passes() -> None:
    merged = merge_results([part("b.json", case("t.py::b"), shard=(2, 4))])
    assert merged.problems == tuple(f"shard {index} of 4 is missing" for index in (1, 3, 4))
    assert merged.outcome is Outcome.FAILED


def test_a_shard_without_cases_is_there() -> None:
    merged = merge_results([part("a.json", case("t.py::a"), shard=(1, 2)), part("b.json", shard=(2, 2))])
    assert merged.problems == ()


def test_what_was_merged_in_part_can_be_completed() -> None:
    half = merge_results([part("a.json", case("t.py::a"), shard=(1, 2))])
    assert half.problems == ("shard 2 of 2 is missing",)
    whole = merge_results([Part("half.json", half), part("b.json", case("t.py::b"), shard=(2, 2))])
    assert whole.problems == ()
    assert [one.name for one in whole.parts] == ["a.json", "b.json"]


@pytest.mark.parametrize(
    ("parts", "shards", "problem"),
    [
        ([part("a.json", case("a"), shard=(1, 1)), part("b.json", case("b"))], None, "b.json does not say which shard"),
        ([part("a.json", case("a"))], 2, "2 shards are asked for, 1 files are there, and none says"),
        ([part("a.json", case("a"), shard=(1, 1))], 2, "2 shards are asked for, the files say that there are 1"),
        (
            [part("a.json", case("a"), shard=(1, 1)), part("b.json", case("b"), shard=(1, 1))],
            None,
            "shard 1 of 1 is there 2 times: a.json, b.json",
        ),
        (
            [part("a.json", case("a"), shard=(1, 2)), part("b.json", case("b"), shard=(2, 3))],
            None,
            "shards of different runs: the files say that there are 2 and 3 of them",
        ),
        (
            [part("a.json", case("a"), revision="abc"), part("b.json", case("b"), revision="def")],
            None,
            "results of different revisions: abc in a.json; def in b.json",
        ),
        (
            [part("a.json", case("a")), part("b.json", case("b", cores=4))],
            None,
            "results of different environments: b.json differs from a.json in cores: 2 → 4; if that is meant, give",
        ),
        ([part("a.json")], None, "no file holds a case"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_passes(parts: list[Part], shards: int | None, problem: str) -> None:
    merged = merge_results(parts, shards=shards)
    assert any(found.startswith(problem) for found in merged.problems), merged.problems
    assert merged.outcome is Outcome.FAILED


def test_as_many_unlabelled_files_as_asked_for_are_a_whole_run() -> None:
    merged = merge_results([part("a.json", case("a")), part("b.json", case("b"))], shards=2)
    assert merged.problems == ()


def test_as_many_labelled_files_as_asked_for_are_a_whole_run() -> None:
    assert merge_results([part("a.json", case("a"), shard=(1, 1))], shards=1).problems == ()


def test_of_a_case_that_is_there_twice_the_worse_result_is_kept() -> None:
    merged = merge_results([part("a.json", case("a", Outcome.FAILED)), part("b.json", case("a"))])
    assert merged.problems == ("a is there 2 times: failed in a.json, passed in b.json; the worst is kept",)
    assert [one.outcome for one in merged.cases] == [Outcome.FAILED]
    turned = merge_results([part("b.json", case("a")), part("a.json", case("a", Outcome.FAILED))])
    assert turned.cases == merged.cases


def test_the_very_same_result_twice_is_no_contradiction() -> None:
    merged = merge_results([part("a.json", case("a")), part("b.json", case("a"))])
    assert (len(merged.cases), merged.problems) == (1, ())


def test_a_matrix_of_machines_holds_each_case_once_a_machine() -> None:
    parts = [part("a.json", case("a")), part("b.json", case("a", Outcome.FAILED, cores=4))]
    merged = merge_results(parts, is_mixed=True)
    assert len(merged.cases) == 2
    assert merged.problems == ()
    assert merged.outcome is Outcome.FAILED


def test_devices_and_what_tests_set_may_differ() -> None:
    parts = [
        part("a.json", case("a"), case("b", cores=8), case("c", device="cuda", gpu="H100")),
        part("b.json", case("d", threads=1, deterministic=True), case("e", device="cuda", gpu="H100")),
    ]
    assert merge_results(parts).problems == ()


def test_a_result_of_before_there_were_contexts_was_measured_where_its_file_says() -> None:
    bare = make_result(make_check(CheckName.NUMERICS), case_id="a")
    assert merge_results([part("a.json", bare), part("b.json", case("b"))]).problems == ()
    assert merge_results([part("a.json"), part("b.json", case("b"))]).environment == make_environment().fields


def test_conflicts_outlive_a_further_merge() -> None:
    first = merge_results([part("a.json", case("a", Outcome.FAILED)), part("b.json", case("a"))])
    again = merge_results([Part("first.json", first), part("c.json", case("c"))])
    assert again.problems == first.problems
