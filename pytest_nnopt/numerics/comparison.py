"""The result of a comparison: one value a leaf, and the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_nnopt.numerics.leaves import LeafKind
    from pytest_nnopt.numerics.locate import Located
    from pytest_nnopt.numerics.summary import ErrorFigures, LeafSummary


class Lane(str, Enum):
    """What a leaf is held against."""

    DECLARED = "declared"
    FLOAT64 = "float64"
    DTYPE = "dtype"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class LeafComparison:
    """How one leaf of the candidate compares with the reference's.

    Attributes:
        path: how the leaf is reached.
        kind: what it is to the model.
        dtype: the candidate's dtype; ``constant`` for a leaf that is no array.
        shape: the candidate's shape.
        lane: what it was held against.
        problem: what is wrong, as one clause; None if nothing is.
        excess: the worst error as a multiple of its limit; above 1, and infinite for what must match exactly, it fails.
        candidate: errors of the candidate against the truth.
        reference: errors of the reference against the truth.
        limits: the largest figures the candidate may have.
        located: which elements are off; None if that was not looked for, because the leaf is within its limits.
        note: what else there is to know: why no float64 run served, or that the reference itself is far from it.
        summary: what a baseline keeps; None where the leaf could not be measured.
    """

    path: str
    kind: LeafKind
    dtype: str
    shape: tuple[int, ...]
    lane: Lane
    problem: str | None = None
    excess: float = 0.0
    candidate: ErrorFigures | None = None
    reference: ErrorFigures | None = None
    limits: ErrorFigures | None = None
    located: Located | None = None
    note: str | None = None
    summary: LeafSummary | None = None

    @property
    def is_within(self) -> bool:
        """Whether nothing is wrong with the leaf."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class NumericsComparison:
    """How everything a candidate did compares with what its reference did.

    Attributes:
        leaves: one comparison a leaf, in the reference's order.
        lane: what floating leaves were held against in general; single leaves may differ and say so.
        lane_reason: why this lane.
        not_compared: what exists on one side only, because the two sides are built differently.
        notes: further sentences for people.
        seeds: seed of the runs on each kind of further inputs by name, that of the pair's own under ``own``.
    """

    leaves: tuple[LeafComparison, ...]
    lane: Lane
    lane_reason: str
    not_compared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seeds: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_within(self) -> bool:
        """Whether every leaf that was compared is within its limits."""
        return all(leaf.is_within for leaf in self.leaves)

    @property
    def worst(self) -> LeafComparison | None:
        """The leaf furthest beyond, or closest to, its limits; the first of several."""
        return max(self.leaves, key=lambda leaf: (not leaf.is_within, leaf.excess), default=None)

    def summary(self) -> tuple[LeafSummary, ...]:
        """Return what a baseline keeps of every measured leaf."""
        return tuple(leaf.summary for leaf in self.leaves if leaf.summary is not None)
