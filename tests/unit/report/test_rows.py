from __future__ import annotations

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.rows import count_outcomes, rows_of
from tests.builders import make_check
from tests.unit.report.samples import RUN, case


def test_the_worst_cases_come_first_then_the_order_of_ids() -> None:
    assert [row.case_id.rpartition("::")[2][:8] for row in rows_of(RUN.cases)] == [
        "test_bro",
        "test_slo",
        "test_new",
        "test_ope",
        "test_sou",
        "test_bet",
        "test_una",
    ]


def test_only_the_checks_that_decided_are_named() -> None:
    checks = [
        make_check(CheckName.NUMERICS),
        make_check(CheckName.SPEEDUP, Outcome.INCONCLUSIVE),
        make_check(CheckName.MEMORY, Outcome.FAILED),
        make_check(CheckName.LATENCY, Outcome.SKIPPED),
    ]
    (row,) = rows_of([case("test", *checks)])
    assert (row.passed, row.because, row.latency, row.speedup) == ("1/3", "memory", "-", "-")


def test_a_good_case_needs_no_reason() -> None:
    (row,) = rows_of([case("test", make_check(CheckName.LATENCY, Outcome.IMPROVED, value=-0.25))])
    assert (row.outcome, row.because, row.latency) == ("improved", "", "-25.0 %")


def test_outcomes_are_counted_worst_first() -> None:
    assert count_outcomes(RUN.cases) == ("2 failed, 1 no baseline, 1 inconclusive, 1 passed, 1 improved, 1 skipped")
    assert count_outcomes([]) == ""
