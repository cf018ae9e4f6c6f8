from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

import sqlalchemy as sa

from pytest_nnopt.errors import HistoryError
from pytest_nnopt.history.database import CASES, ENTRIES, DatabaseHistory
from pytest_nnopt.history.schema import Selection
from tests.builders import CASE_ID, make_entry

ALL = Selection(1000)


@pytest.fixture
def store(tmp_path: Path) -> DatabaseHistory:
    return DatabaseHistory(f"sqlite:///{tmp_path}/history.db", timeout_seconds=30)


def change(store: DatabaseHistory, **values: object) -> None:
    with store._engine.begin() as connection:
        connection.execute(sa.update(ENTRIES).values(**values))


def test_teams_can_query_it(store: DatabaseHistory) -> None:
    store.append([make_entry(branch="main"), make_entry(branch="topic", hours=1)])
    with store._engine.connect() as connection:
        query = sa.select(CASES.c.case_id, ENTRIES.c.branch, ENTRIES.c.outcome, ENTRIES.c.processes).join(CASES)
        assert [tuple(row) for row in connection.execute(query.order_by(ENTRIES.c.recorded))] == [
            (CASE_ID, "main", "passed", 8),
            (CASE_ID, "topic", "passed", 8),
        ]


def test_a_database_that_is_in_use_is_added_to(store: DatabaseHistory, tmp_path: Path) -> None:
    store.append([make_entry()])
    DatabaseHistory(f"sqlite:///{tmp_path}/history.db", timeout_seconds=30).append([make_entry(hours=1)])
    assert len(store.labels(CASE_ID, ALL)) == 2


def test_a_broken_entry_is_an_error_that_names_it(store: DatabaseHistory) -> None:
    entry = make_entry()
    store.append([entry])
    change(store, entry="{}")
    with pytest.raises(HistoryError, match=f"run {entry.run} for '{CASE_ID}' .* is no valid entry"):
        store.read(store.labels(CASE_ID, ALL))


def test_an_entry_that_its_columns_belie_is_an_error(store: DatabaseHistory) -> None:
    store.append([make_entry(has_passed=False)])
    change(store, is_sound=True)
    with pytest.raises(HistoryError, match="holds something else than its name says"):
        store.read(store.labels(CASE_ID, ALL))


def test_an_entry_of_many_is_broken_and_none_is_added(store: DatabaseHistory) -> None:
    first = make_entry()
    store.append([first])
    with pytest.raises(HistoryError):
        store.append([make_entry(hours=1), first.model_copy(update={"reason": "another"})])
    assert len(store.labels(CASE_ID, ALL)) == 1


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_text("no database" * 100)
    store = DatabaseHistory(f"sqlite:///{tmp_path}/history.db", timeout_seconds=30)
    with pytest.raises(HistoryError, match=r"cannot be used \(listing cases\): file is not a database"):
        store.cases()


def test_a_server_that_cannot_be_reached_is_an_error_without_its_secret() -> None:
    pytest.importorskip("psycopg")
    store = DatabaseHistory("postgresql://me:secret@127.0.0.1:1/x", timeout_seconds=30)
    with pytest.raises(HistoryError, match=r"the history postgresql://127\.0\.0\.1:1/x cannot be used") as caught:
        store.cases()
    assert "secret" not in str(caught.value)


def test_a_server_that_hangs_holds_nobody_up() -> None:
    pytest.importorskip("psycopg")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        store = DatabaseHistory(f"postgresql://me@127.0.0.1:{port}/x", timeout_seconds=0.3)
        with pytest.raises(
            HistoryError, match=r"did not answer within 0\.3 s \(listing cases\).*raise history_timeout"
        ):
            store.cases()


def test_a_connection_that_was_lost_is_made_anew(empty_database: str) -> None:
    import psycopg

    store = DatabaseHistory(empty_database, timeout_seconds=30)
    store.append([make_entry()])
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    store.append([make_entry(hours=1)])
    assert len(store.labels(CASE_ID, ALL)) == 2


def test_a_connection_that_is_lost_in_the_middle_is_made_anew_once(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DatabaseHistory(empty_database, timeout_seconds=30)
    store.append([make_entry()])
    original, calls = store._is_there, []

    def lose_the_first(connection: sa.Connection) -> bool:
        calls.append(1)
        if len(calls) == 1:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return original(connection)

    monkeypatch.setattr(store, "_is_there", lose_the_first)
    assert store.cases() == [CASE_ID]
    assert len(calls) == 2


def test_a_driver_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(HistoryError, match=r"needs a driver.*pip install 'pytest-nnopt\[sql\]'"):
        DatabaseHistory("postgresql://me@127.0.0.1/x", timeout_seconds=1)
