"""The reporting process's side of a run: it gathers cases, records baselines and writes result files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_nnopt.against.git import git_environment
from pytest_nnopt.baseline.unused import Coverage, unused_cases
from pytest_nnopt.errors import NnoptError
from pytest_nnopt.files import write_text
from pytest_nnopt.history.branch import is_on_ci
from pytest_nnopt.observers import tell_all
from pytest_nnopt.report.annotations import Place, render_annotations
from pytest_nnopt.report.benchmark_json import render_benchmark_json
from pytest_nnopt.report.files import write_html, write_json
from pytest_nnopt.report.markdown import append_summary, render_markdown
from pytest_nnopt.report.openmetrics import render_openmetrics
from pytest_nnopt.report.terminal import WIDTH, Line, render_section
from pytest_nnopt.results import CaseMessage, RunResults, ShardRecord
from pytest_nnopt.session.recording import commit
from pytest_nnopt.session.sharing import branch_of

if TYPE_CHECKING:
    from pytest_nnopt.baseline.store import BaselineStore
    from pytest_nnopt.observers import Observer
    from pytest_nnopt.results import CaseResult
    from pytest_nnopt.session.sharing import Sharing

EXPORTS: Mapping[str, Callable[[RunResults, Path], str]] = MappingProxyType(
    {
        "markdown": lambda results, _: render_markdown(results),
        "openmetrics": lambda results, _: render_openmetrics(results),
        "benchmark_json": lambda results, _: render_benchmark_json(
            results, written=datetime.now(timezone.utc), revision=results.revision
        ),
    }
)
"""What the results are written as, besides JSON and HTML: from results and the project's directory to text."""

_SHOWN_IDS = 10


