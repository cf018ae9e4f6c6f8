"""The reporting process's side of a run: it gathers cases, records baselines and writes result files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.errors import NnoptError
from pytest_nnopt.report.files import write_html, write_json
from pytest_nnopt.report.terminal import Line, render_table
from pytest_nnopt.results import CaseMessage, RunResults
from pytest_nnopt.session.recording import commit

if TYPE_CHECKING:
    from pytest_nnopt.baseline.store import BaselineStore


class Collector:
    """Gathers the cases of a run as their tests finish.

    Args:
        store: where accepted evidence is recorded.
        root: directory of the project, for its revision.
    """

    def __init__(self, store: BaselineStore, root: Path) -> None:
        self._store = store
        self._root = root
        self._pending: dict[str, list[CaseMessage]] = {}
        self._messages: dict[str, CaseMessage] = {}
        self._recorded: list[str] = []
        self._problems: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether no case has arrived."""
        return not self._messages

    @property
    def has_problems(self) -> bool:
        """Whether something that should have been recorded was not."""
        return bool(self._problems)

    def receive(self, test_id: str, texts: list[str], *, has_passed: bool) -> None:
        """Take the cases of a test whose body has run; a later attempt replaces an earlier one."""
        messages = [CaseMessage.model_validate_json(text) for text in texts]
        self._messages.update({message.result.id: message for message in messages})
        self._pending[test_id] = messages if has_passed else []

    def finish_test(self, test_id: str, *, has_passed: bool) -> None:
        """Record what a test wants recorded, now that its teardown is over, too; a failed test records nothing."""
        messages = self._pending.pop(test_id, [])
        for message in messages:
            if has_passed and message.recording is not None:
                self._record(message)

    def results(self) -> RunResults:
        """Return all cases in the order of their ids."""
        ordered = [self._messages[case_id] for case_id in sorted(self._messages)]
        environment = ordered[0].environment if ordered else {}
        return RunResults(environment=environment, cases=tuple(message.result for message in ordered))

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

    def summary(self) -> list[Line]:
        """Return the lines of the terminal section."""
        table = render_table(message.result for message in self._messages.values())
        return table + [Line(line) for line in (*self._recorded, *self._problems)]

    def _record(self, message: CaseMessage) -> None:
        try:
            path = commit(self._store, message, revision=_revision(self._root))
        except NnoptError as error:
            self._problems.append(f"not recorded: {error}")
            return
        what = ", ".join(message.changes) or "more evidence for the level there was"
        self._recorded.append(f"recorded {_relative(path, self._root)}: {what}")


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _revision(root: Path) -> str | None:
    """Return the checked-out commit, None outside a git repository."""
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
