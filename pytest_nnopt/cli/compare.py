"""``nnopt compare``: two sets of evidence side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.cli.evidence import Found, find_evidence
from pytest_nnopt.cli.output import AsJson, print_json, print_line, print_table
from pytest_nnopt.cli.project import BaselineDirectory, open_store
from pytest_nnopt.results import speedup_of
from pytest_nnopt.statistics.distributions import t_quantile
from pytest_nnopt.statistics.evidence import compare_processes
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.units import format_percent, relative_change
from pytest_nnopt.verdict import estimate_of

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, Evidence

_CONFIDENCE = 0.95
_COUNTS = ("graphs", "graph_breaks", "recompiles", "eager_frames")


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two sides of one case; None where it was not measured on both.

    Attributes:
        case: id of the case.
        environment: where both were measured; empty where environments are compared.
        before: eager time over candidate time in A.
        after: the same in B.
        change: relative change of candidate's time over eager's, from A to B; above 0 is slower.
        low: lower end of its 95 % interval.
        high: upper end.
        memory: relative change of the candidate's peak memory.
        other: further differences in words.
    """

    case: str
    environment: str
    before: float | None = None
    after: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    memory: float | None = None
    other: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What the interval says of the time."""
        if self.low is None or self.high is None:
            return "-"
        return "slower" if self.low > 0 else "faster" if self.high < 0 else "no difference shown"


def compare(
    a: Annotated[str, typer.Argument(help="A results file, an environment, or a git revision with baselines.")],
    b: Annotated[str, typer.Argument(help="What to compare with it.")],
    baseline_dir: BaselineDirectory = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Compare two results files, revisions' baselines or environments: B relative to A.

    Times are compared as ratios to eager's, so that a faster machine is no improvement. Nothing is judged by limits.
    """
    store = open_store(baseline_dir)
    differences = list(find_differences(find_evidence(a, store), find_evidence(b, store)))
    if as_json:
        print_json([{**asdict(difference), "verdict": difference.verdict} for difference in differences])
    elif differences:
        print_table([_row(difference) for difference in differences])
    else:
        print_line(f"neither {a} nor {b} holds a case")


def find_differences(before: Found, after: Found) -> Iterator[Difference]:
    """Pair cases by id and environment; by id alone where each side has one environment, and they differ."""
    is_across = len(before.environments) == len(after.environments) == 1
    older, newer = (before.by_case(), after.by_case()) if is_across else (before.cases, after.cases)
    for environment, case in sorted({*older, *newer}):
        one, other = older.get((environment, case)), newer.get((environment, case))
        if one is None or other is None:
            yield Difference(case, environment, other=(f"only in {before.name if other is None else after.name}",))
        else:
            yield _difference(case, environment, one, other)


def _difference(case: str, environment: str, before: Evidence, after: Evidence) -> Difference:
    change, low, high = _time_change(before, after)
    return Difference(
        case=case,
        environment=environment,
        before=speedup_of(before.timing),
        after=speedup_of(after.timing),
        change=change,
        low=low,
        high=high,
        memory=_memory_change(before, after),
        other=_compile_differences(before.compile, after.compile),
    )


def _time_change(before: Evidence, after: Evidence) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the change with its interval, over processes as a verdict has it."""
    if not before.timing or not after.timing:
        return None, None, None
    evidence = compare_processes(
        [estimate_of(process) for process in after.timing],
        [estimate_of(process) for process in before.timing],
        DEFAULT_CPU_PRIOR,
    )
    half = t_quantile((1 - _CONFIDENCE) / 2, evidence.noise.degrees_of_freedom) * evidence.standard_error
    centre = evidence.log_ratio
    return relative_change(centre), relative_change(centre - half), relative_change(centre + half)


def _memory_change(before: Evidence, after: Evidence) -> float | None:
    peaks = [None if one.memory is None else one.memory.candidate_peak_bytes for one in (before, after)]
    old, new = peaks
    return None if not old or new is None else new / old - 1


def _compile_differences(before: CompileRecord | None, after: CompileRecord | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ()
    names = ("status", "used", *_COUNTS)
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in names}
    return tuple(f"{name.replace('_', ' ')} {old} → {new}" for name, (old, new) in pairs.items() if old != new)


def _row(difference: Difference) -> dict[str, object]:
    changes = (difference.change, difference.low, difference.high)
    change, low, high = (
        None if x is None or not math.isfinite(x) else format_percent(round(x, 6) + 0.0, signed=True) for x in changes
    )
    row = {"case": difference.case, "environment": difference.environment or None}
    return {
        **{name: value for name, value in row.items() if name == "case" or value is not None},
        "speedup A": _times(difference.before),
        "speedup B": _times(difference.after),
        "time B/A": None if change is None else f"{change} [{low}, {high}]",
        "verdict": difference.verdict,
        "peak memory": None if difference.memory is None else format_percent(difference.memory, signed=True),
        "other": "; ".join(difference.other) or None,
    }


def _times(speedup: float | None) -> str | None:
    return None if speedup is None else f"{speedup:.2f}x"