class Collector:
    """Gathers the cases of a run as their tests finish.

    Args:
        store: where accepted evidence is recorded.
        root: directory of the project, for its revision.
        observers: who else is told about each case as it arrives.
        shard: which part of a run that is spread over several jobs this one is, and of how many.
        sharing: adds the run to a shared history; None adds it to none.
    """

    def __init__(
        self,
        store: BaselineStore,
        root: Path,
        *,
        observers: Sequence[Observer] = (),
        shard: tuple[int, int] | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self._store = store
        self._observers = observers
        self._root = root
        self._pending: dict[str, list[CaseMessage]] = {}
        self._messages: dict[str, CaseMessage] = {}
        self._recorded: list[str] = []
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._places: dict[str, Place] = {}
        self._sharing = sharing
        self._judged: dict[str, datetime] = {}
        self._passed: set[str] = set()
        self._shared: list[str] = []
        self._shard = None if shard is None else ShardRecord(index=shard[0], count=shard[1])

    @property
    def is_empty(self) -> bool:
        """Whether no case has arrived."""
        return not self._messages

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to say."""
        return self.is_empty and not self._notes and not self._problems

    @property
    def has_problems(self) -> bool:
        """Whether something that should have been recorded was not."""
        return bool(self._problems)

    def receive(self, test_id: str, texts: list[str], *, has_passed: bool, place: Place | None = None) -> None:
        """Take the cases of a test whose body has run; a later attempt replaces an earlier one."""
        messages = [CaseMessage.model_validate_json(text) for text in texts]
        self._messages.update({message.result.id: message for message in messages})
        self._judged.update(dict.fromkeys((message.result.id for message in messages), datetime.now(timezone.utc)))
        self._passed -= {message.result.id for message in messages}
        if place is not None:
            self._places.update({message.result.id: place for message in messages})
        self._pending[test_id] = messages if has_passed else []
        for message in messages:
            self._notes += tell_all(self._observers, message.result)

    def finish_test(self, test_id: str, *, has_passed: bool) -> None:
        """Record what a test wants recorded, now that its teardown is over, too; a failed test records nothing."""
        messages = self._pending.pop(test_id, [])
        if has_passed:
            self._passed |= {message.result.id for message in messages}
        for message in messages:
            if has_passed and message.recording is not None:
                self._record(message)
            if has_passed and message.refusal is not None:
                self._problems.append(f"not recorded: {message.result.id}: {message.refusal}")

    def share(self) -> None:
        """Add every case to the shared history, where there is one; a failure to do so becomes a problem of the run."""
        if self._sharing is None or self.is_empty:
            return
        revision, branch = self._revision, branch_of(self._root)
        try:
            entries = [
                self._sharing.entry_of(
                    message,
                    recorded=self._judged[case_id],
                    revision=revision,
                    branch=branch,
                    has_passed=case_id in self._passed,
                )
                for case_id, message in sorted(self._messages.items())
            ]
            self._sharing.add(entries)
        except (NnoptError, ValueError) as error:  # what pydantic raises where an id or a revision is out of bounds
            self._problems.append(f"not added to the history {self._sharing.store.name}: {error}")
            return
        cases = "1 case" if len(entries) == 1 else f"{len(entries)} cases"
        self._recorded += self._shared
        self._recorded.append(f"added {cases} to the history {self._sharing.store.name} (branch: {branch or 'none'})")

    def note_unused(self, coverage: Coverage) -> None:
        """Mention the stored baselines that no collected test asks for, in the environments of this run.

        Another environment's baselines may belong to tests that only exist there. Where no case ran at all, every
        environment counts.
        """
        environments = {message.to_environment().name for message in self._messages.values()}
        known = replace(coverage, cases=self._messages.keys())
        try:
            stored = [case for name in (environments or self._store.environments()) for case in self._store.cases(name)]
        except NnoptError as error:
            self._notes.append(f"cannot tell whether baselines are unused: {error}")
            return
        unused = unused_cases(stored, known)
        if unused:
            self._notes.append(_describe_unused(unused))

    @cached_property
    def _revision(self) -> str | None:
        """The commit that is measured, as it was when first asked for."""
        return _revision(self._root, self._store.root)

    def note_gone(self, test_ids: Iterable[str], base: str) -> None:
        """Mention the cases of another revision that are no longer there."""
        if gone := sorted(test_ids):
            tests = "1 test" if len(gone) == 1 else f"{len(gone)} tests"
            self._notes.append(f"gone, {tests} of {base} with model_pair: {_shown(gone)}; a renamed test counts as new")

    def results(self) -> RunResults:
        """Return all cases in the order of their ids."""
        ordered = [self._messages[case_id] for case_id in sorted(self._messages)]
        environment = ordered[0].environment if ordered else {}
        return RunResults(
            environment=environment,
            cases=tuple(self._with_end(message.result) for message in ordered),
            shard=self._shard,
            revision=self._revision,
        )

    def _with_end(self, result: CaseResult) -> CaseResult:
        return result.model_copy(update={"has_passed": result.id in self._passed})

    def write_json(self, path: Path) -> None:
        """Write the results file; a failure to do so becomes a problem of the run."""
        try:
            write_json(path, self.results())
        except NnoptError as error:
            self._problems.append(str(error))

    def write_html(self, path: Path) -> None:
        """Write the HTML report; a failure to do so becomes a problem of the run."""
        try:
            write_html(path, self.results())
        except NnoptError as error:
            self._problems.append(str(error))

    def write_export(self, kind: str, path: Path) -> None:
        """Write the results as a ``kind`` of ``EXPORTS``; a failure to do so becomes a problem of the run."""
        try:
            write_text(path, EXPORTS[kind](self.results(), self._root))
        except NnoptError as error:
            self._problems.append(str(error))

    def append_summary(self, path: Path) -> None:
        """Append the Markdown summary to a step's; it was not asked for, so a failure to do so is but mentioned."""
        try:
            append_summary(path, self.results())
        except NnoptError as error:
            self._notes.append(str(error))

    def annotations(self) -> list[str]:
        """Return the workflow commands that put the worst cases on the lines of their tests."""
        return render_annotations([message.result for message in self._messages.values()], self._places)

    def summary(self, *, width: int = WIDTH, is_verbose: bool = False) -> list[Line]:
        """Return the lines of the terminal section."""
        environments = sorted({message.to_environment().name for message in self._messages.values()})
        results = [message.result for message in self._messages.values()]
        head = [Line(f"on {', '.join(environments)}")] if environments else []
        proposals = [message.proposal for message in self._messages.values() if message.proposal is not None]
        tail = [Line(line) for line in (*self._recorded, *proposals, *self._notes, *self._problems)]
        section = render_section(results, width=width, is_verbose=is_verbose) if results else []
        return head + section + tail

    def _record(self, message: CaseMessage) -> None:
        if self._sharing is not None and self._sharing.makes_levels:
            self._shared.append(f"recorded {message.result.id}: {_describe_recorded(message)}")
            return
        try:
            path = commit(self._store, message, revision=self._revision)
        except NnoptError as error:
            self._problems.append(f"not recorded: {error}")
            return
        self._recorded.append(f"recorded {_relative(path, self._root)}: {_describe_recorded(message)}")


def _describe_recorded(message: CaseMessage) -> str:
    return ", ".join(message.changes) or "more evidence for the level there was"


def _describe_unused(unused: list[str]) -> str:
    baselines = "1 baseline is" if len(unused) == 1 else f"{len(unused)} baselines are"
    return f"{baselines} unused, no test asks for: {_shown(unused)}; delete with nnopt prune"


def _shown(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN_IDS]) + (", …" if len(ids) > _SHOWN_IDS else "")


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _revision(root: Path, baselines: Path) -> str | None:
    """Return the checked-out commit; None outside a git repository, and where other code than its own was measured.

    Baselines do not count: they are recorded before they are committed. Nor does what a CI service's job changed.
    """
    others = [f":(exclude){baselines.relative_to(root)}"] if baselines.is_relative_to(root) else []
    try:
        if not is_on_ci(os.environ) and _git(
            root, "status", "--porcelain", "--untracked-files=no", "--", ":/", *others
        ):
            return None
        return _git(root, "rev-parse", "--short=12", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, env=git_environment(), capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
