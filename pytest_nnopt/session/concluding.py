"""A case from its pair to its result: gather what is asked of it, judge that, and say what becomes of the evidence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.numbers import NumericsLevel
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.model import CheckName
from pytest_nnopt.results import CaseMessage, CaseResult
from pytest_nnopt.session.comparison import Comparison, compare_with_base
from pytest_nnopt.session.context import describe_context
from pytest_nnopt.session.explaining import explain_numbers
from pytest_nnopt.session.gathering import NOTHING, Gathered, gather_timing, hired_crew
from pytest_nnopt.session.recording import plan_recording, propose_refresh
from pytest_nnopt.session.records import record_numerics
from pytest_nnopt.torch_backend.threads import default_threads
from pytest_nnopt.verdict import Observed, judge, keep_exact_failures, name_spent_budget
from pytest_nnopt.verdict.accepted import find_worsening, judge_drift_since_best
from pytest_nnopt.verdict.forecast import expected_processes
from pytest_nnopt.verdict.revisions import is_beside_base

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import Evidence
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.verdict import Question


_THREADS_OF_MANY_CORES = 4
"""Threads that torch computes with by default where another process may import while this one compiles."""


def conclude_case(run: CaseRun, gate: Gate, case_id: str, test_id: str) -> CaseMessage:
    """Measure what is left of a case, judge it, and say what becomes of its evidence.

    A rerun of the same case in this run adds to what its earlier attempts measured: it cannot turn a failure into a
    pass by luck.

    Raises:
        BaselineError: the case's baseline cannot be relied upon.
        MeasurementError: the case could not be timed in this process.
    """
    question = gate.question(case_id, test_id, run.environment)
    earlier = gate.earlier.get(case_id)
    if gate.base is None:
        question = replace(question, work=run.work if question.wants_timing else None)
        comparison = Comparison(question, _timing(run, gate, question, test_id))
    else:
        comparison = compare_with_base(run, gate, question, test_id)
        question = comparison.question
    observed = observe_case(run, question, comparison.gathered)
    verdict = judge_drift_since_best(question, observed, judge(question, observed))
    verdict = comparison.completed(name_spent_budget(question, observed, verdict))
    verdict = explain_numbers(verdict, observed.numerics, run, gate, test_id)
    if earlier is not None:
        is_pooled = gate.base is None or is_beside_base(comparison.gathered.timing)
        verdict = keep_exact_failures(verdict, earlier.verdict, is_pooled=is_pooled)
    context = describe_context(question, observed, run.environment, *gate.recorded(case_id, run.environment))
    result = CaseResult.of(verdict, run.evidence(observed), context)
    gate.earlier[case_id] = result
    worse = find_worsening(question, observed, verdict)
    plan = plan_recording(question, result, worse=worse, reason=gate.reason)
    return CaseMessage(
        result=result,
        environment=dict(run.environment.fields),
        recording=plan.how,
        changes=plan.changes,
        refusal=plan.refusal,
        reason=plan.reason,
        starts_anew=plan.starts_anew,
        proposal=propose_refresh(question, result),
    )


def observe_case(run: CaseRun, question: Question, gathered: Gathered = NOTHING) -> Observed:
    """Look at everything else that is asked of a case, and join it with its times."""
    numerics = _numerics(run, question)
    memory = run.memory if question.wants_memory else None
    compile_time = run.compile_time if question.wants_compile_time else None
    origin = run.origin if question.is_comparing or question.is_updating else None
    recorded = None if numerics is None else NumericsLevel(record_numerics(numerics), origin)
    return Observed(
        compile=run.built.facts,
        numerics=numerics,
        recorded=recorded,
        timing=gathered.timing,
        timing_problem=gathered.problem,
        spent_budget=gathered.spent_budget,
        memory=memory,
        compile_time=compile_time,
    )


def inspect_case(run: CaseRun, gate: Gate, case_id: str, test_id: str) -> Evidence:
    """Look at everything but times, and return it as a baseline would hold it."""
    question = replace(gate.question(case_id, test_id, run.environment), is_updating=True)
    return run.evidence(observe_case(run, question))


def _numerics(run: CaseRun, question: Question) -> NumericsComparison | None:
    return run.numerics if CheckName.NUMERICS in question.asked else None


def _timing(run: CaseRun, gate: Gate, question: Question, test_id: str) -> Gathered:
    """Time the case in fresh processes, in addition to what earlier attempts in this run measured.

    This process does not count: it has compiled, compared and run other tests, and times differently from one that
    has not. Only where no process can be started is it measured instead. While this process compiles and compares,
    the first of the others is on its way, and where there are many cores that of the next test as well. While the first
    builds, this one looks at everything else, and where cores are left those expected next are on their way, too.
    """
    earlier = gate.earlier.get(question.case_id)
    timing = earlier.timing if earlier is not None else ()
    if not question.wants_timing:
        return Gathered(timing)
    if gate.launch is None:
        own = () if run.built.side is None else run.timing or run.measure_process(Plan())
        # what this process compiled counts as the run's own compilation, and not once more
        return Gathered((*timing, *(process.model_copy(update={"code": {}}) for process in own)))
    launch, environment = gate.launch, run.environment
    if run.is_shared:  # only one rank hires; numbers are compared on all of them, and all know where code is kept
        _numerics(run, question)
        _ = run.cache_root

    def gather() -> Gathered:
        with hired_crew(
            launch,
            test_id,
            question.case_id,
            environment,
            lambda: run.cache_root,
            standby=gate.standby,
            variables=gate.variables,
        ) as crew:
            crew.prepare(1)
            if default_threads() >= _THREADS_OF_MANY_CORES:
                gate.look_to_next_test(question.device)
            _numerics(run, question)
            if run.built.side is None:
                return Gathered(timing)
            crew.begin()
            crew.prepare(min(expected_processes(question, timing), default_threads()))
            gate.look_to_next_test(question.device)
            run.look_ahead(lambda: observe_case(run, question))
            with gate.spending(is_recording=question.is_updating) as budget:
                return gather_timing(crew, question, timing, budget=budget, progress=gate.progress)

    return run.by_lead(gather)
