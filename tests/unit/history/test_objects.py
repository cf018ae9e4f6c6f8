from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.errors import HistoryError
from pytest_nnopt.history.names import case_folder
from pytest_nnopt.history.objects import ObjectHistory
from pytest_nnopt.history.schema import Label, Selection
from pytest_nnopt.history.store import open_history
from tests.builders import CASE_ID, make_entry
from tests.servers import frayed_cable

ALL = Selection(1000)
LONG_ID = "x" * 500


@pytest.fixture
def store(tmp_path: Path) -> ObjectHistory:
    return ObjectHistory(f"file://{tmp_path}/history", timeout_seconds=30)


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_each_run_and_case_has_a_file_of_its_own_and_nothing_else_is_left(store: ObjectHistory, tmp_path: Path) -> None:
    entries = [make_entry(), make_entry(case="b"), make_entry(hours=1)]
    store.append(entries)
    assert [path.read_text() for path in files(tmp_path)] == [
        entry.to_text() for entry in sorted(entries, key=lambda entry: (case_folder(entry.case), entry.recorded))
    ]


@pytest.mark.parametrize(
    ("text", "why"), [("", "is no valid entry"), ("{}", "is no valid entry"), ("[" * 10_000, "is no valid entry")]
)
def test_a_broken_object_is_an_error_that_names_it(store: ObjectHistory, tmp_path: Path, text: str, why: str) -> None:
    store.append([make_entry()])
    (path,) = files(tmp_path)
    path.write_text(text)
    with pytest.raises(HistoryError, match=f"{path.name} {why}.*remove it from the history"):
        store.read(store.labels(CASE_ID, ALL))


def test_an_object_that_is_too_large_is_not_read(store: ObjectHistory, tmp_path: Path) -> None:
    store.append([make_entry()])
    files(tmp_path)[0].write_bytes(b" " * (4 * 2**20 + 1))
    with pytest.raises(HistoryError, match="is larger than 4194304 bytes"):
        store.read(store.labels(CASE_ID, ALL))


def test_an_object_under_another_name_is_an_error(store: ObjectHistory, tmp_path: Path) -> None:
    store.append([make_entry(has_passed=False)])
    (path,) = files(tmp_path)
    path.rename(path.with_name(path.name.replace("_xa_", "_sa_")))
    with pytest.raises(HistoryError, match="holds something else than its name says"):
        store.read(store.labels(CASE_ID, ALL))


@pytest.mark.parametrize("name", ["note.txt", "20260230T000000000000Z.json"])
def test_a_file_that_is_no_entry_is_an_error_that_names_it(store: ObjectHistory, tmp_path: Path, name: str) -> None:
    store.append([make_entry()])
    (files(tmp_path)[0].parent / name).write_text("")
    with pytest.raises(HistoryError, match=f"{name} has no name of an entry; remove it"):
        store.labels(CASE_ID, ALL)


def test_an_entry_in_another_month_is_an_error(store: ObjectHistory, tmp_path: Path) -> None:
    store.append([make_entry()])
    month = files(tmp_path)[0].parent
    month.rename(month.with_name("2025-01"))
    with pytest.raises(HistoryError, match="has no name of an entry"):
        store.labels(CASE_ID, ALL)


def test_what_is_being_written_is_not_seen(store: ObjectHistory, tmp_path: Path) -> None:
    store.append([make_entry()])
    (files(tmp_path)[0].parent / ".nnopt-1.tmp").write_text("{")
    assert len(store.labels(CASE_ID, ALL)) == 1


def test_months_are_read_from_the_newest_one_and_no_further_than_needed(store: ObjectHistory, tmp_path: Path) -> None:
    entries = [make_entry(hours=24 * 40 * number) for number in range(4)]
    store.append(entries)
    (files(tmp_path)[0].parent / "note.txt").write_text("")  # in the oldest month, which is not looked at
    assert store.labels(CASE_ID, Selection(2)) == [Label.of(entry) for entry in entries[2:]]


def test_the_folder_of_a_long_id_must_hold_its_case(store: ObjectHistory, tmp_path: Path) -> None:
    (tmp_path / "history" / "v1" / case_folder(LONG_ID)).mkdir(parents=True)
    with pytest.raises(HistoryError, match="is no folder of a case"):
        store.cases()
    store.append([make_entry(case=LONG_ID)])
    (path,) = files(tmp_path)
    path.write_text(make_entry(case="another").to_text())
    with pytest.raises(HistoryError, match="is no folder of a case"):
        store.cases()


def test_a_folder_that_cannot_be_written_is_named_with_the_reason() -> None:
    store = ObjectHistory("file:///proc/history", timeout_seconds=30)
    with pytest.raises(HistoryError, match="the history file:///proc/history cannot be used"):
        store.append([make_entry()])


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name.startswith(("s3fs", "gcsfs")):
            raise ImportError(f"no {name}")
        return original(name, *args)

    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(HistoryError, match=r"install it with pip install 'pytest-nnopt\[s3\]'"):
        open_history("s3://bucket/x", timeout_seconds=1)


def test_a_bucket_that_does_not_exist_is_an_error(bucket: str) -> None:
    store = open_history("s3://nnopt-nowhere/x", timeout_seconds=30)
    with pytest.raises(HistoryError, match="the history s3://nnopt-nowhere/x cannot be used"):
        store.append([make_entry()])
    assert bucket


def test_a_server_that_cannot_be_reached_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    for name, value in (("ENDPOINT_URL", "http://127.0.0.1:1"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(f"AWS_{name}", value)
    store = open_history("s3://bucket/x", timeout_seconds=0.5)
    with pytest.raises(HistoryError, match=r"the history s3://bucket/x (did not answer|cannot be used)"):
        store.labels(CASE_ID, ALL)


@pytest.mark.parametrize("broken_after", [(900, 10_000), (100_000, 30)], ids=["request", "answer"])
def test_a_transfer_that_is_cut_off_leaves_the_whole_entry_or_none(
    bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, broken_after: tuple[int, int]
) -> None:
    entry = make_entry()
    with frayed_cable(s3_endpoint) as cable:
        monkeypatch.setenv("AWS_ENDPOINT_URL", cable.endpoint)
        store = open_history(bucket, timeout_seconds=20)
        cable.broken_after = broken_after
        with pytest.raises(HistoryError, match=r"the history s3://.* (did not answer|cannot be used)"):
            store.append([entry])
        cable.broken_after = None
        assert store.read(store.labels(CASE_ID, ALL)) in ([], [entry])
        store.append([entry])
        assert store.read(store.labels(CASE_ID, ALL)) == [entry]


def test_an_answer_that_is_cut_off_is_never_taken_for_an_entry(
    bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_history(bucket, timeout_seconds=20).append([make_entry()])
    with frayed_cable(s3_endpoint) as cable:
        monkeypatch.setenv("AWS_ENDPOINT_URL", cable.endpoint)
        labels = open_history(bucket, timeout_seconds=20).labels(CASE_ID, ALL)
        cable.broken_after = (10_000, 900)
        store = open_history(bucket, timeout_seconds=20)
        with pytest.raises(HistoryError, match="the history s3://"):
            store.read(labels)
