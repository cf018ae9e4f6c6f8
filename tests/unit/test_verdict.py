from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.baseline.schema import Evidence, KernelRecord, MemoryRecord, ProcessRecord
from pytest_nnopt.model import (
    Check,
    CheckName,
    CompileAttempt,
    CompileFacts,
    CompileStatus,
    GraphBreak,
    Interval,
    Outcome,
    Recompile,
    Verdict,
)
from pytest_nnopt.numerics.summary import ErrorFigures
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.verdict import (
    Observed,
    check_compile,
    check_latency,
    check_numerics,
    check_speedup,
    judge,
    keep_exact_failures,
    wanted_processes,
)
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
LOUD_PRIOR = VariancePrior(0.2**2, 30.0)


def only(*names: CheckName) -> frozenset[CheckName]:
    return frozenset(names)


class TestNumerics:
    def test_agreement_passes_and_names_how_close_it_was(self) -> None:
        check = check_numerics(replace(make_comparison(0.25, 0.5), not_compared=("buffer step",)))
        assert check == Check(
            CheckName.NUMERICS,
            Outcome.PASSED,
            "2 leaves agree, the worst at 0.5 of its limit (a float64 run serves as the truth)",
            value=0.5,
            limit=1.0,
            details=("not compared: buffer step",),
        )

    def test_disagreement_fails_and_names_the_worst_leaf(self) -> None:
        check = check_numerics(make_comparison(0.5, 3.0, 2.0))
        assert (check.outcome, check.reason, check.value) == (Outcome.FAILED, "output[1]: rms error too large", 3.0)
        assert check.details == (
            "output[1] (output, float32 [2])",
            "output[2] (output, float32 [2]): rms error too large",
        )

    def test_a_disagreement_is_told_with_its_figure_and_limit_and_not_twice(self) -> None:
        (leaf,) = make_comparison(3.0).leaves
        figures, limits = ErrorFigures(0.0101, 0.02, 0.01, 0.0), ErrorFigures(3.24e-6, 1e-5, 1e-7, 1e-7)
        comparison = replace(make_comparison(), leaves=(replace(leaf, candidate=figures, limits=limits),))
        check = check_numerics(comparison)
        assert check.reason == "output[0]: rms error too large (rms 0.01, limit 3.2e-06)"
        assert not any("too large" in line for line in check.details)

    def test_an_infinite_excess_has_no_figure(self) -> None:
        check = check_numerics(make_comparison(0.5, math.inf, problem="shape differs"))
        assert (check.outcome, check.reason, check.value) == (Outcome.FAILED, "output[1]: shape differs", None)

    def test_nothing_to_compare_fails(self) -> None:
        check = check_numerics(make_comparison())
        assert (check.outcome, check.reason) == (Outcome.FAILED, "the model returned nothing that could be compared")


class TestSpeedup:
    @pytest.mark.parametrize(
        ("ratio", "outcome", "relation"),
        [
            (0.5, Outcome.PASSED, "is above the minimum of 1.15x"),
            (1 / 1.15, Outcome.INCONCLUSIVE, "is not clearly on either side of the minimum of 1.15x"),
            (1.0, Outcome.FAILED, "is below the minimum of 1.15x"),
        ],
    )
    def test_the_measured_speedup_is_held_against_the_minimum(
        self, ratio: float, outcome: Outcome, relation: str
    ) -> None:
        check = check_speedup(make_question(make_config(min_speedup=1.15)), make_timing(ratio))
        assert check.outcome is outcome
        assert check.reason.startswith(f"speedup {1 / ratio:.2f}x [")
        assert check.reason.endswith(relation)
        assert check.value == pytest.approx(1 / ratio, rel=1e-3)
        assert check.limit == 1.15

    def test_the_interval_holds_the_speedup_and_the_details_say_how_sure_it_is(self) -> None:
        check = check_speedup(make_question(make_config(min_speedup=1.15)), make_timing(0.5))
        assert check.interval is not None
        assert check.value is not None
        assert check.interval.low < check.value < check.interval.high
        assert len(check.details) == 1
        assert check.details[0].startswith("8 processes, one process varies by 0.4")

    def test_one_process_is_called_one(self) -> None:
        check = check_speedup(make_question(make_config(min_speedup=1.15)), make_timing(0.5, count=1))
        assert check.details[0].startswith("1 process, ")

    def test_unmeasured_is_inconclusive(self) -> None:
        check = check_speedup(make_question(make_config(min_speedup=1.15)), ())
        assert check == Check(CheckName.SPEEDUP, Outcome.INCONCLUSIVE, "speedup was not measured", limit=1.15)


