from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.baseline.elsewhere import Elsewhere
from pytest_nnopt.baseline.schema import Evidence, KernelRecord, MemoryRecord, ProcessRecord
from pytest_nnopt.model import (
    Check,
    CheckName,
    CompileAttempt,
    CompileFacts,
    CompileStatus,
    CompileTime,
    GraphBreak,
    Outcome,
    Recompile,
    Verdict,
)
from pytest_nnopt.verdict import Observed, judge, keep_exact_failures
from tests.builders import (
    make_check,
    make_comparison,
    make_compile_record,
    make_config,
    make_evidence,
    make_facts,
    make_process,
    make_question,
    make_timing,
)

BREAK = GraphBreak("call to print", file="model.py", line=7, code="print(x)")
RECOMPILE = Recompile("forward", "size of x changed", file="model.py", line=5)
MISSING = "no baseline for the case; record one with pytest --nnopt-update"
observations = st.builds(
    Observed,
    st.builds(
        make_facts,
        st.sampled_from(CompileStatus),
        graph_breaks=st.none() | st.integers(0, 3).map(lambda count: (BREAK,) * count),
        recompiles=st.none() | st.integers(0, 3).map(lambda count: (RECOMPILE,) * count),
        eager_frames=st.none() | st.integers(0, 2),
    ),
    st.lists(st.floats(0, 3), min_size=1, max_size=3).map(lambda excesses: make_comparison(*excesses)),
    st.sampled_from([0.8, 1.0, 1.04, 1.2]).map(make_timing),
)
questions = st.builds(
    make_question,
    st.builds(
        make_config,
        min_speedup=st.none() | st.just(1.1),
        is_fallback_allowed=st.booleans(),
        graph_breaks=st.none() | st.integers(0, 2),
        recompiles=st.none() | st.integers(0, 2),
    ),
    is_comparing=st.booleans(),
    baseline=st.none()
    | st.just(Evidence())
    | st.builds(make_compile_record, graph_breaks=st.none() | st.integers(0, 2)).map(
        lambda record: make_evidence(compiled=record)
    ),
    is_recording_missing=st.booleans(),
    missing_reason=st.just(MISSING),
)
TIMES_AND_MEMORY = frozenset({CheckName.LATENCY, CheckName.MEMORY})
GROWING = frozenset({CheckName.MEMORY, CheckName.COMPILE_TIME, CheckName.DEVICE_TIME})


def fell_back_to(step: str) -> CompileFacts:
    attempts = (CompileAttempt("mode='max-autotune'", "it broke"), CompileAttempt(step))
    return make_facts(CompileStatus.FELL_BACK, attempts=attempts)


def only(*names: CheckName) -> frozenset[CheckName]:
    return frozenset(names)


