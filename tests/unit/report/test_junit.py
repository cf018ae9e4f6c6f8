from __future__ import annotations

import pytest

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.junit import junit_properties
from tests.builders import CASE_ID, make_check, make_result, make_timing


def test_the_outcome_and_the_timing_figures_are_properties() -> None:
    result = make_result(
        make_check(CheckName.NUMERICS, value=0.5),
        make_check(CheckName.SPEEDUP, value=1.234567),
        make_check(CheckName.LATENCY, Outcome.FAILED, value=0.2),
        evidence=Evidence(timing=make_timing()),
    )
    assert junit_properties(result) == [
        ("nnopt.outcome", "failed"),
        ("nnopt.speedup", "1.235"),
        ("nnopt.latency", "0.2"),
    ]


def test_a_figure_that_is_unknown_is_left_out() -> None:
    result = make_result(make_check(CheckName.SPEEDUP, Outcome.INCONCLUSIVE))
    assert junit_properties(result) == [("nnopt.outcome", "inconclusive")]


@pytest.mark.parametrize(
    ("case_id", "name"),
    [
        (f"{CASE_ID}#policy", "nnopt.policy.outcome"),
        (f"{CASE_ID}[3]#policy", "nnopt.policy.outcome"),
        (f"{CASE_ID}[a#b]", "nnopt.outcome"),
        (f"{CASE_ID}[a#b]#policy", "nnopt.policy.outcome"),
    ],
)
def test_a_named_pair_has_properties_of_its_own(case_id: str, name: str) -> None:
    assert junit_properties(make_result(case_id=case_id)) == [(name, "skipped")]
