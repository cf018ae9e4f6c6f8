from __future__ import annotations

import errno
import os
import re
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_nnopt.baseline.anchor import anchor_of
from pytest_nnopt.baseline.elsewhere import Elsewhere
from pytest_nnopt.baseline.level import comparable_recordings, level_of
from pytest_nnopt.baseline.schema import (
    CompileRecord,
    Evidence,
    KernelRecord,
    LeafRecord,
    MemoryRecord,
    OriginRecord,
    ProcessRecord,
    WorkRecord,
)
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.errors import BaselineError, OutputError
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.session import recording
from pytest_nnopt.session.recording import RecordingPlan, commit, plan_recording, propose_refresh
from tests.builders import (
    CASE_ID,
    make_check,
    make_compile_record,
    make_config,
    make_environment,
    make_evidence,
    make_message,
    make_process,
    make_question,
    make_recording,
    make_result,
    make_timing,
    on_machine,
)

HERE = make_environment()
NEW = RecordingPlan("replace", ("new",), starts_anew=True)
NOT_AT_ALL = RecordingPlan()


GROWN = "the candidate's error: output: rms error 1, was 0; 20 times that is allowed"


def with_output(path: str, *, inputs: str = "00000000", **figures: float) -> Evidence:
    """Evidence of a model with one output."""
    usual: dict[str, Any] = {"norm": 1.0, "candidate_nrmse": 0.0, **figures}
    leaf = LeafRecord(dtype="float32", shape=(2,), **usual)
    origin = OriginRecord(inputs=inputs, parameters="00000000", structure="00000000")
    return make_evidence().model_copy(update={"numerics": {path: leaf}, "origin": origin})


def with_kernels(seconds: float) -> Evidence:
    """Evidence of a model on a GPU with one kernel."""
    kernels = {"sums": KernelRecord(count=1, seconds=seconds, launch="grid 64, block 512")}
    timing = tuple(process.model_copy(update={"kernels": kernels}) for process in make_timing())
    return Evidence(timing=timing)


