"""Baselines that no collected test asks for any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a run has collected and run.

    Attributes:
        places: files and directories whose tests were all collected, relative to the project.
        tests: ids of the tests that were collected.
        completed: ids of those that ran to their end, so that the names of their pairs are known.
        cases: ids of the cases that were measured.
        skipped: files and directories that skipped themselves; which tests are in them is not known.
    """

    places: Sequence[str]
    tests: Collection[str]
    completed: Collection[str]
    cases: Collection[str]
    skipped: Collection[str] = ()

    def leaves_unused(self, case_id: str) -> bool:
        """Whether a case's baseline belongs to what was collected, and nothing of that asks for it."""
        file = PurePosixPath(case_id.partition("::")[0])
        is_covered = any(file.is_relative_to(place) for place in self.places)
        if not is_covered or any(file.is_relative_to(place) for place in self.skipped):
            return False
        owner = self._test_of(case_id)
        return owner is None or (owner in self.completed and case_id not in self.cases)

    def _test_of(self, case_id: str) -> str | None:
        """Return the collected test that a case belongs to: its id is the case's, or what stands before a ``#``."""
        ends = [len(case_id), *(index for index, character in enumerate(case_id) if character == "#")]
        return next((case_id[:end] for end in ends if case_id[:end] in self.tests), None)


def unused_cases(stored: Iterable[str], coverage: Coverage) -> list[str]:
    """Return the ids of stored cases that the run shows to be unused, in order."""
    return sorted({case_id for case_id in stored if coverage.leaves_unused(case_id)})
