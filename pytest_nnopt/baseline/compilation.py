"""Which recorded compilation a case's counters may be compared with: exact figures outlive a change of machine.

Counters of captured graphs depend on torch and its settings, not on how fast a machine is, so a laptop can hold itself
against what a server recorded. Figures of generated code depend on the instruction set or the GPU as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.environment import GRAPH_FIELDS

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, ProcessRecord
    from pytest_nnopt.baseline.source import BaselineSource
    from pytest_nnopt.environment import Environment


@dataclass(frozen=True, slots=True)
class CompileLevel:
    """A recorded compilation to compare with.

    Attributes:
        record: its figures.
        environment: name of the environment it was recorded in, None where that is the present one.
        code_differences: fields that keep generated code from being compared, each with both values.
        further: figures of generated code, by name, of further compilations of the same, which may differ by chance.
    """

    record: CompileRecord
    environment: str | None = None
    code_differences: tuple[str, ...] = ()
    further: tuple[Mapping[str, int], ...] = ()


def generated_code(processes: Iterable[ProcessRecord]) -> tuple[Mapping[str, int], ...]:
    """Return the figures of the code of each process that compiled anew."""
    return tuple(process.code for process in processes if process.code)


def foreign_compilation(
    store: BaselineSource, case_id: str, environment: Environment, required: Sequence[str] = GRAPH_FIELDS
) -> CompileLevel | None:
    """Return the recorded compilation nearest to an environment in which none was recorded.

    Args:
        store: where to look.
        case_id: id of the case.
        environment: the present one.
        required: the fields that must agree; captured graphs depend on all of the default.

    Returns:
        of those whose graphs depend on nothing that differs, the newest whose generated code differs in the fewest
        fields; None where there is none.

    Raises:
        BaselineError: a baseline of the case cannot be relied upon.
    """
    found = _comparable(store, case_id, environment, required)
    nearest = min(found, key=lambda item: (len(item[0].code_differences), -item[1]), default=None)
    return None if nearest is None else nearest[0]


def _comparable(
    store: BaselineSource, case_id: str, environment: Environment, required: Sequence[str]
) -> Iterator[tuple[CompileLevel, float]]:
    """Yield each compilation of a case whose graphs may be compared, with the moment of its recording."""
    for name in store.environments_with(case_id):
        baseline = store.read(name, case_id)
        recordings = baseline.recordings if baseline is not None else ()
        for recording in recordings:
            there, record = store.fingerprint(name, recording.environment), recording.evidence.compile
            if record is None or there is None or environment.differences(there, required):
                continue
            code = tuple(environment.differences(there, environment.code_fields))
            alike = (one.evidence for one in recordings if one.environment == recording.environment)
            further = generated_code(process for evidence in alike for process in evidence.timing)
            yield CompileLevel(record, name, code, further), recording.recorded.timestamp()
