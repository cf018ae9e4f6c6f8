"""Join the results files of a run that was spread over several jobs, and say what of it is missing or does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from pytest_nnopt.environment import DECISIVE_FIELDS
from pytest_nnopt.results import PartRecord, RunResults, case_environment

if TYPE_CHECKING:
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.results import CaseResult

_SET_BY_TESTS = ("threads", "matmul_precision", "deterministic", "compiler_settings")
"""Decisive fields that may differ between cases of one run: a test can set them."""

_MACHINE_FIELDS = tuple(name for name in DECISIVE_FIELDS if name not in _SET_BY_TESTS)


@dataclass(frozen=True, slots=True)
class Part:
    """One results file on its way into a merged one."""

    name: str
    results: RunResults


@dataclass(frozen=True, slots=True)
class _Place:
    """A case, where it was measured, and the file it comes from."""

    name: str
    case: CaseResult
    environment: Environment


def merge_results(parts: Sequence[Part], *, shards: int | None = None, is_mixed: bool = False) -> RunResults:
    """Join results files; what is missing or does not fit is a problem of what is returned.

    Of a case that is there twice, the worse result is kept.

    Args:
        parts: the files with their names.
        shards: how many files there must be, where they do not say it.
        is_mixed: whether the same cases may come from different environments, as from a matrix of machines.
    """
    places = [place for part in parts for place in _places(part)]
    records = tuple(record for part in parts for record in _records(part))
    kept = _without_doubles(places)
    conflicts = (
        *(conflict for part in parts for conflict in part.results.conflicts),
        *_unlabelled(records, shards),
        *_doubled_shards(records),
        *_different_revisions(records),
        *([] if is_mixed else _different_environments(places)),
        *_doubled_cases(places),
        *([] if places else ["no file holds a case"]),
    )
    environment = next((dict(part.results.environment) for part in parts if part.results.environment), {})
    return RunResults(
        environment=environment,
        cases=tuple(place.case for place in kept),
        revision=next((record.revision for record in records if record.revision is not None), None),
        parts=records,
        conflicts=tuple(dict.fromkeys(conflicts)),
    )


def _places(part: Part) -> list[_Place]:
    return [
        _Place(part.name, case, case_environment(part.results, index)) for index, case in enumerate(part.results.cases)
    ]


def _records(part: Part) -> tuple[PartRecord, ...]:
    """Return what a file says of itself, or of the files that it was merged from."""
    results = part.results
    if results.parts:
        return results.parts
    return (PartRecord(name=part.name, shard=results.shard, revision=results.revision, cases=len(results.cases)),)


def _without_doubles(places: Sequence[_Place]) -> list[_Place]:
    """Return each case of each environment once, its worst result, in the order of ids."""
    kept: dict[tuple[str, str], _Place] = {}
    for place in places:
        key = place.case.id, place.environment.digest
        if key not in kept or place.case.outcome.severity > kept[key].case.outcome.severity:
            kept[key] = place
    return [kept[key] for key in sorted(kept)]


def _unlabelled(records: Sequence[PartRecord], shards: int | None) -> Iterator[str]:
    """Name files that do not say which shard they are, where others do or a number of shards is asked for."""
    without = [record.name for record in records if record.shard is None]
    labelled = [record.shard.count for record in records if record.shard is not None]
    if without and labelled:
        yield f"{', '.join(without)} does not say which shard it is; run each job with --nnopt-shard=I/N"
    if shards is None:
        return
    if labelled and max(labelled) != shards:
        yield f"{shards} shards are asked for, the files say that there are {max(labelled)}"
    if not labelled and len(records) != shards:
        yield f"{shards} shards are asked for, {len(records)} files are there, and none says which shard it is"


def _doubled_shards(records: Sequence[PartRecord]) -> Iterator[str]:
    names: dict[tuple[int, int], list[str]] = {}
    for record in records:
        if record.shard is not None:
            names.setdefault((record.shard.index, record.shard.count), []).append(record.name)
    for (index, count), files in names.items():
        if len(files) > 1:
            yield f"shard {index} of {count} is there {len(files)} times: {', '.join(files)}"


def _different_revisions(records: Sequence[PartRecord]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for record in records:
        if record.revision is not None:
            names.setdefault(record.revision, []).append(record.name)
    if len(names) > 1:
        said = "; ".join(f"{revision} in {', '.join(files)}" for revision, files in names.items())
        yield f"results of different revisions: {said}"


def _different_environments(places: Sequence[_Place]) -> Iterator[str]:
    """Name each machine that differs from the first one with a device of its type."""
    first: dict[object, _Place] = {}
    for place in places:
        before = first.setdefault(place.environment.fields.get("device"), place)
        differences = place.environment.differences(before.environment, _MACHINE_FIELDS)
        if differences and before.name != place.name:
            yield (
                f"results of different environments: {place.name} differs from {before.name} in "
                f"{'; '.join(differences)}; if that is meant, give --mixed"
            )


def _doubled_cases(places: Sequence[_Place]) -> Iterator[str]:
    """Name cases that several files hold in one environment, except where the results are the very same."""
    found: dict[tuple[str, str], list[_Place]] = {}
    for place in places:
        found.setdefault((place.case.id, place.environment.digest), []).append(place)
    for (case_id, _), doubles in found.items():
        if any(one.case != other.case for one, other in combinations(doubles, 2)):
            outcomes = ", ".join(f"{place.case.outcome.value} in {place.name}" for place in doubles)
            yield f"{case_id} is there {len(doubles)} times: {outcomes}; the worst is kept"
