from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.baseline.compilation import CompileLevel
from pytest_nnopt.baseline.schema import CompileRecord, Evidence, GraphBreakRecord, MemoryRecord, RecompileRecord
from pytest_nnopt.model import (
    Check,
    CheckName,
    CompileAttempt,
    CompileFacts,
    CompileStatus,
    GraphBreak,
    Outcome,
    Recompile,
    Verdict,
)
from pytest_nnopt.statistics.family import plan_for_suite
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.verdict import Observed, judge, wanted_processes
from pytest_nnopt.verdict.accepted import find_worsening, judge_drift_since_best
from pytest_nnopt.verdict.compile import check_compile
from tests.builders import (
    make_compile_record,
    make_config,
    make_environment,
    make_evidence,
    make_facts,
    make_process,
    make_question,
    make_recording,
    make_timing,
)

if TYPE_CHECKING:
    from pytest_nnopt.config import CaseConfig
    from pytest_nnopt.verdict import Question

BREAK = GraphBreak("call to print", file="model.py", line=7, code="print(x)")
RECOMPILE = Recompile("forward", "size of x changed", file="model.py", line=5)
COUNTERS = {
    "cudagraph_skips": 0,
    "generated_kernels": 2,
    "external_kernels": 1,
    "bytes_accessed": 1000,
    "fused_nodes": 4,
}
RECORD = make_compile_record(counters=COUNTERS)
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

    def test_where_nothing_was_compiled_the_line_that_prevented_it_is_named(self) -> None:
        facts = make_facts(CompileStatus.NOTHING_COMPILED, graphs=0, eager_reasons=(BREAK,))
        check = check_compile(make_question(), facts)
        assert check.details == ("run eagerly at model.py:7: call to print\n    print(x)",)
        assert check.remedy is not None
        assert check_compile(make_question(), make_facts(CompileStatus.NOTHING_COMPILED)).remedy is None

    def test_a_failed_compilation_lists_every_attempt(self) -> None:
        attempts = (CompileAttempt("default mode", "it broke"), CompileAttempt("mode='max-autotune'", "it, too"))
        check = check_compile(make_question(), CompileFacts(CompileStatus.FAILED, attempts))
        assert (check.outcome, check.reason) == (Outcome.FAILED, "the candidate could not be compiled")
        assert check.details == ("default mode: it broke", "mode='max-autotune': it, too")

    def test_a_fallback_that_the_marker_does_not_allow_fails(self) -> None:
        check = check_compile(make_question(), fell_back_to("default mode"))
        assert (check.outcome, check.reason) == (Outcome.FAILED, "the candidate fell back to default mode")
        assert check.details == ("mode='max-autotune': it broke",)
        assert check.remedy is not None
        assert "allow the fallback for this test with @pytest.mark.nnopt_compile(fallback=...)" in check.remedy

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
            assert "at model.py:" in check.details[0]

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
        assert (check.outcome, check.reason) == (Outcome.FAILED, "1 recompile, the limit is 0")

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
        assert "2 eager frames, the baseline has 1" in check.details

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
        others = [replace(BREAK, line=line) for line in range(20, 25)]
        facts = make_facts(graph_breaks=(BREAK, bare, bare, *others), recompiles=(RECOMPILE, Recompile("step")))
        assert check_compile(question, facts).details == (
            "graph break at model.py:7: call to print\n    print(x)",
            "graph break (2 times): unsupported",
            *[f"graph break at model.py:{line}: call to print\n    print(x)" for line in (20, 21, 22)],
            "and 2 more",
            "2 recompiles, the limit is 0",
            "recompile of forward at model.py:5: guard failed: size of x changed",
            "recompile of step: reason unknown to this version of torch",
        )

    def test_what_the_compiler_advises_is_told_once(self) -> None:
        advised = replace(BREAK, notes=("It cannot trace print.", "hint: use a logger"))
        facts = make_facts(graph_breaks=(BREAK, advised))
        assert check_compile(make_question(make_config(graph_breaks=0)), facts).details == (
            "graph break at model.py:7 (2 times): call to print\n    print(x)\n    It cannot trace print.\n"
            "    hint: use a logger",
        )

    def test_the_same_advice_is_given_once(self) -> None:
        advised = replace(BREAK, notes=("hint: use a logger",))
        facts = make_facts(graph_breaks=(advised, replace(advised, line=9)))
        assert check_compile(make_question(make_config(graph_breaks=0)), facts).details == (
            "graph break at model.py:7: call to print\n    print(x)\n    hint: use a logger",
            "graph break at model.py:9: call to print\n    print(x)",
        )

    def test_a_guard_is_shown_with_the_code_that_made_it(self) -> None:
        counting = Recompile("forward", "self.calls == 0", "model.py", 7, "self.calls += 1", ("hint: use a tensor",))
        check = check_compile(make_question(make_config(recompiles=0)), make_facts(recompiles=(counting,)))
        assert check.details == (
            "recompile of forward at model.py:7: guard failed: self.calls == 0\n    self.calls += 1\n"
            "    hint: use a tensor",
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


class TestAgainstTheBaseline:
    def test_only_what_is_new_is_shown_and_moved_lines_are_not(self) -> None:
        before = make_compile_record(
            graph_breaks=1,
            breaks=(GraphBreakRecord(reason="call to print", file="src/model.py", line=3, code="print(x)"),),
        )
        other = GraphBreak("Tensor.item", file="model.py", line=9, code="x.item()")
        check = check_against(before, graph_breaks=(BREAK, other))
        assert check.reason == "2 graph breaks, the baseline has 1"
        assert check.details == ("new: graph break at model.py:9: Tensor.item\n    x.item()",)

    def test_a_comment_behind_the_code_makes_nothing_new(self) -> None:
        commented = GraphBreakRecord(reason="call to print", file="model.py", line=3, code="print(x)  # for now")
        before = make_compile_record(graph_breaks=1, breaks=(commented,))
        other = replace(BREAK, line=9, code="print(y)")
        assert len(check_against(before, graph_breaks=(BREAK, other)).details) == 1

    def test_one_more_of_the_same_is_new(self) -> None:
        record = RecompileRecord(function="forward", reason="size of x changed", file="model.py", line=1)
        before = make_compile_record(recompiles=1, recompiled=(record,))
        check = check_against(before, recompiles=(RECOMPILE, RECOMPILE))
        assert check.details == ("new: recompile of forward at model.py:5: guard failed: size of x changed",)

    def test_a_baseline_without_a_list_makes_nothing_new(self) -> None:
        check = check_against(make_compile_record(recompiles=1), recompiles=(RECOMPILE, RECOMPILE))
        assert check.details == ("recompile of forward at model.py:5 (2 times): guard failed: size of x changed",)

    def test_a_declared_limit_is_broken_by_what_is_new(self) -> None:
        check = check_against(make_compile_record(), config=make_config(graph_breaks=0), graph_breaks=(BREAK,))
        assert (check.reason, check.details[0][:5]) == ("1 graph break, the limit is 0", "new: ")

    @pytest.mark.parametrize(
        ("counters", "reason"),
        [
            ({"cudagraph_skips": 1}, "1 cudagraph skip, the baseline has 0"),
            ({"generated_kernels": 3}, "3 generated kernels, the baseline has 2"),
            ({"external_kernels": 2}, "2 external kernels, the baseline has 1"),
            ({"bytes_accessed": 1050}, "1.03 KiB accessed by kernels, the baseline has 1000 B"),
        ],
    )
    def test_counters_may_not_grow(self, counters: dict[str, int], reason: str) -> None:
        check = check_against(make_compile_record(counters=COUNTERS), counters=COUNTERS | counters)
        assert (check.outcome, check.reason) == (Outcome.FAILED, reason)

    def test_new_kernels_and_skips_are_named(self) -> None:
        before = make_compile_record(
            counters=COUNTERS, kernels={"cpp_fused_add-1": 2}, external_kernels={"extern_kernels.mm": 1}
        )
        facts: dict[str, Any] = {
            "counters": {"cudagraph_skips": 1, "generated_kernels": 3, "external_kernels": 3},
            "kernels": {"cpp_fused_add-1": 2, "cpp_fused_sort-2": 1},
            "external_kernels": {"extern_kernels.mm": 2, "aten.sort.stable": 1},
            "cudagraph_skips": (GraphBreak("mutated inputs", "model.py", 7, "x.add_(1)"),),
        }
        assert check_against(before, **facts).details == (
            "new: cudagraph skip at model.py:7: mutated inputs\n    x.add_(1)",
            "3 generated kernels, the baseline has 2",
            "new: cpp_fused_sort-2",
            "3 external kernels, the baseline has 1",
            "new: extern_kernels.mm: 1 → 2",
            "new: aten.sort.stable",
        )

    @pytest.mark.parametrize("counters", [{}, COUNTERS, COUNTERS | {"bytes_accessed": 1019, "fused_nodes": 1}])
    def test_unknown_and_tolerated_figures_pass(self, counters: dict[str, int]) -> None:
        assert check_against(make_compile_record(counters=COUNTERS), counters=counters).outcome is Outcome.PASSED

    def test_improvements_are_offered_and_no_failure(self) -> None:
        before = make_compile_record(graph_breaks=2, counters=COUNTERS)
        check = check_against(before, counters=COUNTERS | {"generated_kernels": 1})
        assert check.outcome is Outcome.IMPROVED
        assert check.reason == (
            "1 graph, 0 graph breaks, 0 recompiles; better than the baseline: graph breaks 2 → 0, "
            "generated kernels 2 → 1; make it the new level with pytest --nnopt-update"
        )

    def test_what_is_compared_with_another_revision_names_it_and_offers_no_recording(self) -> None:
        before = make_compile_record(graph_breaks=1)
        question = make_question(is_comparing=True, baseline=make_evidence(compiled=before), base="main")
        better = check_compile(question, make_facts())
        assert better.reason == "1 graph, 0 graph breaks, 0 recompiles; better than main: graph breaks 1 → 0"
        worse = check_compile(question, make_facts(graph_breaks=(GraphBreak("a"), GraphBreak("b"))))
        assert worse.reason == "2 graph breaks, main has 1"
        bare = make_question(is_comparing=True, baseline=Evidence(timing=make_timing()), base="main")
        assert check_compile(bare, make_facts()).reason == "main holds no compilation"

    def test_eager_frames_within_their_limit_pass(self) -> None:
        question = make_question(make_config(eager_frames=1))
        assert check_compile(question, make_facts(eager_frames=1)).outcome is Outcome.PASSED
        check = check_compile(question, make_facts(eager_frames=2, eager_reasons=(GraphBreak("gave up"),)))
        assert (check.reason, check.details) == ("2 eager frames, the limit is 1", ("eager frame: gave up",))


class TestRemedy:
    """What to do depends on what the figure was held against."""

    @pytest.mark.parametrize(
        ("limits", "facts", "ways"),
        [
            (
                {"graph_breaks": 0},
                {"graph_breaks": (BREAK,)},
                "allow it with @pytest.mark.nnopt_limits(graph_breaks=1)",
            ),
            (
                {},
                {"recompiles": (RECOMPILE, RECOMPILE)},
                "allow it with @pytest.mark.nnopt_limits(recompiles=2), or "
                "accept it as the new level with pytest --nnopt-update --nnopt-reason TEXT",
            ),
            (
                {},
                {"counters": COUNTERS | {"generated_kernels": 3}},
                "accept it as the new level with pytest --nnopt-update --nnopt-reason TEXT",
            ),
            (
                {"eager_frames": 0},
                {"eager_frames": 1, "counters": COUNTERS | {"bytes_accessed": 2000}},
                "allow it with @pytest.mark.nnopt_limits(eager_frames=1, memory=...), or "
                "accept it as the new level with pytest --nnopt-update --nnopt-reason TEXT",
            ),
        ],
    )
    def test_it_names_what_can_be_declared_or_accepted(
        self, limits: dict[str, Any], facts: dict[str, Any], ways: str
    ) -> None:
        check = check_against(make_compile_record(counters=COUNTERS), config=make_config(**limits), **facts)
        assert check.remedy == f"mend what is listed above; or, if it is intended, {ways}"

    def test_against_another_revision_a_new_level_is_accepted_by_merging_it(self) -> None:
        baseline = make_evidence(compiled=make_compile_record(counters=COUNTERS))
        question = make_question(is_comparing=True, baseline=baseline, base="main")
        check = check_compile(question, make_facts(counters=COUNTERS | {"generated_kernels": 3}))
        assert check.remedy == (
            "mend what is listed above; or, if it is intended, merge it all the same: later runs compare with what is "
            "merged"
        )

    def test_without_a_baseline_nothing_can_be_accepted(self) -> None:
        check = check_compile(make_question(), make_facts(eager_frames=1))
        assert check.reason == "1 frame runs eagerly because it could not be compiled"
        assert check.remedy is not None
        assert check.remedy.endswith("allow it with @pytest.mark.nnopt_limits(eager_frames=1)")

    def test_what_says_it_itself_has_none(self) -> None:
        facts = make_facts(CompileStatus.NOTHING_COMPILED, graphs=0, explanation="TORCHDYNAMO_DISABLE=1; unset it")
        assert check_compile(make_question(), facts).remedy is None

    def test_a_failed_compilation_offers_a_fallback(self) -> None:
        facts = make_facts(CompileStatus.FAILED, attempts=(CompileAttempt("default mode", "it broke"),))
        assert "nnopt_compile(fallback=[...])" in (check_compile(make_question(), facts).remedy or "")


class TestAgainstAnotherEnvironment:
    def test_counters_of_graphs_are_compared_there(self) -> None:
        check = check_compile(self.question(), make_facts(graph_breaks=(BREAK,)))
        assert check.reason == "1 graph break, the baseline has 0"
        assert check.details[-1] == (
            "compared with the baseline of 'cpu-server'; generated code is not, as it depends on what differs "
            "(isa: AVX512 → AVX2)"
        )

    def test_generated_code_is_not(self) -> None:
        check = check_compile(self.question(), make_facts(counters=COUNTERS | {"generated_kernels": 9}))
        assert check.outcome is Outcome.PASSED
        assert "(isa: AVX512 → AVX2)" in check.reason

    def test_generated_code_is_where_nothing_differs(self) -> None:
        check = check_compile(self.question(), make_facts(counters=COUNTERS | {"generated_kernels": 9}))
        assert check.outcome is Outcome.PASSED
        same = replace(self.question(), foreign_compilation=CompileLevel(RECORD, "cpu-server"))
        check = check_compile(same, make_facts(counters=COUNTERS | {"generated_kernels": 9}))
        assert (check.reason, check.details) == (
            "9 generated kernels, the baseline has 2",
            ("compared with the baseline of 'cpu-server'",),
        )

    def test_the_environments_own_compilation_comes_first(self) -> None:
        question = replace(self.question(), baseline=make_evidence())
        assert question.compilation == CompileLevel(make_compile_record())

    def question(self) -> Question:
        level = CompileLevel(RECORD, "cpu-server", ("isa: AVX512 → AVX2",))
        return make_question(is_comparing=True, missing_reason=MISSING, foreign_compilation=level)


def check_against(before: CompileRecord, *, config: CaseConfig | None = None, **facts: Any) -> Check:
    question = make_question(config, is_comparing=True, baseline=make_evidence(compiled=before))
    return check_compile(question, make_facts(**facts))


def fell_back_to(step: str) -> CompileFacts:
    attempts = (CompileAttempt("mode='max-autotune'", "it broke"), CompileAttempt(step))
    return make_facts(CompileStatus.FELL_BACK, attempts=attempts)


def chosen(kernels: int, *further: int, choices: int = 1) -> dict[str, Any]:
    """Make a compilation whose compiler chose by timing, and processes that compiled the same anew."""
    counters, *others = (
        {"generated_kernels": count, "external_kernels": 1, **({"timed_choices": choices} if choices else {})}
        for count in (kernels, *further)
    )
    return {"counters": counters, "timing": [make_process().model_copy(update={"code": code}) for code in others]}


def judge_chosen(now: dict[str, Any], before: dict[str, Any], **plan: Any) -> Check:
    level = Evidence(timing=tuple(before["timing"]), compile=make_compile_record(counters=before["counters"]))
    question = make_question(is_comparing=True, baseline=level, **plan)
    return check_compile(question, make_facts(counters=now["counters"]), now["timing"])


RECORD_ANEW = "compare again; where it stays so, the recorded compilation is the odd one: record anew"


def with_more_memory(now: dict[str, Any], before: dict[str, Any]) -> tuple[Question, Observed]:
    """Ask about the memory of a compilation that needs a tenth more than the recorded one."""
    level = Evidence(
        timing=tuple(before["timing"]),
        compile=make_compile_record(counters=before["counters"]),
        memory=MemoryRecord(candidate_peak_bytes=1000),
    )
    observed = Observed(
        make_facts(counters=now["counters"]),
        timing=tuple(now["timing"]),
        memory=MemoryRecord(candidate_peak_bytes=1100),
    )
    return make_question(is_comparing=True, baseline=level, asked=frozenset({CheckName.MEMORY})), observed


class TestChoicesByTiming:
    """What the compiler chooses by timing may come out otherwise in the next compilation."""

    @pytest.mark.parametrize(
        ("now", "before", "outcome"),
        [
            (chosen(5, 5), chosen(5, *[5] * 10), Outcome.PASSED),
            (chosen(6), chosen(5, *[5] * 10), Outcome.INCONCLUSIVE),
            (chosen(6, 6), chosen(5, *[5] * 10), Outcome.INCONCLUSIVE),
            (chosen(6, 6, 6), chosen(5, *[5] * 10), Outcome.FAILED),
            (chosen(6, 6, 6), chosen(5, *[5] * 3), Outcome.INCONCLUSIVE),
            (chosen(6, *[6] * 8), chosen(5, *[5] * 3), Outcome.FAILED),
            (chosen(6, 5), chosen(5, *[5] * 10), Outcome.PASSED),
            (chosen(6, 6), chosen(5, *[5] * 9, 6), Outcome.PASSED),
            (chosen(6, 6), chosen(5), Outcome.INCONCLUSIVE),
            (chosen(6, choices=0), chosen(5), Outcome.INCONCLUSIVE),
            (chosen(6), chosen(5, choices=0), Outcome.INCONCLUSIVE),
            (chosen(6, 6, 6, choices=0), chosen(5, *[5] * 10), Outcome.FAILED),
            (chosen(6, 6, 6), chosen(5, *[5] * 10, choices=0), Outcome.FAILED),
            (chosen(6, 5, choices=0), chosen(5, 6, choices=0), Outcome.FAILED),
            (chosen(6, choices=0), chosen(5, choices=0), Outcome.FAILED),
            (chosen(4), chosen(5, *[5] * 10), Outcome.PASSED),
            (chosen(4, 4), chosen(5, *[5] * 10), Outcome.PASSED),
            (chosen(4, 4, 4), chosen(5, *[5] * 10), Outcome.IMPROVED),
            (chosen(4, 5), chosen(5, *[5] * 10), Outcome.PASSED),
            (chosen(4, choices=0), chosen(5, choices=0), Outcome.IMPROVED),
        ],
    )
    def test_a_figure_moved_where_no_compilation_is_like_before(
        self, now: dict[str, Any], before: dict[str, Any], outcome: Outcome
    ) -> None:
        assert judge_chosen(now, before).outcome is outcome

    @pytest.mark.parametrize(
        ("question", "advice"),
        [
            ({"device": "cpu"}, "options={'shape_padding': False}, and record anew"),
            ({"device": "cuda"}, "2 processes that all generate more would tell; or leave"),
            ({"device": "cuda", "base": "main"}, "with --nnopt-against-mode=pair"),
            ({"device": "cpu", "base": "main"}, "options={'shape_padding': False}, in both revisions"),
        ],
    )
    def test_what_chance_could_explain_is_said_and_what_would_tell(self, question: dict[str, Any], advice: str) -> None:
        check = judge_chosen(chosen(6), chosen(4, *[5] * 10), **question)
        assert check.reason == (
            f"6 generated kernels, {question.get('base', 'the baseline')} has 5; the compiler chose by timing what it "
            "generated, which could explain it"
        )
        assert advice in check.details[-1]

    @pytest.mark.parametrize(
        ("now", "before", "suite", "wanted"),
        [
            (chosen(5, 5), chosen(5, *[5] * 10), 1, 1),
            (chosen(6, 6), chosen(5, *[5] * 10), 1, 2),
            (chosen(6, 6, 6), chosen(5, *[5] * 10), 1, 2),
            (chosen(6, 6, 6), chosen(5, *[5] * 10), 24, 3),
            (chosen(6, 6), chosen(5), 1, 1),
            (chosen(6, 6), chosen(5, 5), 1, 1),
            (chosen(6, 6), chosen(5, 5, 5), 1, 6),
            (chosen(6, 6), chosen(5, *[5] * 9, 6), 6, 1),
            (chosen(6, 6, choices=0), chosen(5, choices=0), 6, 1),
            (chosen(6, *[6] * 8), chosen(5), 100_000, 8),
            (chosen(4, 4), chosen(5, *[5] * 10), 6, 3),
        ],
    )
    def test_further_processes_are_wanted_until_chance_is_no_reason(
        self, now: dict[str, Any], before: dict[str, Any], suite: int, wanted: int
    ) -> None:
        level = Evidence(timing=tuple(before["timing"]), compile=make_compile_record(counters=before["counters"]))
        plan = plan_for_suite(SequentialPlan(), suite)
        asked: dict[str, Any] = {"asked": frozenset({CheckName.COMPILE}), "baseline": level, "plan": plan}
        assert wanted_processes(make_question(is_comparing=True, **asked), now["timing"]) == wanted
        for name, number in ((CheckName.MEMORY, wanted), (CheckName.NUMERICS, len(now["timing"]))):
            question = make_question(is_comparing=True, **{**asked, "asked": frozenset({name})})
            assert wanted_processes(question, now["timing"]) == number

    @pytest.mark.parametrize(
        ("now", "before", "outcome"),
        [
            (chosen(6), chosen(5, *[5] * 10), Outcome.INCONCLUSIVE),
            (chosen(6, 5), chosen(5, *[5] * 10), Outcome.INCONCLUSIVE),
            (chosen(4), chosen(5, *[5] * 10), Outcome.INCONCLUSIVE),
            (chosen(6, 6), chosen(5, *[5] * 10), Outcome.INCONCLUSIVE),
            (chosen(6, 6, 6), chosen(5, *[5] * 10), Outcome.FAILED),
            (chosen(5), chosen(5, *[5] * 10), Outcome.FAILED),
            (chosen(6, choices=0), chosen(5, choices=0), Outcome.FAILED),
        ],
    )
    def test_memory_of_code_that_chance_may_have_chosen_is_left_open(
        self, now: dict[str, Any], before: dict[str, Any], outcome: Outcome
    ) -> None:
        (check,) = judge(*with_more_memory(now, before)).checks
        assert check.outcome is outcome
        assert check.reason.startswith("peak memory 1.07 KiB against 1000 B in the baseline (+10.0 %)")
        assert ("by timing" in check.reason) is (outcome is Outcome.INCONCLUSIVE)
        assert (check.details[-1:] == (RECORD_ANEW,)) is (outcome is Outcome.INCONCLUSIVE)

    def test_what_is_unknown_and_bytes_within_their_limit_are_no_reason_of_more_memory(self) -> None:
        now, before = chosen(5), chosen(5)
        before["counters"] = {**before["counters"], "bytes_accessed": 1000}
        now["counters"] = {**now["counters"], "bytes_accessed": 1010}
        assert judge(*with_more_memory(now, before)).checks[0].outcome is Outcome.FAILED
        del before["counters"]["external_kernels"]
        assert judge(*with_more_memory(now, before)).checks[0].outcome is Outcome.FAILED

    def test_open_memory_stays_open_against_the_best_level_and_is_worse_in_an_update(self) -> None:
        question, observed = with_more_memory(chosen(6, 5), chosen(5, *[5] * 10))
        assert question.baseline is not None
        best = make_recording(make_environment(), Evidence(memory=question.baseline.memory))
        verdict = judge(question, observed)
        assert judge_drift_since_best(replace(question, anchor=best), observed, verdict) == verdict
        (worse,) = find_worsening(replace(question, is_updating=True), observed, Verdict("case", ()))
        assert worse.startswith("peak memory 1.07 KiB against 1000 B")

    def test_a_base_is_not_to_be_recorded_anew(self) -> None:
        question, observed = with_more_memory(chosen(6), chosen(5))
        (check,) = judge(replace(question, base="main"), observed).checks
        assert RECORD_ANEW not in check.details

    def test_a_baseline_of_one_compilation_cannot_tell_and_is_to_know_more(self) -> None:
        check = judge_chosen(chosen(6, *[6] * 8), chosen(5), device="cuda")
        assert check.outcome is Outcome.INCONCLUSIVE
        assert check.details[-1].startswith(
            "so small a baseline may not know all that the compiler chooses: record ten processes; or leave"
        )

    @pytest.mark.parametrize("base", [None, "main"])
    def test_where_no_times_are_asked_for_they_are_what_would_tell(self, base: str | None) -> None:
        asked = {"device": "cuda", "base": base, "asked": frozenset({CheckName.COMPILE})}
        (line,) = judge_chosen(chosen(6), chosen(5, *[5] * 10), **asked).details[-1:]
        assert ": ask for latency or device_time; or leave less to chance" in line

    def test_where_both_revisions_were_compiled_anew_more_of_that_would_tell(self) -> None:
        check = judge_chosen(chosen(6, 6), chosen(5, 5), device="cuda", base="main")
        assert check.details[-1].startswith("4 processes that all generate more would tell; or leave")

    def test_a_process_of_which_nobody_knows_what_it_compiled_does_not_count(self) -> None:
        level = Evidence(timing=tuple(chosen(5, *[5] * 10)["timing"]), compile=make_compile_record(counters=COUNTERS))
        asked = make_question(is_comparing=True, baseline=level, asked=frozenset({CheckName.COMPILE}))
        assert wanted_processes(asked, [make_process(), *chosen(6, 6)["timing"]]) == 3

    def test_another_revision_is_compiled_as_often(self) -> None:
        level = Evidence(timing=tuple(chosen(5, 5)["timing"]), compile=make_compile_record(counters=COUNTERS))
        asked = make_question(is_comparing=True, baseline=level, base="main", asked=frozenset({CheckName.COMPILE}))
        assert wanted_processes(asked, chosen(6, 6)["timing"]) == 4
        assert wanted_processes(replace(asked, base=None), chosen(6, 6)["timing"]) == 1

    @pytest.mark.parametrize(
        ("now", "before", "is_worse"),
        [
            (chosen(6, 6, 6), chosen(5, 5, 5), True),
            (chosen(6, 5, 6), chosen(5, 5, 5), False),
            (chosen(6), chosen(5), False),
        ],
    )
    def test_in_an_update_chance_is_no_excuse_for_what_several_compilations_generated(
        self, now: dict[str, Any], before: dict[str, Any], is_worse: bool
    ) -> None:
        level = Evidence(timing=tuple(before["timing"]), compile=make_compile_record(counters=before["counters"]))
        question = make_question(is_updating=True, baseline=level, asked=frozenset({CheckName.COMPILE}))
        observed = Observed(make_facts(counters=now["counters"]), timing=tuple(now["timing"]))
        assert bool(find_worsening(question, observed, Verdict("case", ()))) is is_worse

    def test_graphs_are_not_chosen_by_timing(self) -> None:
        level = Evidence(compile=make_compile_record(counters=chosen(5)["counters"]))
        facts = make_facts(counters=chosen(5)["counters"], graph_breaks=(BREAK,))
        assert check_compile(make_question(is_comparing=True, baseline=level), facts).outcome is Outcome.FAILED

    def test_the_rate_of_the_case_decides_how_many_compilations_are_enough(self) -> None:
        plan = SequentialPlan(false_alarms=0.4)
        assert judge_chosen(chosen(6), chosen(5, *[5] * 10), plan=plan).outcome is Outcome.FAILED


def test_code_is_the_judged_figures_with_how_much_was_chosen() -> None:
    kept = {"generated_kernels": 2, "external_kernels": 1, "bytes_accessed": 1000}
    assert make_facts(counters=COUNTERS).code == kept
    assert make_facts(counters={**COUNTERS, "timed_choices": 2}).code == {**kept, "timed_choices": 2}
