"""What every store promises, asked of each kind; PostgreSQL and S3 are real servers on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_nnopt.errors import HistoryError
from pytest_nnopt.history.schema import Entry, Label, Selection
from pytest_nnopt.history.store import HistoryStore, answered, open_history
from tests.builders import CASE_ID, make_entry, make_evidence

ALL = Selection(1000)
LONG_ID = f"tests/test_{'x' * 300}.py::test_Ünicode[a/b~2f..%]#name"


@pytest.fixture
def store(url: str) -> HistoryStore:
    return open_history(url, timeout_seconds=30)


def added(store: HistoryStore, *entries: Entry) -> Sequence[Entry]:
    store.append(entries)
    return entries


def test_an_empty_history_holds_nothing(store: HistoryStore) -> None:
    assert store.cases() == []
    assert store.labels(CASE_ID, ALL) == []
    assert store.read([]) == []


def test_entries_come_back_as_they_were_oldest_first(store: HistoryStore) -> None:
    newer, older = added(store, make_entry(hours=800), make_entry(revision="0123456789abcdef"))
    labels = store.labels(CASE_ID, ALL)
    assert labels == [Label.of(older), Label.of(newer)]
    assert store.read(labels) == [older, newer]
    assert store.read(labels[::-1]) == [newer, older]


def test_only_the_wanted_kind_is_found_and_only_the_newest(store: HistoryStore) -> None:
    main = [make_entry(hours=300 * number) for number in range(5)]
    others = [make_entry(hours=10, branch="12/merge"), make_entry(hours=11, branch=None), make_entry(has_passed=False)]
    store.append([*main, *others])
    sound = store.labels(CASE_ID, Selection(3, branch="main", is_sound=True))
    assert sound == [Label.of(entry) for entry in main[2:]]
    assert len(store.labels(CASE_ID, Selection(1000, branch="main"))) == 6
    assert len(store.labels(CASE_ID, ALL)) == 8


def test_adding_the_same_again_changes_nothing(store: HistoryStore) -> None:
    entries = added(store, make_entry(), make_entry(hours=1))
    store.append(entries)
    assert len(store.labels(CASE_ID, ALL)) == 2


def test_nothing_is_rewritten(store: HistoryStore) -> None:
    (entry,) = added(store, make_entry())
    with pytest.raises(HistoryError, match="with other content; nothing in a history is rewritten"):
        store.append([entry.model_copy(update={"reason": "another"})])
    assert store.read([Label.of(entry)]) == [entry]


def test_cases_keep_their_ids_however_odd(store: HistoryStore) -> None:
    ids = [CASE_ID, LONG_ID, "tests/test_a.py::test_b[../../etc]", "tests/.hidden.py::test_c#ä"]
    added(store, *(make_entry(case=case_id) for case_id in ids))
    assert store.cases() == sorted(ids)
    assert [store.labels(case_id, ALL)[0].case for case_id in ids] == ids
    assert len(open_history(store_url(store), timeout_seconds=30).labels(LONG_ID, ALL)) == 1


def store_url(store: HistoryStore) -> str:
    """The URLs of these stores hold no secret, but for the user of the database."""
    return store.name.replace("postgresql://", "postgresql://nnopt@")


def test_an_entry_that_is_gone_is_an_error(store: HistoryStore) -> None:
    added(store, make_entry())
    with pytest.raises(HistoryError, match=r"gone|cannot be read"):
        store.read([Label.of(make_entry())])


def test_threads_that_add_at_once_lose_nothing(store: HistoryStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.append([make_entry(hours=number)]), range(32)))
    assert len(store.labels(CASE_ID, ALL)) == 32


WRITER = """
import sys
from pytest_nnopt.history.store import open_history
from tests.builders import make_entry
store = open_history(sys.argv[1], timeout_seconds=60)
for number in range(10):
    store.append([make_entry(hours=number)])
"""


def test_processes_that_add_at_once_lose_nothing(url: str) -> None:
    root = Path(__file__).parents[3]
    variables = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", WRITER, url]
    writers = [subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 4
    store = open_history(url, timeout_seconds=30)
    labels = store.labels(CASE_ID, ALL)
    assert len({label.run for label in labels}) == 40
    assert len(store.read(labels)) == 40


def test_evidence_is_kept_whole(store: HistoryStore) -> None:
    (entry,) = added(store, make_entry(evidence=make_evidence(0.5, count=3)))
    (label,) = store.labels(CASE_ID, ALL)
    assert label.processes == 3
    assert label.log_ratio == pytest.approx(-693147, abs=2000)
    assert store.read([label])[0].evidence == entry.evidence


def test_a_library_that_is_missed_late_is_named() -> None:
    def call() -> None:
        raise ImportError("no botocore")

    with pytest.raises(HistoryError, match="the history s3://bucket/x needs a library that is not installed: no boto"):
        answered("s3://bucket/x", "listing", call, 5)
