"""How a timing decision is put into words."""

from __future__ import annotations

from pytest_nnopt.statistics.decision import Reason, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.verdict.wording import how_sure, relation_to_limit


def test_a_pass_that_may_be_luck_says_so_where_no_second_process_was_to_be_had() -> None:
    baseline = [ProcessEstimate(figure, 1e-4, 40) for figure in (*([0.0] * 9), -0.3)]
    decision = decide_regression([ProcessEstimate(0.0, 1e-4, 40)], baseline, limit=0.1, prior=DEFAULT_CPU_PRIOR)
    assert decision.reason is Reason.COULD_BE_LUCK
    assert relation_to_limit(decision, 0.1) == (
        "within the limit of 10.0 %, but may be as fast by chance as some of the baseline's"
    )


def test_what_a_decision_rests_on_names_what_it_is_compared_with() -> None:
    there = [ProcessEstimate(figure, 1e-4, 40) for figure in (0.0, 0.01, -0.01)]
    decision = decide_regression([ProcessEstimate(0.0, 1e-4, 40)], there, limit=0.1, prior=DEFAULT_CPU_PRIOR)
    assert how_sure(decision)[0].startswith("1 process against 3 in the baseline; one process varies by ")
    level = "abcdef012345, the merge base of main and HEAD"
    first = how_sure(decision, level)[0]
    assert first.startswith(f"1 process against 3 in {level}; one process varies by ")
    assert first.endswith(" from its own blocks), one of those 3 by 1.00 %")
