"""Times that another tool recorded: shown beside a case until it has a recording of its own, and never its judge.

They are absolute, of one function, made in who knows how many processes, on a machine of which little is known. So they
are no level: they live in a file of their own, in which nothing that decides ever looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pytest_nnopt.baseline.schema import Count, Duration, Moment, Record, Revision
from pytest_nnopt.errors import ResultsError
from pytest_nnopt.untrusted import parse_json, read_bounded

IMPORTED_FILE = "imported.json"
_LARGEST_FILE_BYTES = 256 * 2**20
_LONGEST_NAME = 200


class ImportedTime(Record):
    """One time that was recorded elsewhere.

    Attributes:
        seconds: median per call.
        rounds: how many times it was timed.
        recorded: when.
        machine: what the tool said of where.
        source: name of the file that it comes from.
        revision: commit of the measured code, where the tool knew it.
    """

    seconds: Duration
    rounds: Count
    recorded: Moment
    machine: Annotated[str, Field(max_length=_LONGEST_NAME)]
    source: Annotated[str, Field(max_length=_LONGEST_NAME)]
    revision: Revision | None = None


class ImportedFile(Record):
    """The file ``imported.json`` of a baseline directory: times by case."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, populate_by_name=True)

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    cases: dict[str, ImportedTime] = Field(default_factory=dict)


class _Foreign(BaseModel):
    model_config = ConfigDict(defer_build=True)


class _Stats(_Foreign):
    median: Duration
    rounds: Count


class _Entry(_Foreign):
    fullname: str
    stats: _Stats


class _BenchmarkFile(_Foreign):
    """What is used of a file of pytest-benchmark; it says more."""

    entries: Annotated[list[_Entry], Field(alias="benchmarks")]
    recorded: Annotated[datetime, Field(alias="datetime")]
    machine_info: dict[str, Any] = {}
    commit_info: dict[str, Any] = {}

    @field_validator("recorded")
    @classmethod
    def _with_zone(cls, moment: datetime) -> datetime:
        """Return a moment with its zone: older versions wrote UTC without saying so."""
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)

    def described_machine(self) -> str:
        """Return what is known of the machine, in words."""
        cpu = self.machine_info.get("cpu")
        brand = cpu.get("brand_raw") if isinstance(cpu, Mapping) else None
        python = self.machine_info.get("python_version")
        known = brand or self.machine_info.get("machine") or "an unknown machine"
        return f"{known}, Python {python}"[:_LONGEST_NAME] if python else str(known)[:_LONGEST_NAME]


def newest_times(store: Path) -> tuple[dict[str, ImportedTime], list[str]]:
    """Return the newest time of each test in a store of pytest-benchmark, or in one file of it.

    Args:
        store: a directory such as ``.benchmarks``, or what ``--benchmark-json`` wrote.

    Returns:
        times by the tests' ids, and which files are left out because they are nothing of the kind.

    Raises:
        ResultsError: there is no such file or directory.
    """
    newest: dict[str, ImportedTime] = {}
    left_out = []
    for path in _files(store):
        try:
            found = dict(_times_of(path))
        except (OSError, ValueError) as error:
            left_out.append(f"{path}: {_first_line(error)}")
            continue
        for case_id, time in found.items():
            if case_id not in newest or time.recorded > newest[case_id].recorded:
                newest[case_id] = time
    return newest, left_out


def _files(store: Path) -> list[Path]:
    if store.is_dir():
        return sorted(path for path in store.rglob("*.json") if path.is_file())
    if not store.is_file():
        raise ResultsError(
            f"there is no {store}; name pytest-benchmark's storage, or a file that --benchmark-json wrote"
        )
    return [store]


def _times_of(path: Path) -> Iterator[tuple[str, ImportedTime]]:
    """Return the times of one file.

    Raises:
        OSError: it cannot be read, or is too large.
        ValueError: it is no JSON, or not of pytest-benchmark's shape.
    """
    content = read_bounded(path, _LARGEST_FILE_BYTES)
    file = _BenchmarkFile.model_validate(parse_json(content, is_finite=False))  # a rate may be infinite
    for entry in file.entries:
        yield (
            entry.fullname,
            ImportedTime(
                seconds=entry.stats.median,
                rounds=entry.stats.rounds,
                recorded=file.recorded,
                machine=file.described_machine(),
                source=path.name[-_LONGEST_NAME:],
                revision=_revision(file.commit_info.get("id")),
            ),
        )


def _revision(commit: object) -> str | None:
    return commit[:12] if isinstance(commit, str) and commit[:12].isalnum() and commit != "unversioned" else None


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        detail = error.errors()[0]
        return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).partition("\n")[0]
