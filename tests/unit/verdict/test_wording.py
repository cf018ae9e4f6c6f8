"""How a timing decision is put into words."""

from __future__ import annotations

from pytest_nnopt.statistics.decision import Reason, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.verdict.wording import relation_to_limit


def test_a_pass_that_may_be_luck_says_so_where_no_second_process_was_to_be_had() -> None:
    baseline = [ProcessEstimate(figure, 1e-4, 40) for figure in (*([0.0] * 9), -0.3)]
    decision = decide_regression([ProcessEstimate(0.0, 1e-4, 40)], baseline, limit=0.1, prior=DEFAULT_CPU_PRIOR)
    assert decision.reason is Reason.COULD_BE_LUCK
    assert relation_to_limit(decision, 0.1) == (
        "within the limit of 10.0 %, but may be as fast by chance as some of the baseline's"
    )
