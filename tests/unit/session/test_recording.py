from __future__ import annotations

import errno
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.baseline.level import comparable_recordings, level_of
from pytest_nnopt.baseline.schema import CompileRecord, Evidence, LeafRecord, OriginRecord
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.errors import OutputError
from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.session.recording import commit, plan_recording
from tests.builders import (
    CASE_ID,
    make_check,
    make_compile_record,
    make_config,
    make_environment,
    make_evidence,
    make_message,
    make_question,
    make_result,
    make_timing,
)

HERE = make_environment()
NEW = ("replace", ("new",))
NOT_AT_ALL = (None, ())


GROWN = "the candidate's error: output: rms error 1, was 0; 20 times that is allowed"


def with_output(path: str, *, inputs: str = "00000000", **figures: float) -> Evidence:
    """Evidence of a model with one output."""
    leaf = LeafRecord(dtype="float32", shape=(2,), **{"norm": 1.0, "candidate_nrmse": 0.0, **figures})
    origin = OriginRecord(inputs=inputs, parameters="00000000", structure="00000000")
    return make_evidence().model_copy(update={"numerics": {path: leaf}, "origin": origin})


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
            ({"is_updating": True, "baseline": make_evidence()}, ("append", ())),
        ],
    )
    def test_evidence_is_recorded_where_it_is_wanted(self, question: dict[str, Any], plan: object) -> None:
        result = make_result(make_check(), evidence=make_evidence())
        assert plan_recording(make_question(**question), result) == plan

    @pytest.mark.parametrize("outcome", Outcome)
    def test_a_failed_case_is_never_recorded(self, outcome: Outcome) -> None:
        result = make_result(make_check(CheckName.NUMERICS, outcome), evidence=make_evidence())
        how, _ = plan_recording(make_question(is_updating=True), result)
        assert (how is None) is outcome.is_failure

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
        how, found = plan_recording(question, make_result(make_check(), evidence=now))
        assert found == changes
        assert how == ("replace" if changes else "append")

    @pytest.mark.parametrize("before", [Evidence(), Evidence(compile=CompileRecord(status="compiled"))])
    def test_parts_that_one_of_them_lacks_are_no_change_of_speed(self, before: Evidence) -> None:
        question = make_question(is_updating=True, baseline=before)
        result = make_result(make_check(), evidence=Evidence(timing=make_timing(2.0)))
        assert plan_recording(question, result) == ("append", ())


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