class TestPlanRecording:
    @pytest.mark.parametrize(
        ("question", "plan"),
        [
            ({}, NOT_AT_ALL),
            ({"is_comparing": True}, NOT_AT_ALL),
            ({"is_recording_missing": True}, NOT_AT_ALL),
            ({"is_comparing": True, "is_recording_missing": True}, NEW),
            ({"is_comparing": True, "is_recording_missing": True, "baseline": make_evidence()}, NOT_AT_ALL),
            ({"is_updating": True}, NEW),
            (
                {"is_updating": True, "unused": "there are baselines for 'a' (cpu: x → y)"},
                RecordingPlan("replace", ("new", "there are baselines for 'a' (cpu: x → y)"), starts_anew=True),
            ),
            ({"is_updating": True, "baseline": make_evidence()}, RecordingPlan("append")),
        ],
    )
    def test_evidence_is_recorded_where_it_is_wanted(self, question: dict[str, Any], plan: object) -> None:
        result = make_result(make_check(), evidence=make_evidence())
        assert plan_recording(make_question(**question), result) == plan

    @pytest.mark.parametrize("outcome", Outcome)
    def test_a_failed_case_is_never_recorded(self, outcome: Outcome) -> None:
        result = make_result(make_check(CheckName.NUMERICS, outcome), evidence=make_evidence())
        plan = plan_recording(make_question(is_updating=True), result)
        assert (plan.how is None) is outcome.is_failure
        assert ("its checks do not pass (numerics)" in (plan.refusal or "")) is outcome.is_failure

    @pytest.mark.parametrize(
        ("now", "changes"),
        [
            (make_evidence(1.5), ("latency +50.0 %",)),
            (make_evidence(0.8), ("latency -20.0 %",)),
            (make_evidence(1.01), ()),
            (
                make_evidence(compiled=make_compile_record(graphs=2, graph_breaks=1)),
                ("graphs 1 → 2", "graph breaks 0 → 1"),
            ),
            (
                make_evidence(compiled=make_compile_record(recompiles=3, eager_frames=None)),
                ("recompiles 0 → 3", "eager frames 0 → None"),
            ),
            (with_output("output[0]"), ("the reference: output is gone",)),
            (with_output("output", norm=2.0), ("the reference: output has the norm 2, had 1",)),
            (with_output("output", norm=2.0, inputs="ffffffff"), ("other numbers",)),
            (with_output("output", candidate_nrmse=1.0), (GROWN,)),
            (with_output("output"), ()),
            (make_evidence(), ()),
        ],
    )
    def test_evidence_that_differs_replaces_and_evidence_that_agrees_joins(
        self, now: Evidence, changes: tuple[str, ...]
    ) -> None:
        question = make_question(make_config(latency=0.05), is_updating=True, baseline=with_output("output"))
        plan = plan_recording(question, make_result(make_check(), evidence=now), reason="a better model")
        assert plan.changes == changes
        assert plan.how == ("replace" if changes else "append")

    @pytest.mark.parametrize(
        ("kernels", "further", "changes"),
        [
            (5, (), ()),
            (6, (), ("generated kernels 5 → 6",)),
            (6, (7,), ("generated kernels 5 → 6",)),
            (4, (4,), ("generated kernels 5 → 4",)),
            (6, (5,), ()),
        ],
    )
    def test_code_is_another_one_where_no_compilation_is_like_before(
        self, kernels: int, further: tuple[int, ...], changes: tuple[str, ...]
    ) -> None:
        before, now = (
            make_evidence(compiled=make_compile_record(counters={"generated_kernels": count})) for count in (5, kernels)
        )
        processes = [
            process.model_copy(update={"code": {"generated_kernels": count}})
            for process, count in zip(now.timing, further, strict=False)
        ]
        now = now.model_copy(update={"timing": (*processes, *now.timing[len(processes) :])})
        question = make_question(is_updating=True, baseline=before)
        assert plan_recording(question, make_result(make_check(), evidence=now)).changes == changes

    @pytest.mark.parametrize("before", [Evidence(), Evidence(compile=CompileRecord(status="compiled"))])
    def test_parts_that_one_of_them_lacks_are_no_change_of_speed(self, before: Evidence) -> None:
        question = make_question(is_updating=True, baseline=before)
        result = make_result(make_check(), evidence=Evidence(timing=make_timing(2.0)))
        assert plan_recording(question, result) == RecordingPlan("append")

    @pytest.mark.parametrize(
        ("now", "worse"),
        [(make_evidence(), ("latency +9 %",)), (with_output("output", candidate_nrmse=1.0), ())],
        ids=["the gate would fail", "the error grew"],
    )
    def test_a_worse_figure_needs_a_reason_which_is_kept_and_from_which_drift_counts_anew(
        self, now: Evidence, worse: tuple[str, ...]
    ) -> None:
        question = make_question(is_updating=True, baseline=with_output("output"))
        result = make_result(make_check(), evidence=now)
        refused = plan_recording(question, result, worse=worse)
        assert refused.how is None
        assert refused.refusal is not None
        assert refused.refusal.startswith(f"it is worse than what was accepted: {(*worse, GROWN)[0]}; ")
        assert refused.refusal.endswith("say why with --nnopt-reason TEXT")
        accepted = plan_recording(question, result, worse=worse, reason="exact softmax")
        assert (accepted.refusal, accepted.reason, accepted.starts_anew) == (None, "exact softmax", True)
        assert accepted.how is not None

    def test_a_machine_that_moved_leaves_a_change_of_speed_a_change(self) -> None:
        question = make_question(make_config(latency=0.05), is_updating=True, baseline=make_evidence())
        now = Evidence(timing=on_machine(make_timing(1.12), 1.3))
        plan = plan_recording(question, make_result(make_check(), evidence=now), reason="a better model")
        assert plan.changes == ("latency +12.0 %",)

    def test_a_reason_is_kept_only_where_something_is_worse(self) -> None:
        question = make_question(is_updating=True, baseline=make_evidence())
        plan = plan_recording(question, make_result(make_check(), evidence=make_evidence()), reason="for others")
        assert plan == RecordingPlan("append")

    @pytest.mark.parametrize(("ratio", "starts_anew"), [(0.8, True), (1.01, False)])
    def test_drift_counts_from_a_faster_level_on(self, ratio: float, starts_anew: bool) -> None:
        question = make_question(is_updating=True, baseline=make_evidence())
        plan = plan_recording(question, make_result(make_check(), evidence=make_evidence(ratio)))
        assert plan.starts_anew is starts_anew

    def test_a_faster_level_that_the_best_one_beats_leaves_that_what_drift_counts_from(self) -> None:
        anchor = make_recording(HERE, make_evidence(1.0))
        for ratio, starts_anew in ((1.02, False), (0.98, True)):
            question = make_question(is_updating=True, baseline=make_evidence(1.09), anchor=anchor)
            plan = plan_recording(question, make_result(make_check(), evidence=make_evidence(ratio)))
            assert (plan.how, plan.starts_anew) == ("replace", starts_anew)

    @pytest.mark.parametrize(("now", "starts_anew"), [(1019, False), (1001, True), (1000, True), (None, True)])
    def test_so_does_one_that_needs_more_memory(self, now: int | None, starts_anew: bool) -> None:
        before = make_evidence().model_copy(update={"memory": MemoryRecord(candidate_peak_bytes=1000)})
        faster = make_evidence(0.8).model_copy(update={"memory": MemoryRecord(candidate_peak_bytes=now)})
        plan = plan_recording(
            make_question(is_updating=True, baseline=before), make_result(make_check(), evidence=faster)
        )
        assert plan.starts_anew is starts_anew

    def test_slower_times_need_a_reason_also_where_they_are_not_asked_for(self) -> None:
        question = make_question(is_updating=True, baseline=make_evidence(), asked=frozenset({CheckName.SPEEDUP}))
        plan = plan_recording(question, make_result(make_check(), evidence=make_evidence(1.8)))
        assert plan.refusal is not None
        assert plan.refusal.startswith("it is worse than what was accepted: latency +80.0 %; ")

    def test_of_a_model_that_changed_the_ratio_to_eager_needs_none(self) -> None:
        works = [WorkRecord(operators={"aten.mm": count}, elements=1) for count in (2, 1)]
        before = make_evidence().model_copy(update={"work": works[0]})
        question = make_question(is_updating=True, baseline=before, work=works[1])
        plan = plan_recording(question, make_result(make_check(), evidence=make_evidence(1.8)))
        assert (plan.how, plan.refusal, plan.starts_anew) == ("replace", None, True)

    @pytest.mark.parametrize(
        ("seconds", "how", "changes", "starts_anew"),
        [(1e-3, "append", (), False), (0.9e-3, "replace", ("device time -10.0 %",), True)],
    )
    def test_faster_kernels_are_a_level_of_their_own(
        self, seconds: float, how: str, changes: tuple[str, ...], starts_anew: bool
    ) -> None:
        plan = plan_recording(
            make_question(is_updating=True, baseline=with_kernels(1e-3)),
            make_result(make_check(), evidence=with_kernels(seconds)),
        )
        assert plan == RecordingPlan(how, changes, starts_anew=starts_anew)  # type: ignore[arg-type]

    def test_what_was_accepted_as_worse_is_a_level_of_its_own(self) -> None:
        question = make_question(is_updating=True, baseline=make_evidence())
        result = make_result(make_check(), evidence=make_evidence())
        plan = plan_recording(question, result, worse=("6 kernels are launched per call",), reason="a needed copy")
        assert plan == RecordingPlan(
            "replace", ("6 kernels are launched per call",), reason="a needed copy", starts_anew=True
        )

    def test_times_of_another_environment_are_no_level_to_join(self) -> None:
        elsewhere = Elsewhere(make_evidence(), "cpu-other", ("cpu A, here B",))
        question = make_question(
            is_comparing=True, is_recording_missing=True, baseline=make_evidence(), foreign_times=elsewhere
        )
        plan = plan_recording(question, make_result(make_check(), evidence=make_evidence()))
        assert plan == NEW

    def test_times_noisier_than_the_gate_needs_are_refused_with_both_figures(self) -> None:
        noisy = Evidence(timing=tuple(make_process(0.3 * (-1) ** index) for index in range(10)))
        plan = plan_recording(make_question(is_updating=True), make_result(make_check(), evidence=noisy))
        assert plan.how is None
        assert plan.refusal is not None
        assert re.match(
            r"one process's time varies by 15\.\d %, so .* 39\.\d % to be found; the limit of 10\.0 % needs at most 8",
            plan.refusal,
        )

    def test_unsound_times_are_refused(self) -> None:
        hot = tuple(process.model_copy(update={"concerns": {"thermal": "it is hot"}}) for process in make_timing())
        plan = plan_recording(make_question(is_updating=True), make_result(make_check(), evidence=Evidence(timing=hot)))
        assert plan.refusal == "its times are unsound: in 8 of 8 processes it is hot"


