"""What a gate reads baselines from: the files of a project, or something that is read as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CaseBaseline
    from pytest_nnopt.environment import Environment


class BaselineSource(Protocol):
    """Baselines by environment and case. Every method raises ``BaselineError`` where one cannot be relied upon."""

    @property
    def name(self) -> str:
        """Where the baselines are, in words."""
        ...

    @property
    def remedy(self) -> str:
        """What to do about a missing one."""
        ...

    def verify(
        self, test_ids: Iterable[str] | None = None, *, learn: Callable[[str, CaseBaseline], None] | None = None
    ) -> None:
        """Find out whether the baselines of these tests, or all, can be relied upon, before anything is measured.

        Whoever wants to ``learn`` from them is told each, with the name of its environment, and need not read it again.
        """
        ...

    def read(self, environment_name: str, case_id: str) -> CaseBaseline | None:
        """Return a case's baseline, or None where there is none."""
        ...

    def read_all(self, environment_name: str) -> Iterable[CaseBaseline]:
        """Read every baseline of an environment."""
        ...

    def cases(self, environment_name: str) -> list[str]:
        """Name the cases that have a baseline in an environment."""
        ...

    def fingerprint(self, environment_name: str, digest: str) -> Environment | None:
        """Return a recorded fingerprint, or None where it is unknown."""
        ...

    def environments(self) -> list[str]:
        """Name the environments that there are."""
        ...

    def environments_with(self, case_id: str) -> list[str]:
        """Name the environments in which a case has a baseline."""
        ...
