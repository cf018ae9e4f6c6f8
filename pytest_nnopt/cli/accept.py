"""``nnopt accept``: results of a run elsewhere, such as a CI artifact, become baselines.

The file is somebody else's. It is read through the schema, and every path is made here, from names that cannot leave
the baseline directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.cli.output import AsJson, print_json, print_line
from pytest_nnopt.cli.project import BaselineDirectory, open_store
from pytest_nnopt.errors import BaselineError, ResultsError
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.files import read_results
from pytest_nnopt.results import CaseMessage, case_environment, speedup_of
from pytest_nnopt.session.recording import commit

if TYPE_CHECKING:
    from pytest_nnopt.baseline.store import BaselineStore
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.results import CaseResult

_AGAINST_THE_BASELINE = frozenset({CheckName.LATENCY, CheckName.DEVICE_TIME, CheckName.MEMORY, CheckName.COMPILE_TIME})
"""Checks that only say that a level is worse than the one before; wrong numbers are no level at all."""
_NEEDED_FIELDS = ("device", "torch")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One case of a results file on its way into the store.

    Attributes:
        result: the case.
        environment: where it was measured.
        refusal: why it becomes no baseline; None where it does.
    """

    result: CaseResult
    environment: Environment
    refusal: str | None


def accept(
    results: Annotated[Path, typer.Argument(help="What pytest --nnopt-json wrote, here or elsewhere.")],
    baseline_dir: BaselineDirectory = None,
    case: Annotated[list[str] | None, typer.Option(help="Take only cases with this in their id; repeatable.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit that was measured, to be kept with it.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why what is worse than its baseline is accepted; without one it is not.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn the cases of a results file into baselines.

    A case that failed is left out, unless it only is worse than its baseline and --reason says why that is accepted.
    """
    store = open_store(baseline_dir)
    candidates = read_candidates(results, is_worse_allowed=bool(reason))
    wanted = [one for one in candidates if case is None or any(part in one.result.id for part in case)]
    if not wanted:
        raise ResultsError(
            f"{results} holds no case" + ("" if case is None else f" with {' or '.join(case)} in its id")
        )
    rows = [_take(store, one, revision=revision, reason=reason, is_trial=dry_run) for one in wanted]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            print_line(f"{row['case']}: {row['outcome']}")


def read_candidates(path: Path, *, is_worse_allowed: bool) -> list[Candidate]:
    """Read a results file that others wrote.

    Raises:
        ResultsError: it is too large, is no results file, or does not say where it was measured.
    """
    results = read_results(path)
    failing = {_test_of(result) for result in results.cases if result.outcome.is_failure}
    candidates = []
    for index, result in enumerate(results.cases):
        environment = case_environment(results, index)
        missing = [name for name in _NEEDED_FIELDS if not environment.fields.get(name)]
        if missing:
            raise ResultsError(f"{path} does not say where {result.id!r} was measured: {', '.join(missing)} is missing")
        refusal = _refusal(result, is_worse_allowed=is_worse_allowed)
        if refusal is None and result.has_passed is False and _test_of(result) not in failing:
            refusal = "left out: its test failed for another reason"
        candidates.append(Candidate(result, environment, refusal))
    return candidates


def _test_of(result: CaseResult) -> str:
    """Return the test that a case belongs to; of several pairs in one, each has a name behind a ``#``."""
    return result.id.partition("#")[0]


def _refusal(result: CaseResult, *, is_worse_allowed: bool) -> str | None:
    """Say why a case becomes no baseline."""
    failed = [check for check in result.checks if check.outcome is Outcome.FAILED]
    wrong = [check.name.value for check in failed if check.name not in _AGAINST_THE_BASELINE]
    if wrong:
        return f"left out: {', '.join(wrong)} failed"
    if failed and not is_worse_allowed:
        names = ", ".join(check.name.value for check in failed)
        return f"left out: {names} is worse than the baseline; say why that is accepted with --reason"
    if any(check.name is CheckName.LATENCY for check in failed) and not result.timing:
        return "left out: it could not be timed"
    if not (result.timing or result.numerics or result.compile or result.memory):
        return "left out: nothing was measured"
    return None


def _take(
    store: BaselineStore, one: Candidate, *, revision: str | None, reason: str | None, is_trial: bool
) -> dict[str, object]:
    """Record a candidate as the new level, and say what became of it."""
    path = store.path(one.environment.name, one.result.id)
    _refuse_detour(store.root, path)
    outcome = one.refusal or _describe_change(store, one)
    if one.refusal is None and not is_trial:
        fields = dict(one.environment.fields)
        why = reason if one.result.outcome is Outcome.FAILED else None
        message = CaseMessage(
            result=one.result,
            environment=fields,
            recording="replace",
            reason=why,
            starts_anew=why is not None or _is_faster(one.result),
        )
        commit(store, message, revision=revision)
    return {
        "case": one.result.id,
        "environment": one.environment.name,
        "file": str(path),
        "is_accepted": one.refusal is None and not is_trial,
        "outcome": f"would be {outcome}" if is_trial and one.refusal is None else outcome,
    }


def _is_faster(result: CaseResult) -> bool:
    return any(check.name is CheckName.LATENCY and check.outcome is Outcome.IMPROVED for check in result.checks)


def _refuse_detour(root: Path, path: Path) -> None:
    """Refuse to follow links out of the baseline directory.

    Raises:
        BaselineError: the file would lie outside of it.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise BaselineError(f"{path} leads out of {root} by a link; remove the link")


def _describe_change(store: BaselineStore, one: Candidate) -> str:
    before = store.read(one.environment.name, one.result.id)
    now = _in_words(one.result.speedup)
    if before is None:
        return f"recorded as new, {now}"
    timing = [process for recording in before.recordings for process in recording.evidence.timing]
    return f"recorded, {_in_words(speedup_of(timing))} → {now}"


def _in_words(speedup: float | None) -> str:
    return "not timed" if speedup is None else f"{speedup:.2f}x"
