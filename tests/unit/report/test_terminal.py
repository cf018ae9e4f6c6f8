from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nnopt.baseline.schema import Evidence, ProcessRecord
from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.report.terminal import Line, render_table
from tests.builders import make_check, make_result, make_timing

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult


def case(name: str, *checks: Check, ratio: float | None = None) -> CaseResult:
    timing = () if ratio is None else make_timing(ratio)
    return make_result(*checks, case_id=f"tests/test_model.py::{name}", evidence=Evidence(timing=timing))


def test_all_cases_are_in_one_table_worst_first() -> None:
    lines = render_table(
        [
            case("test_whole", make_check(CheckName.NUMERICS), make_check(CheckName.COMPILE), ratio=0.5),
            case("test_skipped"),
            case("test_slow", make_check(CheckName.LATENCY, Outcome.FAILED, value=0.2), ratio=0.8),
            case("test_open", make_check(CheckName.LATENCY, Outcome.INCONCLUSIVE, "not clearly on either side")),
            case("test_new", make_check(CheckName.LATENCY, Outcome.NO_BASELINE)),
            case("test_better", make_check(CheckName.LATENCY, Outcome.IMPROVED, value=-0.1), ratio=0.9),
            case("test_broken", make_check(CheckName.NUMERICS, Outcome.FAILED), make_check(CheckName.COMPILE)),
        ]
    )
    assert [line.text for line in lines] == [
        "case                               speedup  latency  numerics  compile  outcome",
        "tests/test_model.py::test_broken   -        -        FAILED    ok       failed",
        "tests/test_model.py::test_slow     1.25x    +20.0 %  -         -        failed",
        "tests/test_model.py::test_new      -        none     -         -        no_baseline",
        "tests/test_model.py::test_open     -        unsure   -         -        inconclusive",
        "tests/test_model.py::test_whole    2.00x    -        ok        ok       passed",
        "tests/test_model.py::test_better   1.11x    -10.0 %  -         -        improved",
        "tests/test_model.py::test_skipped  -        -        -         -        skipped",
        "could not tell: tests/test_model.py::test_open: not clearly on either side",
    ]
    assert [line.outcome for line in lines] == [
        None,
        Outcome.FAILED,
        Outcome.FAILED,
        Outcome.NO_BASELINE,
        Outcome.INCONCLUSIVE,
        Outcome.PASSED,
        Outcome.IMPROVED,
        Outcome.SKIPPED,
        Outcome.INCONCLUSIVE,
    ]


def test_a_long_id_keeps_its_end_and_the_table_its_width() -> None:
    checks = [make_check(name, Outcome.INCONCLUSIVE) for name in CheckName]
    head, row, *_ = render_table([case("test_" + "x" * 80 + "[end]", *checks, ratio=1e-3)])
    assert row.text.startswith("…" + "x" * 36 + "[end]  ")
    assert max(len(head.text), len(row.text)) <= 100


def test_no_cases_leave_the_heading() -> None:
    assert render_table([]) == [Line("case  speedup  latency  numerics  compile  outcome")]


def test_what_spoke_against_timing_is_said_once_with_how_many_processes_saw_it() -> None:
    quiet, loud = make_timing(count=2), [with_a_concern(process) for process in make_timing(count=3)]
    results = [make_result(case_id=name, evidence=Evidence(timing=(*quiet, *loud))) for name in ("a", "b")]
    assert render_table(results)[-1] == Line(
        "machine, in 6 of 10 processes: the load average is 9; stop other work", Outcome.INCONCLUSIVE
    )


def with_a_concern(process: ProcessRecord) -> ProcessRecord:
    return process.model_copy(update={"concerns": {"load": "the load average is 9; stop other work"}})
