"""Compare a case with the base's, measured in the same run: its evidence becomes the baseline, its times run beside."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError, SeparationError
from pytest_nnopt.files import temporary_directory
from pytest_nnopt.measurement.exclusive import exclusive
from pytest_nnopt.model import Check, CheckName, CompileStatus, Outcome, Verdict
from pytest_nnopt.session.gathering import ASSURED_PROCESSES, NOTHING, Gathered, Looks, gather_timing, hired_crew
from pytest_nnopt.session.processes import MeasuringProcess, ProcessEndedError, measure_in_turns
from pytest_nnopt.session.protocol import Absence
from pytest_nnopt.torch_backend.facts import device_key
from pytest_nnopt.torch_backend.pair import device_of
from pytest_nnopt.verdict.revisions import processes_of_base

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.session.base import Base
    from pytest_nnopt.session.budget import Budget
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.crew import Crew
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.session.processes import Launch
    from pytest_nnopt.session.protocol import Inspected
    from pytest_nnopt.verdict import Question


_PYTEST_CANNOT_START = 4
"""Pytest's status where a conftest file cannot be imported, or an option or setting is unknown."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a case is asked once its base is known, and the times of both.

    Attributes:
        question: with the base's evidence as the baseline.
        gathered: what the head's processes measured.
        checks: answers that need no judging: why the base could not be compared with.
        note: how times were compared where that was not as asked.
    """

    question: Question
    gathered: Gathered = NOTHING
    checks: tuple[Check, ...] = ()
    note: str | None = None

    def completed(self, verdict: Verdict) -> Verdict:
        """Return the verdict with what was answered before it, and the note where times are judged."""
        checks = verdict.checks
        if self.note is not None:
            checks = tuple(
                replace(check, details=(*check.details, self.note)) if check.name is CheckName.LATENCY else check
                for check in checks
            )
        return Verdict(verdict.case_id, (*checks, *self.checks))


def compare_with_base(run: CaseRun, gate: Gate, question: Question, test_id: str) -> Comparison:
    """Look at the base's case in a process of its own, then time both as its mode says."""
    base, launch = gate.base, gate.launch
    assert base is not None
    if launch is None:
        return _unanswered(question, Outcome.FAILED, "no measuring process can be started to run the base in")
    question = replace(question, base=base.description)
    try:
        found = _inspect(run, gate, base, question, test_id)
    except ProcessEndedError as error:
        if error.status == _PYTEST_CANNOT_START:
            return _absent(question, base, Absence(kind="unimportable", reason=str(error)))
        return _broken(question, base, str(error))
    except MeasurementError as error:
        return _broken(question, base, str(error))
    if found.absence is not None or found.evidence is None:
        return _absent(question, base, found.absence)
    question = replace(question, is_comparing=True, baseline=found.evidence)
    compilation = found.evidence.compile
    if compilation is not None and compilation.status == CompileStatus.FAILED.value:
        return _unanswered(question, Outcome.INCONCLUSIVE, f"the model cannot be compiled in {base.description}")
    if not question.wants_timing or run.built.side is None:
        return Comparison(question)
    return _Timing(run, gate, base, launch, question, test_id).compare()


def _inspect(run: CaseRun, gate: Gate, base: Base, question: Question, test_id: str) -> Inspected:
    """Have the base looked at; while its process imports, this one looks at the head."""
    assert gate.launch is not None
    with ExitStack() as stack:
        cache_dir = stack.enter_context(temporary_directory())
        launch = base.launch_alone(gate.launch)
        process = stack.enter_context(MeasuringProcess(launch, test_id, variables=gate.variables))
        process.enter(question.case_id)
        if CheckName.NUMERICS in question.asked:
            _ = run.numerics
        return process.inspect(cache_dir)