class TestProposeRefresh:
    @pytest.mark.parametrize(
        ("name", "timing", "is_proposed"),
        [
            (CheckName.LATENCY, make_timing(0.8), True),
            (CheckName.LATENCY, make_timing(0.8, count=1), False),
            (CheckName.LATENCY, (*make_timing(0.8, count=7), make_process(0.1)), False),
            (CheckName.MEMORY, (), True),
            (CheckName.COMPILE_TIME, (), False),
        ],
    )
    def test_what_is_better_every_time_is_worth_recording(
        self, name: CheckName, timing: tuple[ProcessRecord, ...], is_proposed: bool
    ) -> None:
        question = make_question(is_comparing=True, baseline=make_evidence())
        result = make_result(make_check(name, Outcome.IMPROVED, reason="much better"), evidence=Evidence(timing=timing))
        proposal = f"{CASE_ID} is better than its baseline: much better; keep that with pytest --nnopt-update"
        assert propose_refresh(question, result) == (proposal if is_proposed else None)

    @pytest.mark.parametrize(
        "question",
        [{}, {"is_comparing": True}, {"is_comparing": True, "baseline": make_evidence(), "base": "main"}],
    )
    def test_there_must_be_a_stored_baseline(self, question: dict[str, Any]) -> None:
        result = make_result(make_check(CheckName.MEMORY, Outcome.IMPROVED))
        assert propose_refresh(make_question(**question), result) is None

    def test_what_is_as_good_as_it_was_proposes_nothing(self) -> None:
        question = make_question(is_comparing=True, baseline=make_evidence())
        assert propose_refresh(question, make_result(make_check(CheckName.MEMORY))) is None


