from __future__ import annotations

import pytest

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.rows import rows_of
from pytest_nnopt.report.terminal import Line, render_section, render_table
from tests.builders import make_check, make_result, make_timing
from tests.unit.report.golden import golden
from tests.unit.report.samples import OPEN, RUN, SLOW, case, disturbed


def text_of(lines: list[Line]) -> str:
    return "".join(f"{line.text}\n" for line in lines)


def test_all_cases_are_in_one_table_worst_first_at_80_columns() -> None:
    text = text_of(render_section(RUN.cases))
    assert text == golden("terminal.txt")
    assert max(map(len, text.splitlines()[:8])) <= 80


def test_every_figure_is_said_when_asked_for() -> None:
    assert text_of(render_section([OPEN, SLOW], is_verbose=True)) == golden("terminal_verbose.txt")


def test_a_line_has_the_outcome_that_colours_it() -> None:
    lines = render_section([OPEN, SLOW])
    outcomes = [None, Outcome.FAILED, *[Outcome.INCONCLUSIVE] * 4, None, None, Outcome.INCONCLUSIVE]
    assert [line.outcome for line in lines] == outcomes


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_id_keeps_its_end_and_the_table_its_width(width: int) -> None:
    checks = [make_check(name, Outcome.INCONCLUSIVE, value=1.0) for name in CheckName]
    result = make_result(*checks, case_id="x" * 150 + "[end]", evidence=Evidence(timing=make_timing(1e-3)))
    head, row = render_table(rows_of([result]), width=width)
    assert row.text.startswith("…x")
    assert "[end]  1000.00x  +100 %" in row.text
    assert len(head.text) <= len(row.text) <= width


def test_columns_without_a_figure_are_left_out() -> None:
    lines = render_table(rows_of([case("test_sound", make_check(CheckName.NUMERICS))]))
    assert lines[0] == Line("case                             passed  outcome")


def test_no_cases_leave_the_heading() -> None:
    assert render_section([]) == [Line("case")]


def test_what_spoke_against_timing_is_said_once_with_how_many_processes_saw_it() -> None:
    quiet, loud = make_timing(count=2), [disturbed(process) for process in make_timing(count=3)]
    results = [make_result(case_id=name, evidence=Evidence(timing=(*quiet, *loud))) for name in ("a", "b")]
    assert render_section(results, width=100)[-1] == Line(
        "machine, in 6 of 10 processes: the load average is 9 on 2 cores; stop other work", Outcome.INCONCLUSIVE
    )


def test_a_detail_of_several_lines_keeps_its_indents() -> None:
    check = make_check(details=("first\n  second\n\nlast",))
    lines = [line.text for line in render_section([make_result(check)], is_verbose=True)]
    assert lines[-4:] == ["    first", "      second", "    last", ""]