class TestLatency:
    def check(self, ratio: float, *, count: int = 8, baseline: Evidence | None = None, **fields: Any) -> Check:
        question = make_question(
            make_config(latency=0.05), is_comparing=True, baseline=baseline or make_evidence(1.0), **fields
        )
        return check_latency(question, make_timing(ratio, count=count))

    @pytest.mark.parametrize(
        ("ratio", "outcome", "relation"),
        [
            (1.0, Outcome.PASSED, "is within the limit of 5.00 %"),
            (0.9, Outcome.IMPROVED, "is within the limit of 5.00 %"),
            (1.049, Outcome.INCONCLUSIVE, "is not clearly on either side of the limit of 5.00 %"),
            (1.2, Outcome.FAILED, "is beyond the limit of 5.00 %"),
        ],
    )
    def test_the_candidate_is_held_against_its_baseline(self, ratio: float, outcome: Outcome, relation: str) -> None:
        check = self.check(ratio)
        assert check.outcome is outcome
        assert check.reason.startswith("latency ")
        assert check.reason.endswith(relation)
        assert check.value == pytest.approx(ratio - 1, abs=1e-3)
        assert (check.baseline, check.limit) == (0.0, 0.05)

    def test_the_interval_holds_the_change(self) -> None:
        check = self.check(1.2)
        assert check.interval is not None
        assert check.interval.low < 0.2 < check.interval.high

    def test_the_level_is_relative_to_eager_in_the_same_process(self) -> None:
        assert self.check(0.5, baseline=make_evidence(0.5)).outcome is Outcome.PASSED
        assert self.check(0.5, baseline=make_evidence(0.4)).outcome is Outcome.FAILED

    def test_one_process_alone_does_not_fail(self) -> None:
        assert self.check(1.2, count=1, prior=LOUD_PRIOR).outcome is Outcome.INCONCLUSIVE

    def test_unmeasured_is_inconclusive(self) -> None:
        assert self.check(1.0, count=0).outcome is Outcome.INCONCLUSIVE

    def test_a_missing_baseline_fails_with_its_remedy(self) -> None:
        check = check_latency(make_question(is_comparing=True, missing_reason=MISSING), make_timing())
        assert (check.outcome, check.reason) == (Outcome.NO_BASELINE, MISSING)

    def test_a_missing_baseline_that_is_recorded_now_is_skipped(self) -> None:
        check = check_latency(make_question(is_comparing=True, is_recording_missing=True), make_timing())
        assert (check.outcome, check.reason) == (
            Outcome.SKIPPED,
            "there was no baseline to compare with; this run records it",
        )

    def test_a_baseline_without_times_is_none(self) -> None:
        check = self.check(1.0, baseline=Evidence(compile=make_compile_record()))
        assert (check.outcome, check.reason) == (
            Outcome.NO_BASELINE,
            "the baseline holds no times; record them with pytest --nnopt-update",
        )

    @pytest.mark.parametrize(("device", "limit"), [("cpu", 0.10), ("cuda", 0.05), ("mps", 0.10), ("xpu", 0.10)])
    def test_the_device_gives_the_limit_where_none_is_declared(self, device: str, limit: float) -> None:
        assert make_question(device=device).latency_limit == limit
        assert make_question(make_config(latency=0.5), device=device).latency_limit == 0.5


