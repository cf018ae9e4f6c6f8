"""Reading and writing baselines as one small JSON file per case and environment."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from pytest_nnopt.baseline.imported import IMPORTED_FILE, ImportedFile, ImportedTime
from pytest_nnopt.baseline.lock import DirectoryLock
from pytest_nnopt.baseline.paths import case_path
from pytest_nnopt.baseline.schema import SCHEMA_VERSION, CaseBaseline, EnvironmentFile
from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import BaselineError
from pytest_nnopt.files import remove_abandoned, remove_file, write_text
from pytest_nnopt.untrusted import parse_json, read_bounded

_ENVIRONMENT_FILE = "environment.json"
LARGEST_FILE_BYTES = 4 * 2**20
"""Largest file of a baseline; one with twenty processes and a thousand kernels has less than a tenth of it."""

_KEPT = 256
"""Files kept in memory as they were parsed: a run asks for those of one case at a time."""
_SIGNIFICANT_DIGITS = 6
_DIGITS_OF_TRUTH = 9
_TRUE_VALUES = ("norm", "sample")
"""What a float64 run gave, which repeats to many digits; a changed constant may show in the sixth."""

_RecordT = TypeVar("_RecordT", bound=BaseModel)


class BaselineStore:
    """The baseline directory of a project.

    The files that were asked for last are kept in memory, and parsed again when they have changed. Of all others no
    more than the case is remembered, so that a store of any size takes little of it.

    What is in the directory may come from anybody: only plain files are read, within bounds, and no link leads out.

    Args:
        root: the directory; it need not exist before something is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._parsed: OrderedDict[Path, tuple[_Stamp, BaseModel]] = OrderedDict()
        self._cases: dict[Path, tuple[_Stamp, str]] = {}
        self._inside: set[Path] = set()
        self._lock = DirectoryLock(root)

    @property
    def name(self) -> str:
        """The directory, in words."""
        return f"{self.root.name}/"

    @property
    def remedy(self) -> str:
        """What to do about a missing baseline."""
        return "record one with pytest --nnopt-update"

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other processes from writing while the body runs: what it reads is what its writing replaces.

        Raises:
            BaselineError: another process does not let go of the store.
        """
        return self._lock.held()

    def path(self, environment_name: str, case_id: str) -> Path:
        """Return the file of a case in an environment, whether it exists or not."""
        return self.root / environment_name / case_path(case_id)

    def read(self, environment_name: str, case_id: str) -> CaseBaseline | None:
        """Return a case's baseline, or None where none was ever recorded.

        Raises:
            BaselineError: there is a file, but it cannot be relied upon.
        """
        path = self.path(environment_name, case_id)
        baseline = self._read(path, CaseBaseline)
        if baseline is not None and baseline.case != case_id:
            raise BaselineError(
                f"{path} holds the baseline of {baseline.case!r}, not of {case_id!r}; "
                "rename one of the tests so that their file names differ in more than case"
            )
        return baseline

    def read_all(self, environment_name: str) -> Iterator[CaseBaseline]:
        """Read every baseline of an environment, one after the other.

        Raises:
            BaselineError: one of the files cannot be relied upon.
        """
        for path in self._files(environment_name):
            baseline = self._read(path, CaseBaseline, is_kept=False)
            if baseline is not None:
                yield baseline

    def cases(self, environment_name: str) -> list[str]:
        """Name the cases that have a baseline in an environment; what was read before is not read again.

        Raises:
            BaselineError: one of the files cannot be relied upon.
        """
        found = (self._case(path) for path in self._files(environment_name))
        return [case for case in found if case is not None]

    def _case(self, path: Path) -> str | None:
        known = self._cases.get(path)
        if known is not None and known[0] == _found(path):
            return known[1]
        baseline = self._read(path, CaseBaseline, is_kept=False)
        return None if baseline is None else baseline.case

    def _files(self, environment_name: str) -> list[Path]:
        return sorted((self.root / environment_name).glob("*/**/*.json"))

    def verify(
        self, test_ids: Iterable[str] | None = None, *, learn: Callable[[str, CaseBaseline], None] | None = None
    ) -> None:
        """Read every file of the store, so that what is read later was found sound before anything is measured.

        Args:
            test_ids: not used, since the files of all tests are read: what varies in one case tells of others.
            learn: is told each environment's baselines as they are read.

        Raises:
            BaselineError: one of the files cannot be relied upon.
        """
        self.imported()
        for environment in self.environments():
            self._fingerprints(environment)
            for baseline in self.read_all(environment):
                if learn is not None:
                    learn(environment, baseline)

    def fingerprint(self, environment_name: str, digest: str) -> Environment | None:
        """Return a recorded fingerprint, or None where it is unknown.

        Raises:
            BaselineError: there is a file, but it cannot be relied upon.
        """
        fields = self._fingerprints(environment_name).fingerprints.get(digest)
        return None if fields is None else Environment(fields)

    def _fingerprints(self, environment_name: str) -> EnvironmentFile:
        return self._read(self.root / environment_name / _ENVIRONMENT_FILE, EnvironmentFile) or EnvironmentFile()

    def environments(self) -> list[str]:
        """Name the environments that have a directory."""
        return sorted(d.name for d in self.root.iterdir() if d.is_dir()) if self.root.is_dir() else []

    def environments_with(self, case_id: str) -> list[str]:
        """Name the environments in which a case has a baseline."""
        return [name for name in self.environments() if self.path(name, case_id).is_file()]

    def write(self, environment: Environment, baseline: CaseBaseline) -> Path:
        """Write a case's baseline and the fingerprint that it refers to, each atomically; return the case's file.

        Raises:
            BaselineError: what is there cannot be relied upon, or belongs to another case.
            OutputError: the directory cannot be written; what was there before is untouched.
        """
        path = self.path(environment.name, baseline.case)
        with self.exclusive():
            self.read(environment.name, baseline.case)
            _refuse_collision(self.root, path)
            known = self._fingerprints(environment.name)
            if known.fingerprints.get(environment.digest) != environment.fields:
                fingerprints = {**known.fingerprints, environment.digest: dict(environment.fields)}
                file = self.root / environment.name / _ENVIRONMENT_FILE
                self._write(file, EnvironmentFile(fingerprints=fingerprints))
            self._write(path, baseline)
            for folder in (path.parent, self.root / environment.name):
                remove_abandoned(folder)
        return path

    def imported(self) -> Mapping[str, ImportedTime]:
        """Return the times that another tool recorded, by case; they are no level, and decide nothing.

        Raises:
            BaselineError: there is a file of them, but it cannot be relied upon.
        """
        return (self._read(self.root / IMPORTED_FILE, ImportedFile) or ImportedFile()).cases

    def write_imported(self, cases: Mapping[str, ImportedTime]) -> Path:
        """Write the times that another tool recorded in place of those there are; without any there is no file.

        Raises:
            OutputError: the directory cannot be written.
        """
        path = self.root / IMPORTED_FILE
        with self.exclusive():
            if cases:
                self._write(path, ImportedFile(cases=dict(cases)))
            else:
                self._parsed.pop(path, None)
                remove_file(path)
        return path

    def replace_imported(self, case_id: str) -> None:
        """Forget the imported time of a case that has a recording of its own now.

        Raises:
            BaselineError: the file of imported times cannot be relied upon.
            OutputError: the directory cannot be written.
        """
        with self.exclusive():
            known = self.imported()
            if case_id in known:
                self.write_imported({name: time for name, time in known.items() if name != case_id})

    def _read(self, path: Path, record: type[_RecordT], *, is_kept: bool = True) -> _RecordT | None:
        """Read one file through its schema, if it is not kept as it is; None where there is no file."""
        stamp = _found(path)
        if stamp is None:
            return None
        self._refuse_detour(path)
        known_stamp, known = self._parsed.get(path, (None, None))
        if known_stamp == stamp and isinstance(known, record):
            return known
        parsed = _parse(path, stamp, record)
        if isinstance(parsed, CaseBaseline):
            self._cases[path] = stamp, parsed.case
        if is_kept:
            self._keep(path, stamp, parsed)
        return parsed

    def _keep(self, path: Path, stamp: _Stamp, record: BaseModel) -> None:
        """Keep what was read, in place of what was asked for longest ago."""
        self._parsed[path] = stamp, record
        self._parsed.move_to_end(path)
        if len(self._parsed) > _KEPT:
            self._parsed.popitem(last=False)

    def _refuse_detour(self, path: Path) -> None:
        """Refuse a file whose directory is reached by a link that leads out of the store.

        Raises:
            BaselineError: it would lie outside.
        """
        folder = path.parent
        if folder in self._inside:
            return
        if not folder.resolve().is_relative_to(self.root.resolve()):
            raise BaselineError(f"{path} leads out of {self.root} by a link; remove the link")
        self._inside.add(folder)

    def _write(self, path: Path, record: BaseModel) -> None:
        self._inside.discard(path.parent)
        self._refuse_detour(path)
        self._parsed.pop(path, None)  # a clock may be too coarse to tell two writings apart
        values = _rounded(record.model_dump(mode="json", by_alias=True))
        text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n"
        if len(text) > LARGEST_FILE_BYTES:  # all of it is ASCII
            raise BaselineError(
                f"{path} would have {len(text)} bytes, and {LARGEST_FILE_BYTES} are read at most; make less of it"
            )
        write_text(path, text)


class _Stamp(NamedTuple):
    """What tells that a file has changed."""

    modified_ns: int
    size: int
    inode: int


def _found(path: Path) -> _Stamp | None:
    """Return the stamp of a file, None where there is none.

    Raises:
        BaselineError: something else has its name.
    """
    try:
        return _stamp_of(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None


def _stamp_of(path: Path) -> _Stamp:
    """Return the stamp of a plain file.

    Raises:
        OSError: there is none, or something else has its name.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no plain file")
    return _Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


