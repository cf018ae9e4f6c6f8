"""Which recorded numbers a case may be compared with: a float64 run gives the same numbers on every machine.

So whether the reference is still the same can be asked of a recording from elsewhere. How large rounding errors are
cannot: they depend on instruction set, threads, TF32 and the kernels of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_nnopt.environment import GRAPH_FIELDS

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import LeafRecord, OriginRecord
    from pytest_nnopt.baseline.source import BaselineSource
    from pytest_nnopt.environment import Environment

VALUE_FIELDS = ("device", "torch")
"""Fields that the drawing of random numbers depends on, and so the true values of a model that draws some."""


@dataclass(frozen=True, slots=True)
class NumericsLevel:
    """Recorded numbers to compare with.

    Attributes:
        leaves: figures and samples of each leaf, by its path.
        origin: what they come from; None in a recording that does not say.
        environment: name of the environment they were recorded in, None where that is the present one.
        differences: fields that keep rounding errors from being compared, each with both values.
    """

    leaves: Mapping[str, LeafRecord] = field(default_factory=dict)
    origin: OriginRecord | None = None
    environment: str | None = None
    differences: tuple[str, ...] = ()


def foreign_numerics(
    store: BaselineSource, case_id: str, environment: Environment, required: Sequence[str] = VALUE_FIELDS
) -> NumericsLevel | None:
    """Return the recorded numbers nearest to an environment in which none were recorded.

    Args:
        store: where to look.
        case_id: id of the case.
        environment: the present one.
        required: the fields that must agree; true values may depend on all of the default.

    Returns:
        of those whose true values depend on nothing that differs, the newest that differs in the fewest fields that
        rounding depends on; None where there are none.

    Raises:
        BaselineError: a baseline of the case cannot be relied upon.
    """
    found = _comparable(store, case_id, environment, required)
    nearest = min(found, key=lambda item: (len(item[0].differences), -item[1]), default=None)
    return None if nearest is None else nearest[0]


def _comparable(
    store: BaselineSource, case_id: str, environment: Environment, required: Sequence[str]
) -> Iterator[tuple[NumericsLevel, float]]:
    """Yield the numbers of each recording of a case that may be compared, with the moment of its recording."""
    fields = tuple(dict.fromkeys((*GRAPH_FIELDS, *environment.code_fields)))
    for name in store.environments_with(case_id):
        baseline = store.read(name, case_id)
        for recording in baseline.recordings if baseline is not None else ():
            there, evidence = store.fingerprint(name, recording.environment), recording.evidence
            if not evidence.numerics or there is None or environment.differences(there, required):
                continue
            level = NumericsLevel(
                evidence.numerics, evidence.origin, name, tuple(environment.differences(there, fields))
            )
            yield level, recording.recorded.timestamp()