class TestJudge:
    def test_every_asked_question_is_answered(self) -> None:
        question = make_question(make_config(min_speedup=1.1), is_comparing=True, baseline=make_evidence(0.5))
        verdict = judge(question, Observed(make_facts(), make_comparison(0.5), make_timing(0.5)))
        names = {check.name for check in verdict.checks}
        assert names == {CheckName.COMPILE, CheckName.NUMERICS, CheckName.SPEEDUP, CheckName.LATENCY}
        assert verdict.outcome is Outcome.PASSED

    def test_without_limits_and_baselines_only_absolute_checks_are_asked(self) -> None:
        verdict = judge(make_question(), Observed(make_facts(), make_comparison(0.5)))
        assert [check.name for check in verdict.checks] == [CheckName.COMPILE, CheckName.NUMERICS]

    @pytest.mark.parametrize("name", [CheckName.COMPILE, CheckName.NUMERICS, CheckName.SPEEDUP, CheckName.LATENCY])
    def test_only_the_asked_questions_are_answered(self, name: CheckName) -> None:
        question = make_question(
            make_config(min_speedup=1.1), is_comparing=True, baseline=make_evidence(0.5), asked=only(name)
        )
        numerics = make_comparison(0.5) if name is CheckName.NUMERICS else None
        verdict = judge(question, Observed(make_facts(), numerics, make_timing(0.5)))
        assert [check.name for check in verdict.checks] == [name]

    def test_nothing_asked_is_skipped(self) -> None:
        verdict = judge(make_question(asked=only()), Observed(make_facts()))
        assert verdict.outcome is Outcome.SKIPPED

    @pytest.mark.parametrize(
        "facts",
        [
            CompileFacts(CompileStatus.FAILED, (CompileAttempt("default mode", "it broke"),)),
            make_facts(CompileStatus.NOTHING_COMPILED),
            make_facts(
                CompileStatus.FELL_BACK, attempts=(CompileAttempt("default mode", "broke"), CompileAttempt("eager"))
            ),
        ],
    )
    def test_eager_compared_with_eager_never_passes(self, facts: CompileFacts) -> None:
        question = make_question(asked=only(CheckName.NUMERICS))
        verdict = judge(question, Observed(facts, make_comparison(0.5)))
        assert [check.name for check in verdict.checks] == [CheckName.COMPILE, CheckName.NUMERICS]
        assert verdict.outcome is Outcome.FAILED
        assert verdict[CheckName.COMPILE].outcome is Outcome.FAILED

    def test_an_allowed_fallback_to_eager_is_said_even_where_compilation_was_not_asked_about(self) -> None:
        question = make_question(make_config(is_fallback_allowed=True), asked=only(CheckName.NUMERICS))
        verdict = judge(question, Observed(fell_back_to("eager"), make_comparison(0.5)))
        assert verdict[CheckName.COMPILE].outcome is Outcome.SKIPPED

    @pytest.mark.parametrize("facts", [make_facts(eager_frames=2), CompileFacts(CompileStatus.OWN_CANDIDATE)])
    def test_whatever_else_is_wrong_with_a_compilation_is_only_told_when_asked(self, facts: CompileFacts) -> None:
        verdict = judge(make_question(asked=only(CheckName.NUMERICS)), Observed(facts, make_comparison(0.5)))
        assert [check.name for check in verdict.checks] == [CheckName.NUMERICS]

    def test_timing_that_broke_off_fails_what_it_was_for_and_nothing_else(self) -> None:
        question = make_question(make_config(min_speedup=1.1), is_comparing=True, baseline=make_evidence(0.5))
        problem = "a measuring process hung; its last output:\nline"
        verdict = judge(question, Observed(make_facts(), make_comparison(0.5), make_timing(0.5), problem))
        for name in (CheckName.SPEEDUP, CheckName.LATENCY):
            check = verdict[name]
            assert (check.outcome, check.reason) == (
                Outcome.FAILED,
                "a measuring process hung; its last output:",
            )
            assert check.details == ("line",)
        assert verdict[CheckName.NUMERICS].outcome is Outcome.PASSED

    def test_without_a_candidate_the_other_questions_stay_open(self) -> None:
        question = make_question(make_config(min_speedup=1.1), is_comparing=True, baseline=make_evidence())
        verdict = judge(question, Observed(CompileFacts(CompileStatus.FAILED, (CompileAttempt("default", "broke"),))))
        assert {check.name: check.outcome for check in verdict.checks} == {
            CheckName.COMPILE: Outcome.FAILED,
            CheckName.NUMERICS: Outcome.INCONCLUSIVE,
            CheckName.SPEEDUP: Outcome.INCONCLUSIVE,
            CheckName.LATENCY: Outcome.INCONCLUSIVE,
        }
        assert verdict.outcome is Outcome.FAILED

    def test_without_a_candidate_nothing_is_said_that_was_not_asked(self) -> None:
        verdict = judge(make_question(), Observed(CompileFacts(CompileStatus.FAILED)))
        assert {check.name for check in verdict.checks} == {CheckName.COMPILE, CheckName.NUMERICS}


class TestMonotony:
    @given(questions, observations)
    def test_a_further_graph_break_never_mends_a_failure(self, question: Any, observed: Observed) -> None:
        breaks = observed.compile.graph_breaks or ()
        worse = replace(observed, compile=replace(observed.compile, graph_breaks=(*breaks, BREAK)))
        assert_no_better(judge(question, observed), judge(question, worse), CheckName.COMPILE)

    @given(questions, observations)
    def test_a_further_recompile_never_mends_a_failure(self, question: Any, observed: Observed) -> None:
        recompiles = observed.compile.recompiles or ()
        worse = replace(observed, compile=replace(observed.compile, recompiles=(*recompiles, RECOMPILE)))
        assert_no_better(judge(question, observed), judge(question, worse), CheckName.COMPILE)

    @given(questions, observations)
    def test_a_further_wrong_leaf_never_mends_a_failure(self, question: Any, observed: Observed) -> None:
        assert observed.numerics is not None
        leaves = (*observed.numerics.leaves, *make_comparison(2.0).leaves)
        worse = replace(observed, numerics=replace(observed.numerics, leaves=leaves))
        assert_no_better(judge(question, observed), judge(question, worse), CheckName.NUMERICS)

    @given(questions, observations, st.sampled_from([1.0, 1.05, 1.5]))
    def test_a_slower_candidate_never_mends_a_failure(self, question: Any, observed: Observed, factor: float) -> None:
        timing = tuple(
            make_process(process.candidate_to_reference.log_ratio + math.log(factor)) for process in observed.timing
        )
        before, after = judge(question, observed), judge(question, replace(observed, timing=timing))
        assert_no_better(before, after, CheckName.SPEEDUP)
        assert_no_better(before, after, CheckName.LATENCY)

    @given(questions, observations)
    def test_every_answer_has_a_reason(self, question: Any, observed: Observed) -> None:
        verdict = judge(question, observed)
        assert all(check.reason for check in verdict.checks)
        assert len({check.name for check in verdict.checks}) == len(verdict.checks)


