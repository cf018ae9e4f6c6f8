"""``nnopt merge``: the results files of a run's shards as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.cli.output import AsJson, print_json, print_line
from pytest_nnopt.errors import ResultsError
from pytest_nnopt.model import Outcome
from pytest_nnopt.report.files import read_results, write_json
from pytest_nnopt.report.rows import count_outcomes
from pytest_nnopt.session.merging import Part, merge_results

if TYPE_CHECKING:
    from pytest_nnopt.results import RunResults

_FAILED = 1


def merge(
    results: Annotated[list[Path], typer.Argument(help="What each job's pytest --nnopt-json wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The results file to write.")],
    shards: Annotated[
        int | None, typer.Option(min=1, help="How many shards there must be, where the files do not say it.")
    ] = None,
    *,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="The files come from different machines, as of a matrix.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Join the results files of a run that was spread over several jobs.

    Ends with status 1 where a case failed, a shard is missing, or the files do not fit together; what there is is
    written all the same.
    """
    parts = [Part(str(path), read_results(path)) for path in _each_once(results, output)]
    merged = merge_results(parts, shards=shards, is_mixed=mixed)
    write_json(output, merged)
    if as_json:
        print_json(_summary(output, merged))
    else:
        _print_summary(output, merged)
    if merged.outcome.is_failure:
        raise typer.Exit(_FAILED)


def _each_once(paths: list[Path], output: Path) -> list[Path]:
    """Return the paths.

    Raises:
        ResultsError: one is given twice, or is the file to write.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise ResultsError(f"{path} is given twice; name each results file once")
        if path.resolve() == output.resolve():
            raise ResultsError(f"{path} is to be merged and to be written; give another file with --output")
        seen.add(path.resolve())
    return paths


def _summary(output: Path, merged: RunResults) -> dict[str, object]:
    return {
        "file": str(output),
        "outcome": merged.outcome.value,
        "cases": {
            outcome.value: sum(case.outcome is outcome for case in merged.cases)
            for outcome in Outcome
            if any(case.outcome is outcome for case in merged.cases)
        },
        "parts": [part.model_dump(mode="json") for part in merged.parts],
        "problems": list(merged.problems),
    }


def _print_summary(output: Path, merged: RunResults) -> None:
    counts = count_outcomes(merged.cases) or "no case"
    print_line(f"merged {len(merged.parts)} files into {output}: {counts}")
    for problem in merged.problems:
        print_line(problem)
    for case in merged.cases:
        if case.outcome.is_failure:
            print_line(f"{case.outcome.value}: {case.id}")
