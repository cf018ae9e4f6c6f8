"""What an imported time has to say: a word in a message, and never an answer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from pytest_nnopt.units import format_percent, format_seconds

if TYPE_CHECKING:
    from pytest_nnopt.baseline.imported import ImportedTime
    from pytest_nnopt.baseline.schema import ProcessRecord


def describe_imported(imported: ImportedTime | None, timing: Sequence[ProcessRecord]) -> tuple[str, ...]:
    """Set the candidate's time beside the imported one; nothing where there is none."""
    if imported is None:
        return ()
    told = (
        f"advisory, imported: {format_seconds(imported.seconds)} in {imported.source} ({imported.rounds} rounds, "
        f"{imported.recorded.date().isoformat()}, {imported.machine})"
    )
    seconds = _candidate_seconds(timing)
    if seconds is not None:
        change = format_percent(seconds / imported.seconds - 1, signed=True)
        told += f"; the candidate takes {format_seconds(seconds)} here, {change}"
    return (f"{told}; it decides nothing, and goes with the first recording",)


def describe_new(imported: ImportedTime | None, timing: Sequence[ProcessRecord]) -> str:
    """Say of a first recording what it takes the place of."""
    seconds = _candidate_seconds(timing)
    if imported is None or seconds is None:
        return "new"
    return f"new, in place of an imported {format_seconds(imported.seconds)}; now {format_seconds(seconds)}"


def _candidate_seconds(timing: Sequence[ProcessRecord]) -> float | None:
    figures = [process.seconds["candidate"] for process in timing if "candidate" in process.seconds]
    return median(figures) if figures else None