class TestCommit:
    @pytest.fixture
    def store(self, tmp_path: Path) -> BaselineStore:
        return BaselineStore(tmp_path)

    def counts(self, store: BaselineStore) -> list[int]:
        baseline = store.read(HERE.name, CASE_ID)
        assert baseline is not None
        return [len(recording.evidence.timing) for recording in baseline.recordings]

    def commit(self, store: BaselineStore, count: int, *, how: str = "append", **environment: Any) -> Path:
        result = make_result(make_check(), evidence=make_evidence(count=count))
        return commit(store, make_message(result, make_environment(**environment), recording=how), revision="0123abc")

    def test_a_recording_says_when_where_and_of_what(self, store: BaselineStore) -> None:
        before = datetime.now(timezone.utc).replace(microsecond=0)
        path = self.commit(store, 2)
        assert path == store.path(HERE.name, CASE_ID)
        baseline = store.read(HERE.name, CASE_ID)
        assert baseline is not None
        (recording,) = baseline.recordings
        assert before <= recording.recorded <= datetime.now(timezone.utc)
        assert recording.recorded.microsecond == 0
        assert (recording.environment, recording.revision) == (HERE.digest, "0123abc")
        assert store.fingerprint(HERE.name, HERE.digest) == HERE

    def test_appended_evidence_joins_the_level(self, store: BaselineStore) -> None:
        for count in (1, 2, 3):
            self.commit(store, count)
        assert self.counts(store) == [1, 2, 3]

    def test_replacing_evidence_stands_alone(self, store: BaselineStore) -> None:
        for how in ("append", "append", "replace"):
            self.commit(store, 2, how=how)
        assert self.counts(store) == [2]

    @pytest.mark.parametrize("how", ["append", "replace"])
    def test_evidence_of_other_conditions_is_kept_apart(self, store: BaselineStore, how: str) -> None:
        self.commit(store, 1, threads=1)
        self.commit(store, 2, how=how)
        self.commit(store, 3, how=how, threads=1)
        levels = {
            threads: level_of(comparable_recordings(store, CASE_ID, make_environment(threads=threads))[0])
            for threads in (1, 2)
        }
        counts = {threads: len(level.timing) for threads, level in levels.items() if level is not None}
        assert counts == {1: 4 if how == "append" else 3, 2: 2}

    @pytest.mark.parametrize("how", ["append", "replace"])
    def test_a_partial_update_loses_nothing_of_the_level(self, store: BaselineStore, how: str) -> None:
        whole = with_output("output")
        commit(store, make_message(make_result(make_check(), evidence=whole), HERE, recording="replace"))
        part = Evidence(compile=make_compile_record(graphs=7))
        commit(store, make_message(make_result(make_check(), evidence=part), HERE, recording=how))
        level = level_of(comparable_recordings(store, CASE_ID, HERE)[0])
        assert level is not None
        assert level.compile == part.compile
        assert level.numerics == whole.numerics
        assert len(level.timing) == len(whole.timing)

    def test_an_accepted_worsening_keeps_its_reason(self, store: BaselineStore) -> None:
        result = make_result(make_check(), evidence=make_evidence())
        commit(store, make_message(result, HERE, recording="replace", reason="exact softmax"))
        baseline = store.read(HERE.name, CASE_ID)
        assert baseline is not None
        assert baseline.recordings[-1].reason == "exact softmax"

    def test_many_small_steps_leave_the_best_level_as_the_anchor(self, store: BaselineStore) -> None:
        for step in range(20):
            result = make_result(make_check(), evidence=make_evidence(1.01**step))
            commit(store, make_message(result, HERE, recording="append"))
        anchor = anchor_of(store.read(HERE.name, CASE_ID), HERE.digest)
        assert anchor is not None
        assert anchor.evidence.timing[0].candidate_to_reference.log_ratio == 0.0

    def test_a_clock_that_goes_backwards_changes_no_order(
        self, store: BaselineStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.commit(store, 1)
        early = datetime(1999, 1, 1, tzinfo=timezone.utc)
        monkeypatch.setattr(recording, "datetime", SimpleNamespace(now=lambda zone: early))
        self.commit(store, 2)
        assert self.counts(store) == [1, 2]
        recordings, _ = comparable_recordings(store, CASE_ID, HERE)
        assert recordings[0].recorded < recordings[1].recorded
        level = level_of(recordings)
        assert level is not None
        assert len(level.timing) == 3

    def test_a_clock_that_is_far_off_records_nothing(
        self, store: BaselineStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        early = datetime(1970, 1, 1, tzinfo=timezone.utc)
        monkeypatch.setattr(recording, "datetime", SimpleNamespace(now=lambda zone: early))
        with pytest.raises(BaselineError, match=r"the clock says 1970-01-01T00:00:00\+00:00, .*; set the clock"):
            self.commit(store, 1)
        assert store.read(HERE.name, CASE_ID) is None

    def test_a_failing_write_leaves_the_level_there_was(
        self, store: BaselineStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.commit(store, 1)
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match="No space left"):
            self.commit(store, 2)
        assert self.counts(store) == [1]
