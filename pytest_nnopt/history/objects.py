"""The shared history in an object store or a folder, through fsspec: one object for each run and case.

An object is created where there is none and never changed. Its name says what a reader chooses by, so that one listing
finds the last runs of a branch, and the whole course of a case.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nnopt.errors import HistoryError
from pytest_nnopt.history.names import case_folder, case_of_folder, entry_name, label_of_name, month_of
from pytest_nnopt.history.schema import LARGEST_ENTRY_BYTES, Label, parse_entry, require_label
from pytest_nnopt.history.store import answered
from pytest_nnopt.urls import redacted

if TYPE_CHECKING:
    from pytest_nnopt.history.schema import Entry, Selection

_LAYOUT = "v1"
_UNFINISHED = "."
"""How the names of files begin that are being written; and of what is none of ours."""
_AT_ONCE = 16
_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}


class ObjectHistory:
    """See ``store.HistoryStore``.

    Args:
        url: where to, such as ``s3://bucket/prefix`` or ``file:///folder``.
        timeout_seconds: how long one call may take.

    Raises:
        HistoryError: the library of this kind of store is not installed.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self.name = redacted(url)
        self._timeout_seconds = timeout_seconds
        scheme = url.partition(":")[0]
        self._is_local = scheme == "file"
        try:
            import fsspec  # takes a tenth of a second, and its libraries more

            self._files, root = fsspec.core.url_to_fs(url, **_options(scheme, timeout_seconds))
        except ImportError as error:
            extra = _EXTRAS.get(scheme, "s3")
            raise HistoryError(
                f"the history {self.name} needs a library: {error}; install it with pip install 'pytest-nnopt[{extra}]'"
            ) from None
        self._root = f"{root.rstrip('/')}/{_LAYOUT}"

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, several at once."""
        for start in range(0, len(entries), _AT_ONCE):
            add_some = functools.partial(self._add_some, entries[start : start + _AT_ONCE])
            answered(self.name, "adding entries", add_some, self._timeout_seconds)

    def cases(self) -> list[str]:
        """Return the ids of all cases; that of one with a very long name is read from an entry of it."""
        return answered(self.name, "listing cases", lambda: sorted(self._cases()), self._timeout_seconds)

    def labels(self, case_id: str, selection: Selection) -> list[Label]:
        """Return the labels of a case's newest entries of a kind, oldest first."""
        what = f"listing {case_id!r}"
        return answered(self.name, what, lambda: self._labels(case_id, selection), self._timeout_seconds)

    def read(self, labels: Sequence[Label]) -> list[Entry]:
        """Return entries in the order of their labels."""
        paths = [self._path(label) for label in labels]

        def fetch() -> list[Any]:
            stops = [LARGEST_ENTRY_BYTES + 1] * len(paths)
            fetched: list[Any] = self._files.cat_ranges(paths, [0] * len(paths), stops, on_error="return")
            return fetched

        contents = answered(self.name, "reading entries", fetch, self._timeout_seconds) if paths else []
        return [
            self._parsed(label, path, content) for label, path, content in zip(labels, paths, contents, strict=True)
        ]

    def _parsed(self, label: Label, path: str, content: bytes | Exception) -> Entry:
        if isinstance(content, Exception):
            raise HistoryError(f"{path} in the history {self.name} cannot be read: {type(content).__name__}: {content}")
        return require_label(parse_entry(content, path), label, path)

    def _add_some(self, entries: Sequence[Entry]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._add, entries))

    def _add(self, entry: Entry) -> None:
        path, content = self._path(Label.of(entry)), entry.to_text().encode()
        try:
            self._create(path, content)
        except FileExistsError:
            if self._files.cat_file(path) != content:
                raise HistoryError(
                    f"{path} is there already with other content; nothing in a history is rewritten: "
                    "two runs have the same id"
                ) from None

    def _create(self, path: str, content: bytes) -> None:
        """Write an object where there is none, whole or not at all.

        Raises:
            FileExistsError: there is one.
        """
        if self._is_local:
            _create_file(Path(path), content)
        else:
            self._files.pipe_file(path, content, mode="create")

    def _labels(self, case_id: str, selection: Selection) -> list[Label]:
        found: list[Label] = []
        for month in sorted(self._names(f"{self._root}/{case_folder(case_id)}"), reverse=True):
            names = sorted(self._names(f"{self._root}/{case_folder(case_id)}/{month}"), reverse=True)
            of_month = (self._label(case_id, month, name) for name in names)
            found += [label for label in of_month if selection.takes(label)]
            if len(found) >= selection.newest:
                break
        return found[: selection.newest][::-1]

    def _label(self, case_id: str, month: str, name: str) -> Label:
        label = label_of_name(case_id, name)
        if label is None or month_of(label) != month:
            place = f"{self._root}/{case_folder(case_id)}/{month}/{name}"
            raise HistoryError(f"{place} has no name of an entry; remove it from the history {self.name}")
        return label

    def _cases(self) -> Iterator[str]:
        for folder in self._names(self._root):
            case_id = case_of_folder(folder)
            yield case_id if case_id is not None else self._case_inside(folder)

    def _case_inside(self, folder: str) -> str:
        """Read the id of a case from any entry in its folder."""
        for month in self._names(f"{self._root}/{folder}"):
            for name in self._names(f"{self._root}/{folder}/{month}"):
                path = f"{self._root}/{folder}/{month}/{name}"
                case_id = parse_entry(self._files.cat_file(path, start=0, end=LARGEST_ENTRY_BYTES + 1), path).case
                if case_folder(case_id) == folder:
                    return case_id
        raise HistoryError(f"{self._root}/{folder} is no folder of a case; remove it from the history {self.name}")

    def _names(self, folder: str) -> list[str]:
        """List a folder; one that is not there is empty."""
        try:
            paths = self._files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        names = [str(path).rstrip("/").rpartition("/")[2] for path in paths if str(path).rstrip("/") != folder]
        return [name for name in names if not name.startswith(_UNFINISHED)]

    def _path(self, label: Label) -> str:
        return f"{self._root}/{case_folder(label.case)}/{month_of(label)}/{entry_name(label)}"


def _options(scheme: str, timeout_seconds: float) -> dict[str, Any]:
    """Return what a file system is opened with: nothing cached, no patience beyond the deadline."""
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        limits = {"connect_timeout": timeout_seconds, "read_timeout": timeout_seconds, "retries": {"max_attempts": 2}}
        options["config_kwargs"] = limits
    return options


def _create_file(path: Path, content: bytes) -> None:
    """Give a finished file its name in one step that fails where the name is taken, as fsspec's own does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{_UNFINISHED}nnopt-", suffix=".tmp") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        Path(file.name).chmod(0o644)
        os.link(file.name, path)