class TestCompile:
    @pytest.mark.parametrize(
        ("facts", "outcome", "reason"),
        [
            (make_facts(), Outcome.PASSED, "1 graph, 0 graph breaks, 0 recompiles"),
            (
                make_facts(graphs=2, graph_breaks=(BREAK,), recompiles=(RECOMPILE, RECOMPILE)),
                Outcome.PASSED,
                "2 graphs, 1 graph break, 2 recompiles",
            ),
            (
                make_facts(graphs=None, graph_breaks=None, recompiles=None, eager_frames=None),
                Outcome.PASSED,
                "unknown graphs, unknown graph breaks, unknown recompiles",
            ),
            (
                CompileFacts(CompileStatus.OWN_CANDIDATE),
                Outcome.SKIPPED,
                "the test's own candidate is not compiled by torch.compile",
            ),
            (
                make_facts(CompileStatus.NOTHING_COMPILED, explanation="TORCHDYNAMO_DISABLE=1 turns it off"),
                Outcome.FAILED,
                "nothing was compiled, so eager would be compared with eager: TORCHDYNAMO_DISABLE=1 turns it off",
            ),
            (
                make_facts(CompileStatus.NOTHING_COMPILED),
                Outcome.FAILED,
                "nothing was compiled, so eager would be compared with eager",
            ),
            (make_facts(eager_frames=2), Outcome.FAILED, "2 frames run eagerly because they could not be compiled"),
        ],
    )
    def test_facts_are_judged_without_a_baseline(self, facts: CompileFacts, outcome: Outcome, reason: str) -> None:
        check = check_compile(make_question(), facts)
        assert (check.outcome, check.reason) == (outcome, reason)

    def test_a_failed_compilation_lists_every_attempt(self) -> None:
        attempts = (CompileAttempt("default mode", "it broke"), CompileAttempt("mode='max-autotune'", "it, too"))
        check = check_compile(make_question(), CompileFacts(CompileStatus.FAILED, attempts))
        assert (check.outcome, check.reason) == (Outcome.FAILED, "the candidate could not be compiled")
        assert check.details == ("default mode: it broke", "mode='max-autotune': it, too")

    def test_a_fallback_that_the_marker_does_not_allow_fails(self) -> None:
        check = check_compile(make_question(), fell_back_to("default mode"))
        assert (check.outcome, check.reason) == (Outcome.FAILED, "the candidate fell back to default mode")
        assert check.details == (
            "mode='max-autotune': it broke",
            "allow it for this test with @pytest.mark.nnopt_compile(fallback=...)",
        )

    def test_an_allowed_fallback_passes_and_is_said(self) -> None:
        check = check_compile(make_question(make_config(is_fallback_allowed=True)), fell_back_to("default mode"))
        assert check.outcome is Outcome.PASSED
        assert check.reason.endswith("(fell back to default mode, as the marker allows)")
        assert check.details == ("mode='max-autotune': it broke",)

    def test_an_allowed_fallback_to_eager_is_skipped_and_not_passed(self) -> None:
        check = check_compile(make_question(make_config(is_fallback_allowed=True)), fell_back_to("eager"))
        assert check.outcome is Outcome.SKIPPED
        assert check.details == ("mode='max-autotune': it broke",)

    @pytest.mark.parametrize(
        ("facts", "summary"),
        [
            ({"graph_breaks": (BREAK, BREAK)}, "2 graph breaks, the limit is 1"),
            ({"recompiles": (RECOMPILE, RECOMPILE)}, "2 recompiles, the limit is 1"),
        ],
    )
    def test_a_declared_limit_is_kept_with_and_without_a_baseline(self, facts: dict[str, Any], summary: str) -> None:
        config = make_config(graph_breaks=1, recompiles=1)
        worse = make_compile_record(graph_breaks=9, recompiles=9)
        comparing = make_question(config, is_comparing=True, baseline=make_evidence(compiled=worse))
        for question in (make_question(config), comparing):
            check = check_compile(question, make_facts(**facts))
            assert (check.outcome, check.reason) == (Outcome.FAILED, summary)
            assert check.details[0].startswith("model.py:")

    def test_as_many_as_the_limit_are_allowed(self) -> None:
        question = make_question(make_config(graph_breaks=1, recompiles=1))
        facts = make_facts(graph_breaks=(BREAK,), recompiles=(RECOMPILE,))
        assert check_compile(question, facts).outcome is Outcome.PASSED

    @pytest.mark.parametrize(
        ("facts", "unknown"),
        [
            ({"graph_breaks": None}, "graph breaks (limit 1)"),
            ({"recompiles": None}, "recompiles (limit 2)"),
            ({"graph_breaks": None, "recompiles": None}, "graph breaks (limit 1) and recompiles (limit 2)"),
        ],
    )
    def test_a_limit_of_what_could_not_be_counted_is_not_passed(self, facts: dict[str, Any], unknown: str) -> None:
        question = make_question(make_config(graph_breaks=1, recompiles=2))
        check = check_compile(question, make_facts(**facts))
        assert (check.outcome, check.reason) == (
            Outcome.INCONCLUSIVE,
            f"this version of torch cannot tell how many {unknown} there are",
        )

    def test_what_is_known_to_be_wrong_fails_whatever_could_not_be_counted(self) -> None:
        question = make_question(make_config(graph_breaks=0, recompiles=0))
        check = check_compile(question, make_facts(graph_breaks=None, recompiles=(RECOMPILE,)))
        assert (check.outcome, check.reason) == (Outcome.FAILED, "1 recompiles, the limit is 0")

    @pytest.mark.parametrize(
        ("is_recording_missing", "outcome"), [(False, Outcome.NO_BASELINE), (True, Outcome.INCONCLUSIVE)]
    )
    def test_of_two_open_questions_the_worse_one_is_told(self, is_recording_missing: bool, outcome: Outcome) -> None:
        question = make_question(
            make_config(graph_breaks=0), is_comparing=True, is_recording_missing=is_recording_missing
        )
        assert check_compile(question, make_facts(graph_breaks=None)).outcome is outcome

    def test_no_more_breaks_and_recompiles_than_the_baseline_has(self) -> None:
        before = make_evidence(compiled=make_compile_record(graph_breaks=1, recompiles=1, eager_frames=1))
        question = make_question(is_comparing=True, baseline=before)
        same = make_facts(graph_breaks=(BREAK,), recompiles=(RECOMPILE,), eager_frames=1)
        assert check_compile(question, same).outcome is Outcome.PASSED
        worse = make_facts(graph_breaks=(BREAK,) * 2, recompiles=(RECOMPILE,) * 2, eager_frames=2)
        check = check_compile(question, worse)
        assert (check.outcome, check.value) == (Outcome.FAILED, 2.0)
        assert check.reason == "2 graph breaks, the baseline has 1"
        assert "2 recompiles, the baseline has 1" in check.details
        assert "2 frames run eagerly because they could not be compiled" in check.details

    def test_a_baseline_counts_only_when_it_is_compared_with(self) -> None:
        question = make_question(is_updating=True, baseline=make_evidence())
        assert check_compile(question, make_facts(graph_breaks=(BREAK,))).outcome is Outcome.PASSED

    def test_what_the_baseline_does_not_know_is_not_zero(self) -> None:
        unknown = make_compile_record(graph_breaks=None, recompiles=None, eager_frames=None)
        question = make_question(is_comparing=True, baseline=make_evidence(compiled=unknown))
        facts = make_facts(graph_breaks=(BREAK,), recompiles=(RECOMPILE,), eager_frames=2)
        assert check_compile(question, facts).outcome is Outcome.PASSED

    def test_unknown_eager_frames_are_not_compared(self) -> None:
        question = make_question(is_comparing=True, baseline=make_evidence())
        assert check_compile(question, make_facts(eager_frames=None)).outcome is Outcome.PASSED

    def test_places_and_reasons_are_shown_up_to_five(self) -> None:
        bare = GraphBreak("unsupported")
        question = make_question(make_config(graph_breaks=0, recompiles=0))
        facts = make_facts(graph_breaks=(BREAK, bare, *[bare] * 5), recompiles=(RECOMPILE, Recompile("step")))
        assert check_compile(question, facts).details == (
            "model.py:7: call to print\n    print(x)",
            *["unsupported"] * 4,
            "and 2 more",
            "2 recompiles, the limit is 0",
            "model.py:5: forward: size of x changed",
            "step: reason unknown to this version of torch",
        )

    def test_a_missing_baseline_fails_unless_it_is_recorded_now(self) -> None:
        question = make_question(is_comparing=True, missing_reason=MISSING)
        check = check_compile(question, make_facts())
        assert (check.outcome, check.reason) == (Outcome.NO_BASELINE, MISSING)
        recording = replace(question, is_recording_missing=True)
        assert check_compile(recording, make_facts()).outcome is Outcome.SKIPPED

    @pytest.mark.parametrize("is_recording_missing", [False, True])
    def test_a_baseline_without_a_compilation_is_none(self, is_recording_missing: bool) -> None:
        baseline = Evidence(timing=make_timing())
        question = make_question(is_comparing=True, baseline=baseline, is_recording_missing=is_recording_missing)
        check = check_compile(question, make_facts())
        assert (check.outcome, check.reason) == (
            Outcome.NO_BASELINE,
            "the baseline holds no compilation; record it with pytest --nnopt-update",
        )