@dataclass(frozen=True)
class _Timing:
    """The times of one case in both revisions."""

    run: CaseRun
    gate: Gate
    base: Base
    launch: Launch
    question: Question
    test_id: str

    def compare(self) -> Comparison:
        """Time both in one process where that works and is not forbidden, else in two."""
        if self.base.mode == "pair":
            return self._in_two("each revision had processes of its own, as --nnopt-against-mode=pair asks")
        try:
            return self._in_one()
        except SeparationError as error:
            if self.base.mode == "process":
                return _unanswered(self.question, Outcome.FAILED, f"one process cannot run both revisions: {error}")
            return self._in_two(f"each revision had processes of its own, because {error}")

    def _in_one(self) -> Comparison:
        earlier = self.gate.earlier.get(self.question.case_id)
        timing = earlier.timing if earlier is not None and all(one.base for one in earlier.timing) else ()
        crew_beside = self._crew(self.base.launch_beside(self.launch), lambda: self.run.cache_dir)
        with crew_beside as crew, self.gate.spending() as budget:
            gathered = gather_timing(crew, self.question, timing, budget=budget, progress=self.gate.progress)
        return Comparison(self._against(tuple(processes_of_base(gathered.timing))), gathered)

    def _in_two(self, note: str) -> Comparison:
        note += "; two processes differ more than two revisions in one, so the smallest change it finds is larger"
        with ExitStack() as stack:
            cache_dir = stack.enter_context(temporary_directory())
            crews = (
                stack.enter_context(self._crew(self.launch, lambda: self.run.cache_dir)),
                stack.enter_context(self._crew(self.base.launch_alone(self.launch), lambda: cache_dir)),
            )
            budget = stack.enter_context(self.gate.spending())
            gathered, before = self._gather_pairs(crews, budget)
        return Comparison(self._against(before), gathered, note=note)

    def _gather_pairs(
        self, crews: tuple[Crew, Crew], budget: Budget, now: Callable[[], float] = time.monotonic
    ) -> tuple[Gathered, tuple[ProcessRecord, ...]]:
        """Let pairs of processes of the head and the base measure, each in the other order than the one before."""
        deadline = now() + budget.seconds
        samples: tuple[tuple[ProcessRecord, ...], tuple[ProcessRecord, ...]] = ((), ())
        looks = Looks()
        try:
            while looks.wanted(self._against(samples[1]), samples[0]) > len(samples[0]):
                done = len(samples[0])
                if done >= ASSURED_PROCESSES and now() >= deadline:
                    return Gathered(samples[0], spent_budget=budget.name), samples[1]
                head, base = self._measure_pair(crews, done)
                samples = (*samples[0], head), (*samples[1], base)
        except MeasurementError as error:
            return Gathered(samples[0], problem=str(error)), samples[1]
        return Gathered(samples[0]), samples[1]

    def _measure_pair(self, crews: tuple[Crew, Crew], number: int) -> tuple[ProcessRecord, ProcessRecord]:
        """Let a process of each revision measure, block by block in turn.

        On a GPU one measures after the other, since its memory may not hold both.
        """
        order = (0, 1) if number % 2 == 0 else (1, 0)
        device = device_of(self.run.reference)
        if device.type != "cpu":
            alone = {side: crews[side].sample(seed=number) for side in order}
            return alone[0], alone[1]
        with crews[order[0]].one() as first, crews[order[1]].one() as second, exclusive(device_key(device)):
            taken = dict(zip(order, measure_in_turns((first, second), number), strict=True))
        return taken[0], taken[1]

    def _against(self, timing: tuple[ProcessRecord, ...]) -> Question:
        evidence = self.question.baseline
        assert evidence is not None
        return replace(self.question, baseline=evidence.model_copy(update={"timing": timing}))

    def _crew(self, launch: Launch, cache_dir: Callable[[], Path]) -> AbstractContextManager[Crew]:
        return hired_crew(
            launch,
            self.test_id,
            self.question.case_id,
            self.run.environment,
            cache_dir,
            variables=self.gate.variables,
        )


def _broken(question: Question, base: Base, problem: str) -> Comparison:
    summary, *details = problem.splitlines()
    return _unanswered(question, Outcome.FAILED, f"{base.description} cannot be measured: {summary}", tuple(details))


def _absent(question: Question, base: Base, absence: Absence | None) -> Comparison:
    """Answer for a case that the base does not have: a new one is held against absolute checks alone."""
    kind = "missing" if absence is None else absence.kind
    outcome, what = _ABSENCES[kind]
    details = () if absence is None or kind == "missing" else tuple(absence.reason.strip().splitlines())
    last = details[-1].removeprefix("E").strip() if details and outcome is Outcome.INCONCLUSIVE else ""
    return _unanswered(question, outcome, what.format(base=base.description) + (last and f" ({last})"), details)


_ABSENCES = {
    "missing": (Outcome.SKIPPED, "the test is new, {base} does not have it: only absolute checks are made"),
    "unused": (
        Outcome.SKIPPED,
        "the test of {base} does not hand over this case to model_pair: only absolute checks are made; the head's test "
        "files can be used on the base's package with --nnopt-against-tests=head",
    ),
    "unimportable": (Outcome.INCONCLUSIVE, "the test cannot be imported in {base}: there is nothing to compare with"),
    "failing": (Outcome.INCONCLUSIVE, "the test fails in {base}: there is nothing to compare with"),
}


_REMEDY = "mend what is named above, or compare with another revision"


def _unanswered(question: Question, outcome: Outcome, reason: str, details: tuple[str, ...] = ()) -> Comparison:
    """Answer the question of latency, which stands for the whole comparison; absolute checks are made all the same."""
    check = Check(CheckName.LATENCY, outcome, reason, details=details, remedy=_REMEDY)
    return Comparison(replace(question, is_comparing=False), checks=(check,))
