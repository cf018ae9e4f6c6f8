"""The shared history in PostgreSQL or SQLite, through SQLAlchemy, for teams that query it."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timezone
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_nnopt.errors import HistoryError
from pytest_nnopt.history.schema import LARGEST_ENTRY_BYTES, Label, branch_key, parse_entry, require_label
from pytest_nnopt.history.store import answered
from pytest_nnopt.urls import redacted

try:
    import sqlalchemy as sa
except ImportError as error:  # pragma: no cover
    raise HistoryError(
        "a history in a database needs SQLAlchemy; install it with pip install 'pytest-nnopt[sql]'"
    ) from error

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

    from pytest_nnopt.history.schema import Entry, Selection

_T = TypeVar("_T")

_METADATA = sa.MetaData()
CASES = sa.Table(
    "nnopt_case",
    _METADATA,
    sa.Column("case_key", sa.String(32), primary_key=True),  # an id may be longer than an index takes
    sa.Column("case_id", sa.Text, nullable=False),
)
ENTRIES = sa.Table(
    "nnopt_entry",
    _METADATA,
    sa.Column("case_key", sa.String(32), sa.ForeignKey(CASES.c.case_key), primary_key=True),
    sa.Column("recorded", sa.DateTime, primary_key=True),  # in UTC, which every database keeps alike
    sa.Column("run", sa.String(16), primary_key=True),
    sa.Column("environment", sa.String(8), nullable=False),
    sa.Column("branch_key", sa.String(8), nullable=False),
    sa.Column("branch", sa.Text),
    sa.Column("is_sound", sa.Boolean, nullable=False),
    sa.Column("is_new_level", sa.Boolean, nullable=False),
    sa.Column("revision", sa.String(12)),
    sa.Column("processes", sa.Integer, nullable=False),
    sa.Column("log_ratio", sa.BigInteger),  # in millionths
    sa.Column("outcome", sa.String(20), nullable=False),
    sa.Column("entry", sa.Text, nullable=False),
)
_LABEL_COLUMNS = (
    "recorded",
    "run",
    "environment",
    "branch_key",
    "is_sound",
    "is_new_level",
    "revision",
    "processes",
    "log_ratio",
)
_CREATION_LOCK = 0x6E6E6F7074
"""Any number that all writers share: two that create the tables at once take turns."""


class DatabaseHistory:
    """See ``store.HistoryStore``.

    Args:
        url: ``postgresql://user@host/database`` or ``sqlite:///file``.
        timeout_seconds: how long one call may take.

    Raises:
        HistoryError: the database's driver is not installed.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self.name = redacted(url)
        self._timeout_seconds = timeout_seconds
        self._has_tables = False
        try:
            self._engine = _engine(url, timeout_seconds)
        except ImportError as error:
            raise HistoryError(
                f"the history {self.name} needs a driver: {error}; install it with pip install 'pytest-nnopt[sql]'"
            ) from None

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries in one transaction: all of them or none."""

        def add_all() -> None:
            with _turn(self._engine):
                self._create_tables()
                with self._engine.begin() as connection:
                    for entry in entries:
                        self._add(connection, entry)

        self._call("adding entries", add_all)

    def cases(self) -> list[str]:
        """Return the ids of all cases."""
        rows = self._rows("listing cases", sa.select(CASES.c.case_id).order_by(CASES.c.case_id))
        return [str(row.case_id) for row in rows]

    def labels(self, case_id: str, selection: Selection) -> list[Label]:
        """Return the labels of a case's newest entries of a kind, oldest first."""
        columns = (ENTRIES.c[name] for name in _LABEL_COLUMNS)
        query = sa.select(*columns).where(ENTRIES.c.case_key == _case_key(case_id))
        if selection.branch is not None:
            query = query.where(ENTRIES.c.branch_key == branch_key(selection.branch))
        if selection.is_sound:
            query = query.where(ENTRIES.c.is_sound)
        query = query.order_by(ENTRIES.c.recorded.desc(), ENTRIES.c.run.desc()).limit(selection.newest)
        rows = self._rows(f"listing {case_id!r}", query)
        return [_label(case_id, row) for row in reversed(rows)]

    def read(self, labels: Sequence[Label]) -> list[Entry]:
        """Return entries in the order of their labels."""
        if not labels:
            return []
        keys = [(_case_key(label.case), label.run) for label in labels]
        text = sa.func.substr(ENTRIES.c.entry, 1, LARGEST_ENTRY_BYTES + 1).label("entry")
        query = sa.select(ENTRIES.c.case_key, ENTRIES.c.run, text).where(
            sa.tuple_(ENTRIES.c.case_key, ENTRIES.c.run).in_(keys)
        )
        texts = {(row.case_key, row.run): row.entry for row in self._rows("reading entries", query)}
        return [self._parsed(label, texts.get(key)) for label, key in zip(labels, keys, strict=True)]

    def _parsed(self, label: Label, text: str | None) -> Entry:
        place = f"the entry of run {label.run} for {label.case!r} in the history {self.name}"
        if text is None:
            raise HistoryError(f"{place} is gone; run again")
        return require_label(parse_entry(text, place), label, place)

    def _insert_if_new(self, table: sa.Table, values: Mapping[str, object]) -> Any:
        """Return an insertion that leaves alone what is there; each dialect has its own, and is imported for it."""
        dialect = import_module(f"sqlalchemy.dialects.{self._engine.dialect.name}")
        return dialect.insert(table).values(values).on_conflict_do_nothing()

    def _add(self, connection: Connection, entry: Entry) -> None:
        label, text = Label.of(entry), entry.to_text()
        key = _case_key(entry.case)
        connection.execute(self._insert_if_new(CASES, {"case_key": key, "case_id": entry.case}))
        values = {name: getattr(label, name) for name in _LABEL_COLUMNS}
        values["recorded"] = label.recorded.replace(tzinfo=None)
        row = {**values, "case_key": key, "branch": entry.branch, "outcome": entry.outcome.value, "entry": text}
        connection.execute(self._insert_if_new(ENTRIES, row))
        if self._stored(connection, key, values) != text:
            raise HistoryError(
                f"run {entry.run} has added {entry.case!r} to the history {self.name} already, with other content; "
                "nothing in a history is rewritten: two runs have the same id"
            )

    @staticmethod
    def _stored(connection: Connection, key: str, values: dict[str, Any]) -> str | None:
        columns = ENTRIES.c
        query = sa.select(columns.entry).where(
            columns.case_key == key, columns.recorded == values["recorded"], columns.run == values["run"]
        )
        text: str | None = connection.execute(query).scalar()
        return text

    def _rows(self, what: str, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        def fetch() -> Sequence[sa.Row[Any]]:
            with self._engine.connect() as connection:
                return connection.execute(query).all() if self._is_there(connection) else []

        return self._call(what, fetch)

    def _call(self, what: str, call: Callable[[], _T]) -> _T:
        """Call the database; where the connection was lost, once more with a new one."""

        def again() -> _T:
            try:
                return call()
            except sa.exc.DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            return call()

        return answered(self.name, what, lambda: _without_statement(again), self._timeout_seconds)

    def _is_there(self, connection: Connection) -> bool:
        self._has_tables = self._has_tables or sa.inspect(connection).has_table(ENTRIES.name)
        return self._has_tables

    def _create_tables(self) -> None:
        if self._has_tables:
            return
        with self._engine.connect() as connection:
            if self._is_there(connection):
                return
        with _alone(self._engine) as connection:
            _METADATA.create_all(connection)
        self._has_tables = True


def _engine(url: str, timeout_seconds: float) -> Engine:
    """Make an engine that keeps no connection: calls are few, and one kept open would be lost with the process."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return sa.create_engine(parsed, poolclass=sa.NullPool, connect_args={"timeout": timeout_seconds})
    limits = {
        "connect_timeout": max(1, round(timeout_seconds)),
        "options": f"-c statement_timeout={max(1, round(timeout_seconds * 1000))}",
    }
    driver = parsed.set(drivername="postgresql+psycopg")
    return sa.create_engine(driver, poolclass=sa.NullPool, connect_args=limits)


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """Let the writers of a SQLite file take turns, woken by the system; its own writers poll, and some would starve."""
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    if file is None:
        yield
        return
    with open(f"{file}.lock", "a") as lock:  # noqa: PTH123  a name, whose folder may be missing
        fcntl.flock(lock, fcntl.LOCK_EX)  # closing the file lets go of it
        yield


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that no other of its kind runs beside."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _without_statement(call: Callable[[], _T]) -> _T:
    """Let an error of the database say what is wrong, and not the whole statement with its values."""
    try:
        return call()
    except sa.exc.StatementError as error:
        raise (error.orig or error) from None


def _label(case_id: str, row: sa.Row[Any]) -> Label:
    values = dict(row._mapping)
    values["recorded"] = values["recorded"].replace(tzinfo=timezone.utc)
    return Label(case=case_id, **values)


def _case_key(case_id: str) -> str:
    return hashlib.sha256(case_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]
