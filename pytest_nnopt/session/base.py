"""The base of a comparison: where it lies, what it is called, and how its tests are run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_nnopt.against.arguments import base_arguments, base_directory

if TYPE_CHECKING:
    from pytest_nnopt.against.worktree import Trees
    from pytest_nnopt.session.processes import Launch

Mode = Literal["auto", "process", "pair"]

WORKER_BASE_OPTION = "--nnopt-worker-base"
WORKER_HEAD_OPTION = "--nnopt-worker-head"
WORKER_IS_BASE_OPTION = "--nnopt-worker-is-base"
WORKER_LIST_OPTION = "--nnopt-worker-list"


@dataclass(frozen=True, slots=True)
class Base:
    """The base of a comparison.

    Attributes:
        trees: where both revisions lie.
        description: the base in words.
        root: pytest's rootdir of the head.
        mode: whether both revisions share a process, each has its own, or sharing is tried first.
    """

    trees: Trees
    description: str
    root: Path
    mode: Mode = "auto"

    def launch_beside(self, launch: Launch) -> Launch:
        """Return how to start a process of the head that runs the base as well."""
        return replace(launch, arguments=(*launch.arguments, *self._places))

    def launch_alone(self, launch: Launch) -> Launch:
        """Return how to start a process that runs the base alone."""
        arguments = (*base_arguments(self.trees, launch.arguments), *self._places, WORKER_IS_BASE_OPTION)
        program = ("-m", "pytest_nnopt.against.launch", str(self.trees.head), str(self.trees.base))
        return replace(
            launch,
            arguments=arguments,
            directory=base_directory(self.trees, launch.directory),
            program=program,
            prefix=f"{self.trees.to_base(self.root.resolve())}/",
        )

    @property
    def _places(self) -> tuple[str, str]:
        return f"{WORKER_HEAD_OPTION}={self.trees.head}", f"{WORKER_BASE_OPTION}={self.trees.base}"