def assert_no_better(before: Verdict, after: Verdict, name: CheckName) -> None:
    outcomes = [[check.outcome for check in verdict.checks if check.name is name] for verdict in (before, after)]
    assert len(outcomes[0]) == len(outcomes[1])
    if outcomes[0] == [Outcome.FAILED]:
        assert outcomes[1] == [Outcome.FAILED]


class TestKeepExactFailures:
    def keep(self, earlier: Check, later: Check) -> Check:
        (check,) = keep_exact_failures(Verdict("case", (later,)), Verdict("case", (earlier,))).checks
        return check

    @pytest.mark.parametrize("name", [CheckName.NUMERICS, CheckName.COMPILE, CheckName.MEMORY])
    def test_what_was_wrong_once_stays_wrong(self, name: CheckName) -> None:
        wrong = make_check(name, Outcome.FAILED, "wrong")
        for later in Outcome:
            assert self.keep(wrong, make_check(name, later)) == wrong

    def test_a_failure_that_was_not_asked_about_is_kept_too(self) -> None:
        failed, later = make_check(CheckName.COMPILE, Outcome.FAILED), make_check(CheckName.NUMERICS)
        kept = keep_exact_failures(Verdict("case", (later,)), Verdict("case", (failed,)))
        assert kept.checks == (failed, later)

    @pytest.mark.parametrize("name", [CheckName.SPEEDUP, CheckName.LATENCY])
    def test_timing_decides_anew_on_all_processes(self, name: CheckName) -> None:
        later = make_check(name, Outcome.PASSED)
        assert self.keep(make_check(name, Outcome.FAILED), later) == later

    def test_timing_of_an_attempt_by_itself_is_kept(self) -> None:
        failed, passed = (
            Verdict("case", (make_check(CheckName.LATENCY, o),)) for o in (Outcome.FAILED, Outcome.PASSED)
        )
        (check,) = keep_exact_failures(passed, failed, is_pooled=False).checks
        assert check.outcome is Outcome.FAILED

    @pytest.mark.parametrize("earlier", [outcome for outcome in Outcome if outcome is not Outcome.FAILED])
    def test_anything_but_a_failure_gives_way(self, earlier: Outcome) -> None:
        later = make_check(CheckName.NUMERICS, Outcome.PASSED)
        assert self.keep(make_check(CheckName.NUMERICS, earlier), later) == later


def with_kernels(process: ProcessRecord, seconds: float) -> ProcessRecord:
    return process.model_copy(update={"kernels": {"gemm": KernelRecord(count=1, seconds=seconds)}})


def grown(
    factor: float, *, asked: frozenset[CheckName] | None = None, baseline: Evidence | None = None, **question: Any
) -> Verdict:
    """Judge a case whose memory, compile time and kernels are ``factor`` times those of its baseline."""
    evidence = make_evidence()
    level = evidence.model_copy(
        update={
            "timing": tuple(with_kernels(process, 1e-4) for process in evidence.timing),
            "memory": MemoryRecord(candidate_peak_bytes=1000),
            "compile": make_compile_record(cold_seconds=10.0),
        }
    )
    observed = Observed(
        make_facts(),
        timing=tuple(with_kernels(process, factor * 1e-4) for process in make_timing()),
        memory=MemoryRecord(candidate_peak_bytes=int(1000 * factor)),
        compile_time=CompileTime(cold_seconds=10.0 * factor),
    )
    fields = {"is_comparing": True, "baseline": level if baseline is None else baseline, "device": "cuda", **question}
    return judge(make_question(asked=asked or frozenset(CheckName), **fields), observed)


def test_unchanged_memory_compile_time_and_device_time_pass() -> None:
    verdict = grown(1.0)
    assert {verdict[name].outcome for name in GROWING} == {Outcome.PASSED}


def test_each_figure_fails_when_it_grows_beyond_its_limit() -> None:
    verdict = grown(12.0)
    assert {verdict[name].outcome for name in GROWING} == {Outcome.FAILED}


def test_growth_against_another_revision_is_allowed_by_a_limit_and_by_no_recording() -> None:
    checks = [check for check in grown(12.0, base="main").checks if check.name in GROWING]
    assert len(checks) == len(GROWING)
    for check in checks:
        assert check.remedy == (
            f"if the new level is intended, allow it with @pytest.mark.nnopt_limits({check.name.value}=...); once it "
            "is merged, it is what later runs compare with"
        )
    assert {check.remedy for check in grown(1.0, base="main").checks} == {None}