def fell_back_to(step: str) -> CompileFacts:
    attempts = (CompileAttempt("mode='max-autotune'", "it broke"), CompileAttempt(step))
    return make_facts(CompileStatus.FELL_BACK, attempts=attempts)


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

    @pytest.mark.parametrize("earlier", [outcome for outcome in Outcome if outcome is not Outcome.FAILED])
    def test_anything_but_a_failure_gives_way(self, earlier: Outcome) -> None:
        later = make_check(CheckName.NUMERICS, Outcome.PASSED)
        assert self.keep(make_check(CheckName.NUMERICS, earlier), later) == later


class TestWantedProcesses:
    def test_a_recording_wants_its_processes(self) -> None:
        question = make_question(recorded_processes=3, is_updating=True)
        assert [wanted_processes(question, make_timing(count=count)) for count in (0, 2, 3, 5)] == [3, 3, 3, 5]

    def test_an_open_question_wants_its_next_look_until_the_plan_is_spent(self) -> None:
        question = make_question(make_config(min_speedup=1.15), prior=LOUD_PRIOR)
        wanted = [wanted_processes(question, make_timing(1 / 1.15, count=count)) for count in (1, 2, 3, 4, 8)]
        assert wanted == [2, 4, 4, 8, 8]

    def test_a_decided_question_wants_no_more(self) -> None:
        question = make_question(
            make_config(min_speedup=1.15, latency=0.10), is_comparing=True, baseline=make_evidence(0.5)
        )
        assert wanted_processes(question, make_timing(0.5, count=4)) == 4

    def test_one_open_question_of_two_is_enough(self) -> None:
        question = make_question(
            make_config(min_speedup=1.15, latency=0.05), is_comparing=True, baseline=make_evidence(0.5 / 1.049)
        )
        assert wanted_processes(question, make_timing(0.5, count=4)) == 8

    def test_what_is_not_asked_is_not_open(self) -> None:
        question = make_question(
            make_config(min_speedup=1.15),
            is_comparing=True,
            baseline=make_evidence(0.9),
            asked=only(CheckName.COMPILE),
        )
        assert wanted_processes(question, make_timing(0.87, count=1)) == 1

    def test_a_baseline_without_times_leaves_nothing_to_decide(self) -> None:
        question = make_question(is_comparing=True, baseline=Evidence())
        assert wanted_processes(question, make_timing(count=1)) == 1


