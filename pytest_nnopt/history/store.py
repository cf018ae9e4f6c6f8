"""What a store of the shared history can do, and how one is opened by its URL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from pytest_nnopt.errors import HistoryError
from pytest_nnopt.urls import DATABASE_SCHEMES, without_secrets

if TYPE_CHECKING:
    from pytest_nnopt.history.schema import Entry, Label, Selection

_T = TypeVar("_T")


class HistoryStore(Protocol):
    """A store that many jobs append to at once. Every method raises ``HistoryError`` where the store does not answer.

    Attributes:
        name: its URL without what is secret in it.
    """

    name: str

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries. One that is there already, word for word, is left alone: a failed call can be repeated.

        Raises:
            HistoryError: one could not be added, or another one of the same run and case is there.
        """
        ...

    def cases(self) -> list[str]:
        """Return the ids of all cases."""
        ...

    def labels(self, case_id: str, selection: Selection) -> list[Label]:
        """Return the labels of a case's newest entries of a kind, oldest first."""
        ...

    def read(self, labels: Sequence[Label]) -> list[Entry]:
        """Return entries in the order of their labels.

        Raises:
            HistoryError: one is gone or cannot be relied upon.
        """
        ...


def open_history(url: str, *, timeout_seconds: float) -> HistoryStore:
    """Open the store that a URL names; it is not asked for anything yet.

    Args:
        url: one that ``urls.parse_history_url`` accepts.
        timeout_seconds: how long one call may take.

    Raises:
        HistoryError: what it needs is not installed.
    """
    if url.partition(":")[0] in DATABASE_SCHEMES:
        from pytest_nnopt.history.database import DatabaseHistory

        return DatabaseHistory(url, timeout_seconds=timeout_seconds)
    from pytest_nnopt.history.objects import ObjectHistory

    return ObjectHistory(url, timeout_seconds=timeout_seconds)


def answered(name: str, what: str, call: Callable[[], _T], timeout_seconds: float) -> _T:
    """Return what a call to a store returns, within a time: a store that hangs holds nobody up.

    The call runs in a thread that is left behind where it does not end, and that does not keep the process alive.

    Raises:
        HistoryError: it took too long, or failed; what is secret in the store's URL is not repeated.
    """
    box: list[tuple[_T | None, BaseException | None]] = []

    def run() -> None:
        try:
            box.append((call(), None))
        except BaseException as error:
            box.append((None, error))

    thread = threading.Thread(target=run, name="nnopt-history", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if not box:
        raise HistoryError(
            f"the history {name} did not answer within {timeout_seconds:g} s ({what}); see that it can be reached, or "
            "raise history_timeout in [tool.nnopt]"
        )
    result, error = box[0]
    if isinstance(error, HistoryError):
        raise error
    if isinstance(error, ImportError):
        raise HistoryError(f"the history {name} needs a library that is not installed: {error}") from None
    if error is not None:
        raise HistoryError(f"the history {name} cannot be used ({what}): {_in_words(error)}") from None
    return result  # type: ignore[return-value]  # there was no error


def _in_words(error: BaseException) -> str:
    """Return the first line of an error, without user and password of any URL in it."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return without_secrets(first)[:500]
