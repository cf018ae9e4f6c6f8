"""``nnopt bisect``: which commit made a case regress, found by comparing commits with a good one in the same run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.against.bisection import (
    BAD,
    CANNOT_RUN,
    GOOD,
    bisecting,
    describe_commit,
    find_first_bad,
    resolve_range,
    run_apart,
)
from pytest_nnopt.against.git import find_repository
from pytest_nnopt.baseline.schema import Record
from pytest_nnopt.cli.output import AsJson, print_json
from pytest_nnopt.errors import RevisionError
from pytest_nnopt.files import temporary_directory, write_text
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.plain import plain_line
from pytest_nnopt.report.failure import describe_failure
from pytest_nnopt.report.files import read_results

if TYPE_CHECKING:
    from pytest_nnopt.against.bisection import Commit
    from pytest_nnopt.against.git import Repository
    from pytest_nnopt.results import CaseResult

_GOOD_OUTCOMES = (Outcome.PASSED, Outcome.IMPROVED)
_ABSOLUTE_CHECKS = {CheckName.NUMERICS.value, CheckName.SPEEDUP.value, CheckName.COMPILE.value}
"""Checks that may fail without anything to compare with."""

_STEP = "import sys; from pytest_nnopt.cli.bisect import run_step; sys.exit(run_step(sys.argv[1]))"
_TRIAL = ".trial"
_ANSWERS = {GOOD: "good", BAD: "bad", CANNOT_RUN: "skipped"}


class Hunt(Record):
    """What is searched for, as its steps need it.

    Attributes:
        test: the test, as an argument for pytest.
        arguments: further arguments for pytest.
        directory: where pytest is started.
        good: hash of the commit that is compared with.
        kept: directory for the results and the output of every comparison.
        checks: names of the checks that fail in the bad commit; none before that is known.
    """

    test: str
    arguments: tuple[str, ...]
    directory: str
    good: str
    kept: str
    checks: tuple[str, ...] = ()

    @property
    def trials(self) -> list[Trial]:
        """The commits that were compared with the good one so far."""
        return [Trial.model_validate_json(path.read_bytes()) for path in Path(self.kept).glob(f"*{_TRIAL}")]

    def try_commit(self, repository: Repository, commit: str, base: str | None) -> Trial:
        """Check a commit out and try it there."""
        repository.run("checkout", "--quiet", "--detach", commit)
        return self.try_here(commit, base)

    def try_here(self, commit: str, base: str | None) -> Trial:
        """Run the test in the commit that is checked out, against ``base`` or by itself, and say what came of it."""
        trial = self._compare(commit, base)
        if base == self.good:
            write_text(Path(self.kept) / f"{commit}{_TRIAL}", trial.model_dump_json())
        against = "" if base == self.good else " by itself" if base is None else " against its parent"
        typer.echo(f"{commit[:12]}{against} {_ANSWERS[trial.answer]}: {plain_line(trial.reason)}", err=True)
        return trial

    def _compare(self, commit: str, base: str | None) -> Trial:
        name = f"{commit[:12]}-{'alone' if base is None else base[:12]}"
        results, output = (Path(self.kept) / f"{name}{suffix}" for suffix in (".json", ".txt"))
        only = [f"--nnopt-only={','.join(self.checks)}"] if self.checks else []
        against = [] if base is None else [f"--nnopt-against={base}", "--nnopt-against-exact"]
        arguments = [*self.arguments, *only, *against, f"--nnopt-json={results}", "--", self.test]
        results.unlink(missing_ok=True)
        if not Path(self.directory).is_dir():
            return Trial(commit=commit, answer=CANNOT_RUN, reason=f"it has no directory {self.directory}")
        with output.open("wb") as taken:
            status, _ = run_apart([sys.executable, "-m", "pytest", *arguments], cwd=Path(self.directory), output=taken)
        if status in (0, 1) and results.is_file():
            return judge_trial(commit, read_results(results).cases, self.checks)
        said = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = f"pytest ended with status {status}{f': {said[-1]}' if said else ''}"
        return Trial(commit=commit, answer=CANNOT_RUN, reason=reason)


class Trial(Record):
    """What one commit came to.

    Attributes:
        commit: its hash.
        answer: as ``git bisect run`` wants it.
        reason: why, in one line.
        failing: the checks that failed.
        evidence: what failed at length; empty where nothing did.
    """

    commit: str
    answer: int
    reason: str
    failing: tuple[str, ...] = ()
    evidence: str = ""


def judge_trial(commit: str, cases: Sequence[CaseResult], checks: Sequence[str]) -> Trial:
    """Say what a commit is, by the checks that are asked about, or by all where none are named.

    It is bad where one of them failed, good where all of them passed, and skipped where one could not tell.
    """
    asked = [check for case in cases for check in case.checks if not checks or check.name.value in checks]
    failing = tuple(sorted({check.name.value for check in asked if check.outcome is Outcome.FAILED}))
    if failing:
        first = next(check for check in asked if check.outcome is Outcome.FAILED)
        evidence = "\n".join(describe_failure(case.verdict) for case in cases if case.outcome.is_failure)
        return Trial(commit=commit, answer=BAD, reason=first.reason, failing=failing, evidence=evidence)
    still_open = [check for check in asked if check.outcome not in _GOOD_OUTCOMES]
    if still_open or not asked:
        reason = still_open[0].reason if still_open else "the test has no case"
        return Trial(commit=commit, answer=CANNOT_RUN, reason=reason)
    chosen = next((check for check in asked if check.name is CheckName.LATENCY), asked[0])
    return Trial(commit=commit, answer=GOOD, reason=chosen.reason)


def bisect(
    good: Annotated[str, typer.Argument(help="Revision in which the case is as it should be.")],
    bad: Annotated[str, typer.Argument(help="Later revision in which it has regressed.")],
    test: Annotated[str, typer.Argument(help="The test, as an argument for pytest: its node id.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Further arguments for pytest, such as --nnopt-effect=5%.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep every comparison's results and output there.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Find the commit that made a case regress, comparing commits with GOOD by pytest --nnopt-against.

    Commits are checked out in the working tree. It must have no uncommitted changes, and is put back in the end.
    """
    repository = find_repository(Path.cwd())
    ends = resolve_range(repository, good, bad)
    with ExitStack() as stack:
        kept = keep or stack.enter_context(temporary_directory())
        kept.mkdir(parents=True, exist_ok=True)
        hunt = Hunt(
            test=test,
            arguments=tuple(arguments or ()),
            directory=str(Path.cwd()),
            good=ends[0],
            kept=str(kept.resolve()),
        )
        stack.enter_context(bisecting(repository))
        found = search(repository, hunt, ends[1])
    _tell(found, as_json=as_json)
    raise typer.Exit(0 if found.first_bad is not None else 1)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        suspects: the first bad commit, or all that it may be, newest first.
        evidence: what the newest of them that could run is against the good revision.
        alone: what the first bad commit is against its parent; None where there are several suspects.
    """

    suspects: tuple[Commit, ...]
    evidence: Trial
    alone: Trial | None = None

    @property
    def first_bad(self) -> Commit | None:
        """The first bad commit; None where several may be it."""
        return self.suspects[0] if len(self.suspects) == 1 else None


def search(repository: Repository, hunt: Hunt, bad: str) -> Found:
    """Find the first bad commit, or all that it may be; to be called while bisecting.

    Raises:
        RevisionError: the ends are not a good one and a bad one, or git fails.
    """
    at_bad = hunt.try_commit(repository, bad, hunt.good)
    if at_bad.answer != BAD:
        raise RevisionError(f"{bad[:12]} shows no regression against {hunt.good[:12]}: {at_bad.reason}")
    hunt = hunt.model_copy(update={"checks": at_bad.failing})
    if set(hunt.checks) & _ABSOLUTE_CHECKS:
        at_good = hunt.try_commit(repository, hunt.good, None)
        if at_good.answer == BAD:
            raise RevisionError(f"the case fails in {hunt.good[:12]} already: {at_good.reason}")
    plan = Path(hunt.kept) / "hunt.json"
    write_text(plan, hunt.model_dump_json())
    step = [sys.executable, "-c", _STEP, str(plan)]
    suspects = find_first_bad(repository, hunt.good, bad, step)
    commits = tuple(describe_commit(repository, suspect) for suspect in suspects)
    trials = {trial.commit: trial for trial in hunt.trials}
    evidence = next(trials[suspect] for suspect in suspects if suspect in trials and trials[suspect].answer == BAD)
    if len(suspects) > 1:
        return Found(commits, evidence)
    return Found(commits, evidence, hunt.try_commit(repository, suspects[0], f"{suspects[0]}^"))


def run_step(plan: str) -> int:
    """Try the commit that is checked out, as ``plan`` says, and return its answer: one step of ``git bisect run``."""
    hunt = Hunt.model_validate_json(Path(plan).read_bytes())
    commit = find_repository(Path.cwd()).run("rev-parse", "HEAD")
    return hunt.try_here(commit, hunt.good).answer


def _tell(found: Found, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "suspects": [asdict(commit) for commit in found.suspects],
                "evidence": found.evidence.model_dump(),
                "against_parent": None if found.alone is None else found.alone.model_dump(),
            }
        )
        return
    for line in _report(found):
        typer.echo(line)


def _report(found: Found) -> Iterator[str]:
    """Yield the lines that tell people what was found."""
    if found.first_bad is None:
        yield "the commits between cannot run, so the first bad one may be any of:"
    else:
        yield "first bad commit:"
    for commit in found.suspects:
        yield plain_line(f"  {commit.short} {commit.date} {commit.author}: {commit.subject}")
    yield f"against the good revision, {found.evidence.commit[:12]}:"
    yield from (f"  {plain_line(line)}" for line in found.evidence.evidence.splitlines())
    if found.alone is not None:
        yield f"against its parent: {plain_line(found.alone.reason)}"
        if found.alone.answer != BAD:
            yield "  so it may be that several commits add up, or that a comparison before it erred"