@pytest.mark.parametrize(
    ("config", "fields", "wants"),
    [
        ({}, {}, False),
        ({"min_speedup": 1.1}, {}, True),
        ({"min_speedup": 1.1}, {"asked": only(CheckName.LATENCY)}, False),
        ({}, {"is_comparing": True}, True),
        ({}, {"is_updating": True}, True),
        ({}, {"is_updating": True, "asked": only(CheckName.COMPILE, CheckName.NUMERICS)}, False),
    ],
)
def test_times_are_wanted_for_a_minimum_a_comparison_or_a_recording(
    config: dict[str, Any], fields: dict[str, Any], wants: bool
) -> None:
    assert make_question(make_config(**config), **fields).wants_timing is wants


def test_an_interval_of_a_speedup_is_one_of_ratios() -> None:
    check = check_speedup(make_question(make_config(min_speedup=1.1)), make_timing(0.5))
    assert isinstance(check.interval, Interval)
    assert 1.9 < check.interval.low < 2.0 < check.interval.high < 2.1


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
        cold_seconds=10.0 * factor,
    )
    fields = {"is_comparing": True, "baseline": level if baseline is None else baseline, "device": "cuda", **question}
    return judge(make_question(asked=asked or frozenset(CheckName), **fields), observed)


GROWING = frozenset({CheckName.MEMORY, CheckName.COMPILE_TIME, CheckName.DEVICE_TIME})