def test_growth_against_another_revision_names_it() -> None:
    verdict = grown(12.0, base="main (0123456)")
    assert "main (0123456)" in verdict[CheckName.MEMORY].reason
    assert not [check.reason for check in verdict.checks if "the baseline" in check.reason]
    bare = grown(1.0, asked=GROWING, base="main", baseline=make_evidence(compiled=make_compile_record()))
    assert bare[CheckName.MEMORY].reason == "main holds no memory"


def test_levels_of_another_environment_are_named() -> None:
    level = make_evidence().model_copy(update={"memory": MemoryRecord(candidate_peak_bytes=1000)})
    elsewhere = Elsewhere(level, "cpu-of-old", ("threads: 1 → 2",))
    observed = Observed(make_facts(), timing=make_timing(), memory=MemoryRecord(candidate_peak_bytes=1000))
    question = make_question(
        is_comparing=True, baseline=level, foreign_times=elsewhere, foreign_memory=elsewhere, asked=TIMES_AND_MEMORY
    )
    verdict = judge(question, observed)
    said = "compared with the baseline of 'cpu-of-old' (threads: 1 → 2)"
    assert verdict[CheckName.LATENCY].details[-1] == said
    without_memory = replace(question, baseline=make_evidence())
    assert judge(without_memory, observed)[CheckName.MEMORY].details[-1] == said


def test_what_times_of_another_environment_lack_is_recorded_where_what_is_missing_is() -> None:
    elsewhere = Elsewhere(make_evidence(), "cpu-of-old", ("threads: 1 → 2",))
    for is_recording, outcome in ((True, Outcome.SKIPPED), (False, Outcome.NO_BASELINE)):
        verdict = grown(
            1.0,
            asked=GROWING,
            baseline=Evidence(timing=make_timing()),
            foreign_times=elsewhere,
            is_recording_missing=is_recording,
        )
        assert {check.outcome for check in verdict.checks} == {outcome}


def test_figures_that_were_not_asked_for_are_not_judged() -> None:
    assert {check.name for check in grown(10.0, asked=frozenset({CheckName.COMPILE})).checks} == {CheckName.COMPILE}


def test_a_baseline_without_a_figure_says_what_to_record() -> None:
    verdict = grown(1.0, asked=GROWING, baseline=make_evidence(compiled=make_compile_record()))
    assert {check.outcome for check in verdict.checks} == {Outcome.NO_BASELINE}
    assert verdict[CheckName.MEMORY].reason == "the baseline holds no memory; record it with pytest --nnopt-update"


def test_no_baseline_at_all_is_no_pass_for_any_figure() -> None:
    question = make_question(asked=GROWING, is_comparing=True, missing_reason="none", device="cuda")
    memory, time = MemoryRecord(candidate_peak_bytes=1), CompileTime(cold_seconds=1.0)
    observed = Observed(make_facts(), memory=memory, compile_time=time)
    assert {check.outcome for check in judge(question, observed).checks} == {Outcome.NO_BASELINE}


def test_a_recording_whose_process_died_fails_instead_of_holding_less() -> None:
    observed = Observed(make_facts(), timing=make_timing(), timing_problem="a measuring process ended with status 7")
    check = judge(make_question(is_updating=True), observed)[CheckName.LATENCY]
    assert (check.outcome, check.reason) == (Outcome.FAILED, "a measuring process ended with status 7")


def test_times_of_a_throttled_machine_leave_every_question_of_time_open() -> None:
    hot = tuple(
        with_kernels(process, 1e-3).model_copy(update={"concerns": {"thermal": "the GPU was throttled"}})
        for process in make_timing(2.0)
    )
    timing = tuple(with_kernels(process, 1e-6) for process in make_timing())
    question = make_question(
        make_config(min_speedup=1.1), device="cuda", is_comparing=True, baseline=Evidence(timing=timing)
    )
    verdict = judge(question, Observed(make_facts(), timing=hot))
    for name in (CheckName.SPEEDUP, CheckName.LATENCY, CheckName.DEVICE_TIME):
        check = verdict[name]
        assert check.outcome is Outcome.INCONCLUSIVE
        words = name.value.replace("_", " ")
        assert check.reason == f"{words} is not judged: in 8 of 8 processes the GPU was throttled"
        assert check.details[0]


def test_where_a_measuring_process_broke_the_remedy_is_not_that_of_a_slowdown() -> None:
    question = make_question(is_comparing=True, baseline=make_evidence())
    observed = Observed(make_facts(), timing_problem="a measuring process was killed by SIGKILL; it printed nothing")
    check = judge(question, observed)[CheckName.LATENCY]
    assert check.outcome is Outcome.FAILED
    assert check.remedy is not None
    assert check.remedy.startswith("mend what it says; ")
