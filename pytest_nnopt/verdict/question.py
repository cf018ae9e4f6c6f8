"""What a case is asked and what was seen of it: all that a verdict is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.compilation import CompileLevel, generated_code
from pytest_nnopt.baseline.numbers import NumericsLevel
from pytest_nnopt.model import Check, CheckName, CompileFacts, CompileTime, Outcome

if TYPE_CHECKING:
    from pytest_nnopt.baseline.elsewhere import Elsewhere
    from pytest_nnopt.baseline.imported import ImportedTime
    from pytest_nnopt.baseline.schema import Evidence, MemoryRecord, ProcessRecord, Recording, WorkRecord
    from pytest_nnopt.config import CaseConfig
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.statistics.prior import VariancePrior
    from pytest_nnopt.statistics.sequential import SequentialPlan


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a case; a part that was not asked for is None or empty.

    Attributes:
        compile: how the candidate was compiled.
        numerics: how far its numbers are from the reference's.
        recorded: those numbers as a baseline would hold them.
        timing: what each process measured.
        timing_problem: why timing ended early: a process that died, hung or refused. It fails the checks of times.
        spent_budget: the name of the budget that ended while more processes were wanted.
        memory: bytes per call of both sides.
        compile_time: what compiling the candidate costs.
    """

    compile: CompileFacts
    numerics: NumericsComparison | None = None
    timing: tuple[ProcessRecord, ...] = ()
    timing_problem: str | None = None
    spent_budget: str | None = None
    memory: MemoryRecord | None = None
    compile_time: CompileTime | None = None
    recorded: NumericsLevel | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What a case is asked, and against what.

    Attributes:
        case_id: id of the case.
        config: the case's limits and tolerances.
        device: type of the device as torch names it, such as ``cpu`` or ``cuda``.
        asked: the checks to answer.
        prior: what is believed about the variance between processes, of times relative to eager's.
        absolute_prior: the same of times relative to the fixed workload's.
        plan: when the timing decisions look at the evidence, and how rarely they may err.
        recorded_processes: how many processes a recording is to hold; 0 where nothing is recorded.
        is_comparing: whether a baseline is to be compared with.
        is_updating: whether the evidence is to become part of the baseline.
        baseline: the level to compare with; None where there is none.
        missing_reason: why there is no baseline, with the remedy.
        unused: which recordings there are that are not compared with, and why; empty where there are none.
        foreign_compilation: where the baseline holds no compilation, one recorded elsewhere whose counters may be
            compared with.
        foreign_numerics: where the baseline holds no numbers, ones recorded elsewhere.
        foreign_times: where the baseline of another environment serves for times, that level; ``baseline`` holds them.
        foreign_memory: where the baseline holds no memory, a level recorded elsewhere that does.
        anchor: the best level that was accepted, where the present one is another.
        imported: what another tool recorded of it, where there is no level; it decides nothing.
        takes_no_excuse: whether times are compared as if the machine were what it was, and chance had no part in which
            kernels are generated and how they are launched, so that nothing worse is accepted for the doubt's sake.
        is_recording_missing: whether a missing baseline is recorded now instead of failing the case.
        work: what the reference does now, where times are asked for.
        base: the revision that is compared with, in words; None where the baseline is a stored one.
        best: the best accepted level in words, where ``baseline`` is that one and not the present one.
    """

    case_id: str
    config: CaseConfig
    device: str
    asked: frozenset[CheckName]
    prior: VariancePrior
    absolute_prior: VariancePrior
    plan: SequentialPlan
    recorded_processes: int = 0
    is_comparing: bool = False
    is_updating: bool = False
    baseline: Evidence | None = None
    missing_reason: str = ""
    unused: str = ""
    is_recording_missing: bool = False
    work: WorkRecord | None = None
    base: str | None = None
    best: str | None = None
    foreign_compilation: CompileLevel | None = None
    foreign_numerics: NumericsLevel | None = None
    foreign_times: Elsewhere | None = None
    foreign_memory: Elsewhere | None = None
    anchor: Recording | None = None
    imported: ImportedTime | None = None
    takes_no_excuse: bool = False

    @property
    def compilation(self) -> CompileLevel | None:
        """The recorded compilation to compare counters with; None where there is none or none is to be compared."""
        if not self.is_comparing:
            return None
        if self.baseline is not None and self.baseline.compile is not None:
            return CompileLevel(self.baseline.compile, further=generated_code(self.baseline.timing))
        return self.foreign_compilation

    @property
    def numerics(self) -> NumericsLevel | None:
        """The recorded numbers to compare with; None where there are none or none are to be compared."""
        if not self.is_comparing:
            return None
        if self.baseline is not None and self.baseline.numerics:
            return NumericsLevel(self.baseline.numerics, self.baseline.origin)
        return self.foreign_numerics

    @property
    def heeds_shift(self) -> bool:
        """Whether a ratio of two times is doubted where the machine has moved since the baseline.

        Another revision has met the same machine.
        """
        return self.heeds_host and not self.base

    @property
    def heeds_host(self) -> bool:
        """Whether a slower host is no slowdown of what waits for it; of times recorded elsewhere nobody can tell."""
        return not self.takes_no_excuse and self.foreign_times is None

    @property
    def level_name(self) -> str:
        """What is compared with, in words."""
        return self.base or self.best or "the baseline"

    @property
    def changed_work(self) -> tuple[str, ...]:
        """What the reference does that it did not do in the baseline, or the other way round; empty where unknown."""
        before = self.baseline.work if self.baseline is not None else None
        if self.work is None or before is None or self.work == before:
            return ()
        names = sorted({*self.work.operators, *before.operators})
        counts = [(name, before.operators.get(name, 0), self.work.operators.get(name, 0)) for name in names]
        changes = [f"{name} {old} → {new}" for name, old, new in counts if old != new]
        return tuple(changes) or (f"tensor elements {before.elements} → {self.work.elements}",)

    @property
    def is_comparable_beside(self) -> bool:
        """Whether another revision, measured in the same run, may tell what a baseline of another model does not.

        It runs no ranks, and takes the same inputs.
        """
        before = self.baseline.work if self.baseline is not None else None
        if self.work is None or before is None or self.config.ranks.count is not None:
            return False
        return self.work.operators != before.operators

    @property
    def latency_limit(self) -> float:
        """The declared tolerated slowdown, or the device's default."""
        return self.config.limits.latency_on(self.device)

    @property
    def wants_timing(self) -> bool:
        """Whether times are needed: for a declared speedup, a comparison of latency, or a recording."""
        return (CheckName.SPEEDUP in self.asked and self.config.speedup.min is not None) or (
            self._is_comparing_times and (self.is_comparing or self.is_updating)
        )

    @property
    def wants_memory(self) -> bool:
        """Whether memory is to be measured: for a comparison or a recording."""
        return CheckName.MEMORY in self.asked and (self.is_comparing or self.is_updating)

    @property
    def wants_compile_time(self) -> bool:
        """Whether compiling is to be timed warm and its work counted: for a comparison or a recording."""
        return CheckName.COMPILE_TIME in self.asked and (self.is_comparing or self.is_updating)

    @property
    def _is_comparing_times(self) -> bool:
        is_on_gpu = CheckName.DEVICE_TIME in self.asked and self.device == "cuda"
        return CheckName.LATENCY in self.asked or is_on_gpu


def without_baseline(question: Question, name: CheckName, limit: float | None) -> Check:
    """Return the answer to a comparison that has nothing to compare with."""
    if question.is_recording_missing:
        known = f" ({question.unused})" if question.unused else ""
        reason = f"there was no baseline to compare with{known}; this run records it"
        return Check(name, Outcome.SKIPPED, reason, limit=limit)
    return Check(name, Outcome.NO_BASELINE, question.missing_reason, limit=limit)


def without_part(question: Question, name: CheckName, limit: float, part: object, what: str) -> Check | None:
    """Return the check of a figure that the baseline lacks, None where it has it."""
    if question.baseline is None or (part is None and question.foreign_times is not None):
        return without_baseline(question, name, limit)
    if part is None:
        remedy = "" if question.base else "; record it with pytest --nnopt-update"
        return Check(name, Outcome.NO_BASELINE, f"{question.level_name} holds no {what}{remedy}", limit=limit)
    return None
