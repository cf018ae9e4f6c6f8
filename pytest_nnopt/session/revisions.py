"""Two revisions of one case in one measuring process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

from pytest_nnopt.against.imports import borrowed_modules
from pytest_nnopt.against.proof import find_foreign_code
from pytest_nnopt.baseline.schema import BaseRecord, ProcessRecord, RatioRecord
from pytest_nnopt.errors import SeparationError
from pytest_nnopt.measurement.exclusive import exclusive
from pytest_nnopt.model import Block, ProcessSample, Variant
from pytest_nnopt.session.records import record_process
from pytest_nnopt.session.worker import WorkerFinished, WorkerRole
from pytest_nnopt.statistics.estimate import estimate_log_ratio
from pytest_nnopt.torch_backend.facts import device_key
from pytest_nnopt.torch_backend.isolation import isolated_compilation
from pytest_nnopt.torch_backend.pair import device_of
from pytest_nnopt.torch_backend.quiet import torch_kept_quiet
from pytest_nnopt.torch_backend.revisions import (
    REVISIONS_PLAN,
    Maker,
    Placed,
    describe_differences,
    place_revisions,
    time_revisions,
)
from pytest_nnopt.torch_backend.side_effects import ProcessState, find_patches
from pytest_nnopt.torch_backend.timing import Timed

if TYPE_CHECKING:
    from pytest_nnopt.against.imports import ModuleTables
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.measurement.engine import Plan
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.protocol import Absence
    from pytest_nnopt.torch_backend.revisions import TimedRevisions

_OWN = {Variant.BASE_REFERENCE: Variant.REFERENCE, Variant.BASE_CANDIDATE: Variant.CANDIDATE}


class RevisionsRun:
    """The measuring of one case in both revisions.

    Args:
        head: the head's case.
        base: the base's case of the same id.
        tables: put either revision's modules in place.
    """

    def __init__(self, head: CaseRun, base: CaseRun, tables: ModuleTables) -> None:
        self._cases = (head, base)
        self._makers = (_maker(head, tables.head), _maker(base, tables.base))
        self._scope = ExitStack()
        self._placed: tuple[Placed, Placed] | None = None

    @property
    def environment(self) -> Environment:
        """The fingerprint of this process on the pair's device."""
        return self._cases[0].environment

    def rehearse(self) -> None:
        """Have the compiler ready, once for both."""
        self._cases[0].rehearse()

    def prepare_timing(self, cache_dir: Path) -> None:
        """Build and compile copies of both sides of both revisions.

        Raises:
            PairError: a side cannot be built or compiled.
        """
        for case in self._cases:
            case.cache_dir = cache_dir
        with torch_kept_quiet():
            self._scope.enter_context(isolated_compilation(cache_dir=cache_dir))
            self._placed = place_revisions(*self._makers, device_of(self._cases[0].reference), SystemRandom())

    def measure_process(self, plan: Plan, turn: object = None) -> tuple[ProcessRecord, ...]:
        """Time both revisions and return the only record, the base's within the head's; there are no turns to take."""
        assert self._placed is not None
        device = device_of(self._cases[0].reference)
        plan = replace(REVISIONS_PLAN, seed=plan.seed)
        with exclusive(device_key(device)), torch_kept_quiet():
            has_cold_cache = self._cases[0].has_cold_cache
            timed = time_revisions(self._placed, *self._makers, device, plan, has_cold_cache=has_cold_cache)
        inputs, parameters = describe_differences(self._cases[0].reference, self._cases[1].reference)
        return (record_revisions(timed, inputs, parameters),)


class GuestRole:
    """What a base's test finds in a process of the head: a worker that measures both.

    Args:
        worker: the head's role.
        head: the head's case.
        tables: put either revision's modules in place; the base's are.
    """

    is_base = True

    def __init__(self, worker: WorkerRole, head: CaseRun, tables: ModuleTables) -> None:
        self.case_id = worker.case_id
        self.test: Callable[..., object] | None = None
        self._worker, self._head, self._tables = worker, head, tables
        self._state = ProcessState.read()

    @property
    def is_done(self) -> bool:
        """Whether the worker was told to stop."""
        return self._worker.is_done

    def serve(self, case: CaseRun, inspect: object = None) -> None:
        """Measure both revisions for as long as the worker is told to.

        Raises:
            WorkerFinished: always, at the end.
        """
        reason = self._find_conflict(case)
        if reason is not None:
            self._worker.refuse_when_asked(reason, needs_separation=True)
            raise WorkerFinished
        self._worker.serve(RevisionsRun(self._head, case, self._tables))

    def report_absence(self, absence: Absence) -> None:
        """Say that the base's test does not work beside the head, though it may alone."""
        if self._worker.is_serving or self._worker.is_done:
            return
        lines = absence.reason.strip().splitlines()
        what = f"the base's test does not run beside the head's: {lines[-1] if lines else absence.kind}"
        self._worker.refuse_when_asked(what, needs_separation=True)

    def _find_conflict(self, case: CaseRun) -> str | None:
        trees, borrowed = self._tables.trees, self._tables.borrowed
        foreign = find_foreign_code(trees, case.model, borrowed=borrowed, test=self.test)
        if foreign is not None:
            return foreign
        is_own = partial(_is_in, (trees.head, trees.base))
        conflicts = [*self._tables.refused, *self._state.conflicts(ProcessState.read()), *find_patches(is_own)]
        return "; ".join(conflicts) or None


def prove_base(worker: WorkerRole, case: CaseRun) -> None:
    """Make sure that a process which runs the base alone runs the base.

    Raises:
        SeparationError: some of the code is not the base's.
    """
    assert worker.base is not None
    foreign = find_foreign_code(worker.base, case.model, borrowed=borrowed_modules(), test=worker.test)
    if foreign is not None:
        raise SeparationError(f"{foreign}; the head would be compared with itself")


def _maker(case: CaseRun, active: Callable[[], contextlib.AbstractContextManager[None]]) -> Maker:
    return Maker(case.another_reference, case.another_candidate, active)


def record_revisions(
    timed: TimedRevisions, inputs: tuple[str, ...] = (), parameters: tuple[str, ...] = ()
) -> ProcessRecord:
    """Summarise one process's blocks of two revisions: the head's record, with the base's and head over base in it.

    Args:
        timed: what was measured, with ``REVISIONS_PLAN`` in a run.
        inputs: how the inputs differ.
        parameters: how parameters and buffers differ.
    """
    sample = timed.head.sample
    blocks = tuple(Block({own: block.seconds_per_call[of] for of, own in _OWN.items()}) for block in sample.blocks)
    calls = {own: sample.calls_per_block[of] for of, own in _OWN.items()}
    base = Timed(replace(sample, blocks=blocks, calls_per_block=calls), (), timed.base_device)
    record = BaseRecord(
        candidate=_ratio(sample, Variant.CANDIDATE, Variant.BASE_CANDIDATE),
        reference=_ratio(sample, Variant.REFERENCE, Variant.BASE_REFERENCE),
        process=record_process(base),
        inputs=inputs,
        parameters=parameters,
    )
    return record_process(timed.head).model_copy(update={"base": record})


def _ratio(sample: ProcessSample, head: Variant, base: Variant) -> RatioRecord:
    estimate = estimate_log_ratio(sample.seconds(head), sample.seconds(base))
    return RatioRecord(log_ratio=estimate.log_ratio, variance=estimate.variance, blocks=estimate.blocks)


def _is_in(trees: tuple[Path, ...], file: str) -> bool:
    return any(Path(file).is_relative_to(tree) for tree in trees)
