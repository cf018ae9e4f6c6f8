"""A level recorded in another environment, for figures that may be compared across them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.level import level_of

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import Evidence, Recording
    from pytest_nnopt.baseline.source import BaselineSource
    from pytest_nnopt.environment import Environment


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A level of another environment.

    Attributes:
        evidence: the level.
        environment: the environment's name.
        differences: its decisive fields that differ, each with both values.
    """

    evidence: Evidence
    environment: str
    differences: tuple[str, ...]

    @property
    def description(self) -> str:
        """Where the figures come from, in words."""
        return f"compared with the baseline of {self.environment!r} ({'; '.join(self.differences)})"


def level_elsewhere(
    store: BaselineSource,
    case_id: str,
    environment: Environment,
    required: Sequence[str],
    has_part: Callable[[Evidence], object],
) -> Elsewhere | None:
    """Return the level of a case nearest to an environment in which none was recorded.

    Args:
        store: where to look.
        case_id: id of the case.
        environment: the present one.
        required: the fields that must agree.
        has_part: whether a level holds what is wanted.

    Returns:
        of the levels that may be compared with, the newest of those that differ in the fewest fields; or None.

    Raises:
        BaselineError: a baseline of the case cannot be relied upon.
    """
    found = [item for item in _levels(store, case_id, environment, required) if has_part(item[0].evidence)]
    nearest = min(found, key=lambda item: (len(item[0].differences), -item[1]), default=None)
    return None if nearest is None else nearest[0]


def _levels(
    store: BaselineSource, case_id: str, environment: Environment, required: Sequence[str]
) -> Iterator[tuple[Elsewhere, float]]:
    """Yield each level of other environments that agrees in the required fields, with the moment of its recording."""
    for name in store.environments_with(case_id):
        baseline = store.read(name, case_id)
        grouped: dict[str, list[Recording]] = {}
        for recording in baseline.recordings if baseline is not None else ():
            grouped.setdefault(recording.environment, []).append(recording)
        for digest, recordings in grouped.items():
            there, level = store.fingerprint(name, digest), level_of(recordings)
            if there is None or level is None or environment.differences(there, required):
                continue
            moment = recordings[-1].recorded.timestamp()
            yield Elsewhere(level, name, tuple(environment.differences(there))), moment
