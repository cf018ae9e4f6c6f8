from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_nnopt.errors import OutputError
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.markdown import LARGEST_SUMMARY_BYTES, append_summary, escape, render_markdown
from pytest_nnopt.results import CaseResult, PartRecord, RunResults, ShardRecord
from tests.builders import make_check, make_result
from tests.unit.report.golden import golden
from tests.unit.report.samples import RUN, SOUND, case

NASTY = "test_x[<script>alert(1)</script>|a\\|`b`**c**_d_~~e~~ @team #1 [l](http://x) ::error::boom\n## no]"


def html_of(markdown: str) -> str:
    """Render as GitHub does where it matters here: raw HTML is let through, tables are known."""
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def failing(name: str, reason: str = "slow", *details: str) -> CaseResult:
    return case(name, make_check(CheckName.LATENCY, Outcome.FAILED, reason, details=details))


def test_the_summary_has_failures_first() -> None:
    assert render_markdown(RUN) == golden("summary.md")


def test_the_summary_is_a_table_and_sections() -> None:
    text = html_of(render_markdown(RUN))
    assert (text.count("<tr>"), text.count("<details"), text.count("<details open>")) == (8, 4, 3)


def test_a_run_without_a_failure_or_a_case_says_so() -> None:
    assert render_markdown(RunResults(environment={}, cases=(SOUND,))).startswith("## nnopt: 1 case, none failed\n")
    assert render_markdown(RunResults(environment={}, cases=())) == "## nnopt: no case was run\n"


def test_a_hostile_name_is_shown_and_does_nothing() -> None:
    markdown = render_markdown(RunResults(environment={}, cases=(failing(NASTY, NASTY, NASTY),)))
    text = html_of(markdown)
    assert set(re.findall(r"<(\w+)", text)) == {
        *("h2", "p", "table", "thead", "tr", "th", "tbody", "td", "code", "strong", "details", "summary", "pre")
    }
    assert text.count("<strong>") == 1
    assert (text.count("&lt;script&gt;"), text.count("&#60;script&#62;")) == (4, 1)
    assert len(re.findall(r"^##", markdown.split("<pre>")[0], re.MULTILINE)) == 1


@given(st.text())
def test_any_text_survives_escaping_as_one_cell_without_markup(text: str) -> None:
    written = escape(f"x{text}x")
    assert not set(written) & set("<>\"'\\`*_[]|~@$\r\n\t")
    assert html_of(f"| a |\n|---|\n| <code>{written}</code> |\n").count("<td") == 1


def test_what_does_not_fit_is_counted() -> None:
    cases = tuple(failing(f"test_{index:04}", "slow " * 20) for index in range(500))
    text = render_markdown(RunResults(environment={}, cases=cases), limit_bytes=20_000)
    rows, explanations = text.count("\n| <code>"), text.count("<details")
    assert 0 < explanations < rows < 500
    assert text.endswith(
        f"> {500 - rows} cases and {500 - explanations} explanations did not fit here; "
        "the results file of `--nnopt-json` holds every one.\n"
    )
    assert len(text.encode()) <= 20_000


def test_one_endless_explanation_leaves_room_for_the_others() -> None:
    cases = (failing("test_a", "Ω", *["µ" * 1000] * 10_000), failing("test_b", "short"))
    text = render_markdown(RunResults(environment={}, cases=cases))
    assert "… the rest is left out" in text
    assert "test_b: short" in text
    assert "did not fit" not in text
    assert len(text.encode()) <= LARGEST_SUMMARY_BYTES


def test_without_room_the_note_remains() -> None:
    text = render_markdown(RUN, limit_bytes=100)
    assert text.endswith(
        "> 7 cases and 4 explanations did not fit here; the results file of `--nnopt-json` holds every one.\n"
    )


def test_only_explanations_may_be_left_out() -> None:
    text = render_markdown(RUN, limit_bytes=2900)
    assert re.search(r"^> [1-4] explanations? did not fit", text, re.MULTILINE)


def test_a_summary_comes_behind_what_is_there_and_shares_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    append_summary(path, RUN)
    append_summary(path, RUN)
    assert path.read_text() == golden("summary.md") * 2
    path.write_text("x" * (LARGEST_SUMMARY_BYTES - 3000))
    append_summary(path, RUN)
    assert path.read_text().endswith("holds every one.\n")
    assert path.stat().st_size <= LARGEST_SUMMARY_BYTES


def test_a_summary_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"cannot append the summary to {tmp_path}: Is a directory"):
        append_summary(tmp_path, RUN)


def test_nothing_in_a_summary_is_invisible() -> None:
    reason = "\x1b[2J\u202e\u200b"
    for outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE):
        result = make_result(make_check(outcome=outcome, reason=reason), case_id=f"test[{reason}]")
        text = render_markdown(RunResults(environment={}, cases=(result,)))
        assert text.replace("\n", "").isprintable()
        assert text.count("x1b") >= 3


def test_a_summary_of_merged_results_says_what_is_missing() -> None:
    part = PartRecord(name="b.json", shard=ShardRecord(index=2, count=2))
    text = render_markdown(RUN.model_copy(update={"parts": (part,), "conflicts": ("<b> is there twice",)}))
    assert "\n**shard 1 of 2 is missing**\n\n**&#60;b&#62; is there twice**\n" in text
