from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.model import CheckName
from pytest_nnopt.session.gate import open_gate
from pytest_nnopt.session.progress import Forewarning, NoProgress, PlainProgress, StatusLine, describe_progress
from pytest_nnopt.statistics.prior import VariancePrior
from tests.builders import CASE_ID, make_config, make_evidence, make_question, make_timing

if TYPE_CHECKING:
    from pytest_nnopt.verdict import Question

COMPARING = make_question(make_config(latency="10%"), is_comparing=True, baseline=make_evidence(0.5))


def test_before_the_first_process_the_case_and_what_can_be_found_are_named() -> None:
    assert describe_progress(COMPARING, ()) == (
        "measuring: 0 of 1 processes · 8 processes find slowdowns from 10.0 %, the limit is 10.0 %; one process varies "
        f"by 0.46 % here · {CASE_ID}"
    )
    assert describe_progress(make_question(), ()) == f"measuring: 0 of 1 processes · {CASE_ID}"


def test_what_is_undecided_is_said_with_its_interval() -> None:
    line = describe_progress(COMPARING, make_timing(0.5, count=1))
    assert line.startswith("measuring: 1 of ")
    assert line.split(" · ")[1].startswith("latency +0.00 % [-")


def test_a_declared_speedup_is_followed_as_a_factor() -> None:
    question = make_question(make_config(min_speedup=5.0), asked=frozenset({CheckName.SPEEDUP}))
    line = describe_progress(question, make_timing(0.5, count=4))
    assert line.split(" · ")[:2] == ["measuring: 4 of 4 processes", "speedup 2.00x [1.99, 2.01] failed"]


def test_a_recording_has_an_aim_and_no_figure() -> None:
    question = make_question(is_updating=True, recorded_processes=10)
    assert describe_progress(question, make_timing(count=3)) == f"measuring: 3 of 10 processes · {CASE_ID}"


def test_a_missing_baseline_is_named_without_figures() -> None:
    question = make_question(is_comparing=True)
    assert describe_progress(question, make_timing(count=1)).endswith(f" · latency no baseline · {CASE_ID}")


def test_lines_are_written_one_an_update() -> None:
    lines: list[str] = []
    progress = PlainProgress(lines.append)
    for count in (0, 1):
        progress.update(COMPARING, make_timing(0.5, count=count))
    progress.finish()
    assert lines == [describe_progress(COMPARING, make_timing(0.5, count=count)) for count in (0, 1)]


@pytest.mark.parametrize(("column", "back"), [(17, "\x1b[17C"), (0, "")])
def test_the_status_line_is_rewritten_in_place_and_taken_away(column: int, back: str) -> None:
    written: list[str] = []
    progress = StatusLine(written.append, lambda: column, width=40)
    progress.finish()
    for _ in range(2):
        progress.update(COMPARING, ())
    progress.finish()
    progress.finish()
    text = "measuring: 0 of 1 processes · 8 proces…"
    assert written == [f"\r\n{text}", f"\r\x1b[2K{text}", f"\r\x1b[2K\x1b[A{back}"]
    assert len(text) < 40


LOUD = make_question(
    make_config(latency="5%"), is_comparing=True, baseline=make_evidence(0.5), prior=VariancePrior(0.2**2, 30.0)
)


@pytest.mark.parametrize(("question", "count"), [(LOUD, 1), (COMPARING, 0), (make_question(), 0)])
def test_noise_that_hides_twice_the_limit_is_told_of_once_and_ahead(question: Question, count: int) -> None:
    lines: list[str] = []
    followed: list[str] = []
    progress = Forewarning(lines.append, PlainProgress(followed.append))
    for measured in (0, 1):
        progress.update(question, make_timing(0.5, count=measured))
    progress.finish()
    assert len(followed) == 2
    assert len(lines) == count
    for line in lines:
        assert line.startswith(f"nnopt: {CASE_ID}: 8 processes find slowdowns from ")
        assert line.endswith(
            "; one process varies by 18.0 % here: record more processes with pytest --nnopt-update, or widen the limit"
        )


def test_what_was_shown_of_the_case_before_is_taken_away_first() -> None:
    written: list[str] = []
    line = StatusLine(written.append, lambda: 0, width=40)
    progress = Forewarning(lambda text: written.append(f"{text[:6]}\n"), line)
    for _ in range(2):
        progress.update(LOUD, ())
    shown, taken_away = "\r\nmeasuring: 0 of 1 processes · 8 proces…", "\r\x1b[2K\x1b[A"
    assert written == ["nnopt:\n", shown, taken_away, "nnopt:\n", shown]


def test_a_gate_is_silent_unless_told_otherwise(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    gate = open_gate(tmp_path, {}, "check")
    gate.progress.update(COMPARING, ())
    gate.progress.finish()
    assert isinstance(gate.progress, NoProgress)
    assert capfd.readouterr() == ("", "")