def test_unchanged_memory_compile_time_and_device_time_pass() -> None:
    verdict = grown(1.0)
    assert {verdict[name].outcome for name in GROWING} == {Outcome.PASSED}


def test_each_figure_fails_when_it_grows_beyond_its_limit() -> None:
    verdict = grown(12.0)
    assert {verdict[name].outcome for name in GROWING} == {Outcome.FAILED}


def test_figures_that_were_not_asked_for_are_not_judged() -> None:
    assert {check.name for check in grown(10.0, asked=frozenset({CheckName.COMPILE})).checks} == {CheckName.COMPILE}


def test_a_baseline_without_a_figure_says_what_to_record() -> None:
    verdict = grown(1.0, asked=GROWING, baseline=make_evidence(compiled=make_compile_record()))
    assert {check.outcome for check in verdict.checks} == {Outcome.NO_BASELINE}
    assert verdict[CheckName.MEMORY].reason == "the baseline holds no memory; record it with pytest --nnopt-update"


def test_no_baseline_at_all_is_no_pass_for_any_figure() -> None:
    question = make_question(asked=GROWING, is_comparing=True, missing_reason="none", device="cuda")
    observed = Observed(make_facts(), memory=MemoryRecord(candidate_peak_bytes=1), cold_seconds=1.0)
    assert {check.outcome for check in judge(question, observed).checks} == {Outcome.NO_BASELINE}


def test_device_time_alone_asks_for_times_and_further_processes_on_a_gpu() -> None:
    level = make_evidence().model_copy(
        update={"timing": tuple(with_kernels(process, 1e-4) for process in make_timing())}
    )
    question = make_question(asked=frozenset({CheckName.DEVICE_TIME}), is_comparing=True, baseline=level, device="cuda")
    assert question.wants_timing
    assert wanted_processes(question, [with_kernels(make_timing()[0], 1.02e-4)]) == 2
    assert not make_question(asked=frozenset({CheckName.DEVICE_TIME}), is_comparing=True).wants_timing


def test_memory_is_wanted_for_a_comparison_or_a_recording() -> None:
    assert make_question(is_comparing=True).wants_memory
    assert make_question(is_updating=True).wants_memory
    assert not make_question().wants_memory


def test_a_recording_whose_process_died_fails_instead_of_holding_less() -> None:
    observed = Observed(make_facts(), timing=make_timing(), timing_problem="a measuring process ended with status 7")
    check = judge(make_question(is_updating=True), observed)[CheckName.LATENCY]
    assert (check.outcome, check.reason) == (Outcome.FAILED, "a measuring process ended with status 7")
