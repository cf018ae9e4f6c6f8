"""``nnopt show``: the stored baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nnopt.cli.output import AsJson, print_json, print_line, print_table
from pytest_nnopt.cli.project import BaselineDirectory, open_store
from pytest_nnopt.results import speedup_of
from pytest_nnopt.units import format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.baseline.imported import ImportedTime
    from pytest_nnopt.baseline.schema import CaseBaseline


def show(baseline_dir: BaselineDirectory = None, *, as_json: AsJson = False) -> None:
    """List the stored baselines: one line for each case and environment."""
    store = open_store(baseline_dir)
    rows = [_row(name, baseline) for name in store.environments() for baseline in store.read_all(name)]
    rows += [_row_of_imported(case_id, time) for case_id, time in store.imported().items()]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        print_line(f"no baselines in {store.root}; record some with pytest --nnopt-update")


def _row(environment: str, baseline: CaseBaseline) -> dict[str, object]:
    last = baseline.recordings[-1]
    timing = [process for recording in baseline.recordings for process in recording.evidence.timing]
    seconds = timing[-1].seconds.get("candidate") if timing else None
    speedup = speedup_of(timing)
    return {
        "case": baseline.case,
        "environment": environment,
        "recorded": last.recorded.date().isoformat(),
        "revision": last.revision,
        "processes": len(timing),
        "candidate": None if seconds is None else format_seconds(seconds),
        "speedup": None if speedup is None else f"{speedup:.2f}x",
    }


def _row_of_imported(case_id: str, time: ImportedTime) -> dict[str, object]:
    """Return the row of a time that decides nothing: it has no environment."""
    return {
        "case": case_id,
        "environment": "imported, advisory",
        "recorded": time.recorded.date().isoformat(),
        "revision": time.revision,
        "processes": None,
        "candidate": format_seconds(time.seconds),
        "speedup": None,
    }
