from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.cli.send import read_unsent
from pytest_nnopt.config import load_settings
from pytest_nnopt.errors import ConfigError, HistoryError
from pytest_nnopt.history.schema import Entry, Label, Selection
from pytest_nnopt.history.store import HistoryStore, open_history
from pytest_nnopt.model import Outcome
from pytest_nnopt.session.collector import Collector
from pytest_nnopt.session.sharing import UNSENT, Sharing, branch_of, is_added, open_shared_history
from tests.builders import CASE_ID, make_check, make_evidence, make_message, make_result

if TYPE_CHECKING:
    from pytest_nnopt.config import Settings

CI = {"CI": "true"}
ALL = Selection(100)


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    return open_history(f"file://{tmp_path}/history", timeout_seconds=30)


def settings(**given: Any) -> Settings:
    return load_settings({"history": "file:///srv/history", **given}, {})


def text_of(outcome: Outcome = Outcome.PASSED, **fields: Any) -> str:
    result = make_result(make_check(outcome=outcome), evidence=make_evidence(count=2))
    return make_message(result, **fields).model_dump_json()


def shared(store: HistoryStore, tmp_path: Path, text: str, *, has_passed: bool = True, is_level: bool = False) -> Any:
    """Let a run with one case end, and return its collector."""
    sharing = Sharing(store, tmp_path, makes_levels=is_level)
    collector = Collector(BaselineStore(tmp_path / "baselines"), tmp_path, sharing=sharing)
    collector.receive(CASE_ID, [text], has_passed=True)
    collector.finish_test(CASE_ID, has_passed=has_passed)
    collector.share()
    return collector


def said(collector: Collector) -> str:
    return "\n".join(line.text for line in collector.summary())


@pytest.mark.parametrize(
    ("given", "variables", "is_update", "expected"),
    [
        ({}, {}, False, False),
        ({}, CI, False, True),
        ({"history_append": "never"}, CI, False, False),
        ({"history_append": "always"}, {}, False, True),
        ({}, {}, True, False),
        ({"baseline_from": "history"}, {}, True, True),
    ],
)
def test_runs_of_ci_are_added_and_updates_of_what_levels_are_made_of(
    given: dict[str, Any], variables: dict[str, str], is_update: bool, expected: bool
) -> None:
    assert is_added(settings(**given), is_update=is_update, variables=variables) is expected


def test_an_update_that_may_not_be_added_is_refused() -> None:
    with pytest.raises(ConfigError, match="history_append = 'never' forbids it; give --nnopt-history-append=always"):
        is_added(settings(baseline_from="history", history_append="never"), is_update=True)


def test_levels_from_a_history_need_one() -> None:
    with pytest.raises(ConfigError, match="give its URL as history"):
        load_settings({"baseline_from": "history"}, {})
    assert open_shared_history(load_settings({}, {})) is None


def test_a_secret_is_in_no_settings_that_are_shown() -> None:
    given = settings(history="postgresql://me:hidden@host/db")
    assert "hidden" not in repr(given)
    assert given.model_dump(mode="json")["history"] == "postgresql://host/db"
    with pytest.raises(ConfigError) as caught:
        load_settings({}, {"history": "mysql://me:hidden@host/db"})
    assert "hidden" not in str(caught.value)


def test_a_finished_case_is_added_with_its_outcome(store: HistoryStore, tmp_path: Path) -> None:
    collector = shared(store, tmp_path, text_of(reason="faster compiles", recording="append"))
    (label,) = store.labels(CASE_ID, ALL)
    (entry,) = store.read([label])
    assert (entry.case, entry.outcome, entry.has_passed, entry.reason) == (
        CASE_ID,
        Outcome.PASSED,
        True,
        "faster compiles",
    )
    assert entry.evidence == make_evidence(count=2)
    assert f"added 1 case to the history {store.name}" in said(collector)
    assert not collector.has_problems


def test_a_test_that_failed_in_its_teardown_is_added_as_unsound(store: HistoryStore, tmp_path: Path) -> None:
    shared(store, tmp_path, text_of(recording="replace"), has_passed=False)
    (label,) = store.labels(CASE_ID, ALL)
    assert (label.is_sound, label.is_new_level) == (False, False)


def test_to_record_is_to_add_where_levels_are_the_historys(store: HistoryStore, tmp_path: Path) -> None:
    collector = shared(store, tmp_path, text_of(recording="replace", changes=("new",)), is_level=True)
    assert f"recorded {CASE_ID}: new" in said(collector)
    assert not (tmp_path / "baselines").exists()
    assert store.labels(CASE_ID, ALL)[0].is_new_level


def test_a_run_without_cases_adds_nothing(store: HistoryStore, tmp_path: Path) -> None:
    Collector(BaselineStore(tmp_path), tmp_path, sharing=Sharing(store, tmp_path)).share()
    assert store.cases() == []


def test_what_can_be_kept_nowhere_is_said_to_be_lost(tmp_path: Path) -> None:
    (tmp_path / ".nnopt").write_text("no folder")
    collector = shared(Unreachable(), tmp_path, text_of())  # type: ignore[arg-type]
    assert "the results of 1 case are lost, too: cannot write" in said(collector)


def test_what_is_out_of_bounds_is_a_problem_of_the_run(store: HistoryStore, tmp_path: Path) -> None:
    collector = Collector(BaselineStore(tmp_path), tmp_path, sharing=Sharing(store, tmp_path, run="no id"))
    collector.receive(CASE_ID, [text_of()], has_passed=True)
    collector.share()
    assert collector.has_problems
    assert f"not added to the history {store.name}: 1 validation error for Entry" in said(collector)


class Unreachable:
    """A history that does not answer."""

    name = "s3://bucket/x"

    def append(self, entries: Sequence[Entry]) -> None:
        raise HistoryError("the history s3://bucket/x did not answer within 30 s")


def test_what_cannot_be_added_is_a_problem_and_is_kept(tmp_path: Path) -> None:
    collector = shared(Unreachable(), tmp_path, text_of(), is_level=True)  # type: ignore[arg-type]
    (kept,) = (tmp_path / UNSENT).iterdir()
    assert collector.has_problems
    assert f"did not answer within 30 s; the results of 1 case are kept in {UNSENT / kept.name}" in said(collector)
    assert "recorded" not in said(collector)
    assert [entry.case for entry in read_unsent(kept)] == [CASE_ID]


def test_a_file_of_unsent_results_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(HistoryError, match=r"line 1 of .*x\.jsonl is no valid entry"):
        read_unsent(tmp_path / "x.jsonl")
    with pytest.raises(HistoryError, match=r"y\.jsonl cannot be read"):
        read_unsent(tmp_path / "y.jsonl")


def test_the_branch_is_what_ci_says_or_what_is_checked_out(tmp_path: Path) -> None:
    assert branch_of(tmp_path, {"GITHUB_REF_NAME": "12/merge"}) == "12/merge"
    assert branch_of(tmp_path / "nowhere", {}) is None
    subprocess.run(["git", "init", "-q", "-b", "topic", tmp_path], check=True)
    assert branch_of(tmp_path, {}) == "topic"


def test_entries_of_one_run_have_one_id(store: HistoryStore, tmp_path: Path) -> None:
    sharing = Sharing(store, tmp_path)
    message = make_message(make_result(make_check()))
    moment = datetime(2026, 1, 2, tzinfo=timezone.utc)
    entries = [
        sharing.entry_of(message, recorded=moment, revision=None, branch=None, has_passed=True) for _ in range(2)
    ]
    assert entries[0] == entries[1]
    assert Label.of(entries[0]).run == sharing.run