def _refuse_collision(root: Path, path: Path) -> None:
    """Refuse a name that differs from an existing one in case alone: on some file systems they are the same file.

    Raises:
        BaselineError: there is such a name; both are in the message.
    """
    folder = root
    for part in path.relative_to(root).parts:
        others = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
        twin = next((name for name in others if name != part and name.casefold() == part.casefold()), None)
        if twin is not None:
            raise BaselineError(
                f"{folder / part} and {folder / twin} differ in case alone, and are one file where case does not "
                "count; rename one of the tests"
            )
        folder = folder / part


def _parse(path: Path, stamp: _Stamp, record: type[_RecordT]) -> _RecordT:
    """Read a file through its schema."""
    if stamp.size > LARGEST_FILE_BYTES:
        raise BaselineError(f"{path} is larger than {LARGEST_FILE_BYTES} bytes; {_REMEDY}")
    try:
        content = read_bounded(path, LARGEST_FILE_BYTES)
        with contextlib.suppress(ValidationError):  # then the slower way says better what is wrong
            return record.model_validate_json(content)
        values = parse_json(content)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    version = values.get("schema") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BaselineError(
            f"{path} follows schema {version}, this pytest-nnopt knows {SCHEMA_VERSION}; upgrade pytest-nnopt"
        )
    try:
        return record.model_validate(values)
    except ValidationError as error:
        raise BaselineError(f"{path} is not a valid baseline: {_first_problem(error)}; {_REMEDY}") from None


_REMEDY = "restore it from version control or record it anew with pytest --nnopt-update after deleting it"


def _unreadable(path: Path, error: Exception) -> BaselineError:
    return BaselineError(f"{path} cannot be read: {error}; {_REMEDY}")


def _first_problem(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(str(part) for part in detail['loc']) or 'file'}: {detail['msg']}"


def _rounded(value: Any, digits: int = _SIGNIFICANT_DIGITS) -> Any:
    """Round every float to six significant digits, below any noise, so that diffs stay short; true values to nine."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: _rounded(item, _DIGITS_OF_TRUTH if key in _TRUE_VALUES else digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item, digits) for item in value]
    return value
