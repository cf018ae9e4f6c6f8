from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.annotations import Place, render_annotations
from tests.builders import make_check
from tests.unit.report.golden import golden
from tests.unit.report.samples import RUN, SLOW, SOUND, case

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult


def ending(name: str, outcome: Outcome, reason: str = "slow") -> CaseResult:
    return case(name, make_check(CheckName.LATENCY, outcome, reason))


def test_every_case_that_is_not_good_is_annotated_worst_first() -> None:
    places = {SLOW.id: Place("src/tests/test_model.py", 12)}
    assert "".join(f"{line}\n" for line in render_annotations(RUN.cases, places)) == golden("annotations.txt")


def test_good_cases_leave_no_annotation() -> None:
    assert render_annotations([SOUND], {}) == []


def test_nine_are_shown_and_the_rest_is_counted() -> None:
    cases = [ending(f"test_{index}", Outcome.FAILED) for index in range(11)] + [ending("a", Outcome.INCONCLUSIVE)]
    *shown, last = render_annotations(cases, {})
    assert len(shown) == 9
    assert last == "::error title=nnopt::and 2 failed, 1 inconclusive; the summary of this step names them"


def test_nine_need_no_line_for_the_rest() -> None:
    assert len(render_annotations([ending(f"test_{index}", Outcome.FAILED) for index in range(9)], {})) == 9


def test_a_hostile_name_stays_in_its_place() -> None:
    name = "test[<script>::error::boom\n::error file=a,line=1::b\r%0A::stop-commands::x]"
    (line,) = render_annotations(
        [ending(name, Outcome.FAILED, name)], {f"tests/test_model.py::{name}": Place("a,b:c%", 3)}
    )
    assert line.startswith("::error file=a%2Cb%3Ac%25,line=3,title=nnopt%3A failed::tests/test_model.py::test[")
    assert not re.search(r"[\r\n]", line)
    assert "%250A" in line


def test_a_long_message_is_cut() -> None:
    (line,) = render_annotations([ending("test", Outcome.FAILED, "x" * 5000)], {})
    assert len(line) < 1100
    assert line.endswith("x…")
