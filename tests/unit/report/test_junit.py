from __future__ import annotations

import pytest

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.junit import junit_properties
from tests.builders import CASE_ID, make_check, make_result
from tests.unit.report.golden import golden
from tests.unit.report.samples import SLOW


def test_every_check_and_its_figures_are_properties() -> None:
    assert "".join(f"{name}={value}\n" for name, value in junit_properties(SLOW)) == golden("junit_properties.txt")


def test_a_figure_that_is_unknown_is_left_out() -> None:
    result = make_result(make_check(CheckName.SPEEDUP, Outcome.INCONCLUSIVE, limit=1.5))
    assert junit_properties(result) == [
        ("nnopt.outcome", "inconclusive"),
        ("nnopt.speedup.outcome", "inconclusive"),
    ]


@pytest.mark.parametrize(
    ("case_id", "name"),
    [
        (f"{CASE_ID}#policy", "nnopt.policy.outcome"),
        (f"{CASE_ID}[3]#policy", "nnopt.policy.outcome"),
        (f"{CASE_ID}[a#b]", "nnopt.outcome"),
        (f"{CASE_ID}#\x1b", "nnopt.\\x1b.outcome"),
        (f"{CASE_ID}[a#b]#policy", "nnopt.policy.outcome"),
    ],
)
def test_a_named_pair_has_properties_of_its_own(case_id: str, name: str) -> None:
    assert junit_properties(make_result(case_id=case_id)) == [(name, "skipped")]
