from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.model import (
    CompileAttempt,
    CompileFacts,
    CompileStatus,
    GraphBreak,
    Outcome,
    Recompile,
)
from pytest_nnopt.verdict.compile import check_compile
from tests.builders import (
    make_compile_record,
    make_config,
    make_evidence,
    make_facts,
    make_question,
    make_timing,
)

BREAK = GraphBreak("call to print", file="model.py", line=7, code="print(x)")
RECOMPILE = Recompile("forward", "size of x changed", file="model.py", line=5)
MISSING = "no baseline for the case; record one with pytest --nnopt-update"


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
