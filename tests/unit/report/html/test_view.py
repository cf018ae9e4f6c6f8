from __future__ import annotations

from functools import cache

import pytest

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.html import view
from pytest_nnopt.report.html.changes import Change
from pytest_nnopt.report.html.view import CaseView, PageView, view_case, view_run
from pytest_nnopt.results import RunResults
from tests.builders import make_check, make_compile_record, make_result
from tests.samples import make_case, make_context, make_leaf, sample_run


@cache
def sample_page() -> PageView:
    """What the page of the sample shows, drawn once."""
    return view_run(sample_run())


def view_of(name: str) -> CaseView:
    (case,) = (case for case in sample_run().cases if name in case.id)
    return view_case(case, is_drawn=False)


def run_of(*outcomes: Outcome) -> RunResults:
    cases = tuple(make_result(make_check(outcome=outcome), case_id=f"test_{n}") for n, outcome in enumerate(outcomes))
    return RunResults(environment={}, cases=cases)


@pytest.mark.parametrize(
    ("outcomes", "headline", "mood"),
    [
        ((), "No case was measured", "skipped"),
        ((Outcome.PASSED,), "The case passed", "passed"),
        ((Outcome.PASSED, Outcome.IMPROVED), "All 2 cases passed", "passed"),
        ((Outcome.PASSED, Outcome.FAILED, Outcome.NO_BASELINE), "2 of 3 cases failed", "failed"),
        ((Outcome.FAILED,), "1 of 1 case failed", "failed"),
        ((Outcome.PASSED, Outcome.INCONCLUSIVE), "No case failed, 1 of 2 could not be told", "inconclusive"),
        ((Outcome.SKIPPED,), "Nothing was checked in 1 case", "skipped"),
    ],
)
def test_the_headline_is_the_answer(outcomes: tuple[Outcome, ...], headline: str, mood: str) -> None:
    page = view_run(run_of(*outcomes))
    assert (page.headline, page.mood) == (headline, mood)


def test_failures_come_first_and_can_be_filtered() -> None:
    page = sample_page()
    assert [case.badge.words for case in page.cases[:4]] == ["failed", "failed", "no baseline", "inconclusive"]
    assert [(choice.badge.name, choice.count) for choice in page.choices] == [
        ("failed", 2),
        ("no_baseline", 1),
        ("inconclusive", 1),
        ("passed", 3),
        ("improved", 1),
        ("skipped", 1),
    ]
    assert (page.environment, page.notes) == ("cpu-amd-epyc-2c-torch2.13", ())
    assert page.facts == ("cpu AMD EPYC", "cores 2", "threads 2", "torch 2.13.0", "python 3.11.7")


def test_a_case_says_why_it_failed_and_what_to_do() -> None:
    case = view_of("test_policy_value_net")
    assert (case.place, case.name) == ("tests/models/test_zoo.py", "test_policy_value_net[batch=64-width=128]")
    assert [reason.name for reason in case.reasons] == ["compile", "latency", "memory"]
    assert case.reasons[1].reason.startswith("+20.0 % against the baseline")
    assert (case.speedup, case.change) == ("1.67x", "+20.0 %")
    assert case.checks[0].details == (
        "graph break at model.py:14: Failed to trace builtin print",
        "    print(y.mean())",
    )
    assert case.checks[0].remedy is not None
    assert case.checks[-1].remedy is None
    assert case.changes[0] == Change("+", "graph break model.py:14: Failed to trace builtin print — print(y.mean())")
    assert case.events == ()
    assert case.concerns == ("in 4 of 4 processes: the load average is 9",)


def test_a_passed_case_needs_no_reason() -> None:
    case = view_of("test_family[vit]")
    assert (case.reasons, case.speedup, case.pictures) == ((), "2.00x", ())
    assert not any(row.is_different for row in case.environment)


def test_without_a_level_all_events_are_shown() -> None:
    case = view_of("test_quantised_encoder")
    assert case.events == ("graph break model.py:14: Failed to trace builtin print — print(y.mean())",)
    assert (case.changes, case.has_baseline) == ((), False)


def test_what_differs_in_the_environment_comes_first() -> None:
    first, second, *_ = view_of("test_policy_value_net").environment
    assert (first.name, first.baseline, first.here, first.is_different) == ("python", "3.12.1", "3.11.7", True)
    assert (first.is_decisive, second.is_different, second.is_decisive) == (False, False, True)


def test_a_case_of_an_older_file_is_shown_without_its_context() -> None:
    case = view_case(make_case("test_a", make_check()))
    assert (case.environment, case.leaves, case.pictures, case.hidden_leaves) == ((), (), (), 0)


def test_the_anchor_of_a_case_is_the_same_in_every_report() -> None:
    assert view_of("test_new").anchor == view_of("test_new").anchor
    assert len({case.anchor for case in sample_page().cases}) == 9


def test_only_the_worst_cases_are_shown_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "MOST_CASES", 3)
    monkeypatch.setattr(view, "MOST_DRAWN", 1)
    page = view_run(sample_run())
    assert [bool(case.pictures) for case in page.cases] == [True, False, False]
    assert page.notes == (
        "the 3 worst of 9 cases are shown; the results file has all of them",
        "the 1 worst cases have pictures",
    )


def test_long_lists_are_cut_and_say_so() -> None:
    details = ("\n".join(f"line {index}" for index in range(100)),)
    counters = {f"counter_{index}": index for index in range(60)}
    leaves = tuple(make_leaf(f"leaf {index}") for index in range(20))
    case = view_case(
        make_case(
            "test_a",
            make_check(CheckName.NUMERICS, Outcome.FAILED, "x" * 5000, details=details),
            context=make_context(leaves=leaves),
            compile=make_compile_record(counters=counters),
        ),
        is_drawn=False,
    )
    assert len(case.reasons[0].reason) < 700
    assert (len(case.checks[0].details), case.checks[0].details[-1]) == (41, "and 60 more lines")
    assert (len(case.changes), case.changes[-1]) == (41, Change("…", "and 22 more"))
    assert (len(case.leaves), case.hidden_leaves) == (16, 4)
