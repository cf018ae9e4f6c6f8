"""A run's part of the shared history: what it adds, when, and what becomes of it where the store does not answer."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.against.git import git_environment
from pytest_nnopt.errors import ConfigError, HistoryError, OutputError
from pytest_nnopt.files import write_text
from pytest_nnopt.history.branch import branch_of_ci, is_on_ci
from pytest_nnopt.history.schema import Entry
from pytest_nnopt.history.store import open_history
from pytest_nnopt.units import format_count
from pytest_nnopt.urls import redacted

if TYPE_CHECKING:
    from pytest_nnopt.config import Settings
    from pytest_nnopt.history.store import HistoryStore
    from pytest_nnopt.results import CaseMessage

UNSENT = Path(".nnopt/unsent")
"""Below the project's directory, where entries are kept that the history did not take."""

_RUN_ID_BYTES = 8


@dataclass(frozen=True)
class Sharing:
    """Adds the cases of one run to a shared history.

    Attributes:
        store: the history.
        root: directory of the project.
        makes_levels: whether baselines are the history's, so that to record means to add.
        run: id of this run.
    """

    store: HistoryStore
    root: Path
    makes_levels: bool = False
    run: str = field(default_factory=lambda: secrets.token_hex(_RUN_ID_BYTES))

    def entry_of(
        self, message: CaseMessage, *, recorded: datetime, revision: str | None, branch: str | None, has_passed: bool
    ) -> Entry:
        """Return what is added of a case."""
        result, environment = message.result, message.to_environment()
        return Entry(
            run=self.run,
            case=result.id,
            recorded=recorded,
            revision=revision,
            branch=branch,
            environment=environment.digest,
            fields=dict(environment.fields),
            outcome=result.outcome,
            has_passed=has_passed,
            recording=message.recording if has_passed else None,
            starts_anew=message.starts_anew,
            reason=message.reason,
            evidence=result.evidence,
        )

    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries; what cannot be added is kept in the project.

        Raises:
            HistoryError: they could not be added; the message says where they are kept, or why not.
        """
        try:
            self.store.append(entries)
        except HistoryError as error:
            raise HistoryError(f"{error}; {self._keep(entries)}") from None

    def _keep(self, entries: Sequence[Entry]) -> str:
        """Keep entries in the project, and say where."""
        kept = self.root / UNSENT / f"{self.run}.jsonl"
        results = f"the results of {format_count(len(entries), 'case')}"
        try:
            write_text(kept, "".join(f"{entry.to_text()}\n" for entry in entries))
        except OutputError as error:
            return f"{results} are lost, too: {error}"
        return f"{results} are kept in {UNSENT / kept.name}, add them with nnopt send"


def open_shared_history(settings: Settings) -> HistoryStore | None:
    """Open the history that the settings name; None where they name none.

    Raises:
        HistoryError: a library is missing.
    """
    if settings.history is None:
        return None
    return open_history(settings.history, timeout_seconds=settings.history_timeout)


def is_added(settings: Settings, *, is_update: bool, variables: Mapping[str, str] = os.environ) -> bool:
    """Whether this run is to be added to the history.

    Args:
        settings: of the run.
        is_update: whether the user asks to record; where levels are the history's, that means to add.
        variables: the process's environment, which tells a CI service.

    Raises:
        ConfigError: the user asks to record, and nothing may be added.
    """
    if is_update and settings.baseline_from == "history":
        if settings.history_append == "never":
            raise ConfigError(
                f"--nnopt-update would add to the history {redacted(str(settings.history))}, and history_append = "
                "'never' forbids it; give --nnopt-history-append=always, or record files with "
                "--nnopt-baseline-from=files"
            )
        return True
    return settings.history_append == "always" or (settings.history_append == "ci" and is_on_ci(variables))


def branch_of(root: Path, variables: Mapping[str, str] = os.environ) -> str | None:
    """Return the branch that is measured: as the CI service says, else what is checked out; None where none is."""
    on_ci = branch_of_ci(variables)
    if on_ci is not None:
        return on_ci
    command = ["git", "-C", str(root), "symbolic-ref", "--short", "--quiet", "HEAD"]
    try:
        done = subprocess.run(command, env=git_environment(), capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()[:400] or None
