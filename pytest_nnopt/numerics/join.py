"""Several comparisons of one pair, on different inputs, as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.numerics.comparison import Lane, NumericsComparison

if TYPE_CHECKING:
    from pytest_nnopt.numerics.comparison import LeafComparison


def join_comparisons(own: NumericsComparison, further: Mapping[str, NumericsComparison]) -> NumericsComparison:
    """Join the comparison on a pair's own inputs with those on further ones.

    Args:
        own: the comparison whose lane and leaves' paths stay as they are.
        further: comparisons by the name that is put before their leaves' paths.
    """
    leaves = [*own.leaves, *(_named(name, leaf) for name, other in further.items() for leaf in other.leaves)]
    not_compared = dict.fromkeys(what for part in (own, *further.values()) for what in part.not_compared)
    notes = dict.fromkeys(note for part in (own, *further.values()) for note in part.notes)
    return replace(own, leaves=tuple(leaves), not_compared=tuple(not_compared), notes=tuple(notes))


def nothing_compared(note: str) -> NumericsComparison:
    """Return the comparison of a run that was left out, with the reason."""
    return NumericsComparison((), Lane.EXACT, note, notes=(note,))


def _named(name: str, leaf: LeafComparison) -> LeafComparison:
    path = f"{name}.{leaf.path}"
    summary = None if leaf.summary is None else replace(leaf.summary, path=path)
    return replace(leaf, path=path, summary=summary)
