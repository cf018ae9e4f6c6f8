"""The times of a run in the JSON shape of pytest-benchmark, for whatever reads that: its own commands and services."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_benchmark import __version__ as shape_version
from pytest_benchmark.stats import Stats

if TYPE_CHECKING:
    from datetime import datetime

    from pytest_nnopt.environment import FieldValue
    from pytest_nnopt.results import CaseResult, RunResults

_SIDES = {"candidate": "", "reference": " (reference)"}
"""The sides that are written, and what their names add to the case's: only the candidate goes by the test's id."""


def render_benchmark_json(results: RunResults, *, written: datetime, revision: str | None = None) -> str:
    """Return the file's text: two entries a timed case, candidate and reference, one round a process.

    Args:
        results: the run; a case without times has no entry.
        written: when, with time zone.
        revision: commit of the measured code.
    """
    values = {
        "machine_info": _machine(results.environment),
        "commit_info": {"id": revision or "unversioned", "dirty": None, "time": None},
        "benchmarks": [entry for case in results.cases for entry in _entries(case)],
        "datetime": written.isoformat(),
        "version": shape_version,
    }
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def _machine(environment: Mapping[str, FieldValue]) -> dict[str, Any]:
    """Return the fingerprint under its own names, and under those that pytest-benchmark's readers know."""
    return {
        **environment,
        "node": None,
        "processor": environment.get("cpu"),
        "python_version": environment.get("python"),
        "cpu": {"brand_raw": environment.get("cpu"), "count": environment.get("cores")},
    }


def _entries(case: CaseResult) -> Iterator[dict[str, Any]]:
    name = case.id.partition("::")[2] or case.id
    for side, suffix in _SIDES.items():
        stats = Stats()
        for process in case.timing:
            if side in process.seconds:
                stats.update(process.seconds[side])
        if stats:
            yield {
                "group": case.id,
                "name": name + suffix,
                "fullname": case.id + suffix,
                "params": None,
                "param": None,
                "extra_info": {"nnopt_outcome": case.outcome.value, "nnopt_speedup": case.speedup, "nnopt_side": side},
                "options": {},
                "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
            }
