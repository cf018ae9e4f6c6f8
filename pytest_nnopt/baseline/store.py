"""Reading and writing baselines as one small JSON file per case and environment."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from pytest_nnopt.baseline.paths import case_path
from pytest_nnopt.baseline.schema import SCHEMA_VERSION, CaseBaseline, EnvironmentFile
from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import BaselineError
from pytest_nnopt.files import write_text

_ENVIRONMENT_FILE = "environment.json"
_LARGEST_FILE_BYTES = 4 * 2**20
_SIGNIFICANT_DIGITS = 6
_DIGITS_OF_TRUTH = 9
_TRUE_VALUES = ("norm", "sample")
"""What a float64 run gave, which repeats to many digits; a changed constant may show in the sixth."""

_RecordT = TypeVar("_RecordT", bound=BaseModel)


class BaselineStore:
    """The baseline directory of a project. A file is parsed once, and again when its time or size has changed.

    Args:
        root: the directory; it need not exist before something is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._parsed: dict[Path, tuple[_Stamp, BaseModel]] = {}

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

    def read_all(self, environment_name: str) -> list[CaseBaseline]:
        """Return every baseline of an environment.

        Raises:
            BaselineError: one of the files cannot be relied upon.
        """
        paths = sorted((self.root / environment_name).glob("*/**/*.json"))
        return [baseline for path in paths if (baseline := self._read(path, CaseBaseline)) is not None]

    def verify(self) -> None:
        """Read every file of the store, so that what is read later was found sound before anything is measured.

        Raises:
            BaselineError: one of the files cannot be relied upon.
        """
        for environment in self.environments():
            self._fingerprints(environment)
            self.read_all(environment)

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
        self.read(environment.name, baseline.case)
        known = self._fingerprints(environment.name)
        if known.fingerprints.get(environment.digest) != environment.fields:
            fingerprints = {**known.fingerprints, environment.digest: dict(environment.fields)}
            self._write(self.root / environment.name / _ENVIRONMENT_FILE, EnvironmentFile(fingerprints=fingerprints))
        path = self.path(environment.name, baseline.case)
        self._write(path, baseline)
        return path

    def _read(self, path: Path, record: type[_RecordT]) -> _RecordT | None:
        """Read one file through its schema, if it has not been read as it is; None where there is no file."""
        try:
            stamp = _stamp_of(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from None
        known_stamp, known = self._parsed.get(path, (None, None))
        if known_stamp == stamp and isinstance(known, record):
            return known
        parsed = _parse(path, stamp, record)
        self._parsed[path] = stamp, parsed
        return parsed

    def _write(self, path: Path, record: BaseModel) -> None:
        self._parsed.pop(path, None)  # a clock may be too coarse to tell two writings apart
        values = _rounded(record.model_dump(mode="json", by_alias=True))
        write_text(path, json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n")


class _Stamp(NamedTuple):
    """What tells that a file has changed."""

    modified_ns: int
    size: int


def _stamp_of(path: Path) -> _Stamp:
    status = path.stat()
    return _Stamp(status.st_mtime_ns, status.st_size)


def _parse(path: Path, stamp: _Stamp, record: type[_RecordT]) -> _RecordT:
    """Read a file through its schema."""
    if stamp.size > _LARGEST_FILE_BYTES:
        raise BaselineError(f"{path} is larger than {_LARGEST_FILE_BYTES} bytes; {_REMEDY}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
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


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no measurement")


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
