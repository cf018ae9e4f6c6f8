from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.baseline.level import (
    MOST_PROCESSES,
    comparable_recordings,
    level_of,
    levels_of,
    unused_recordings,
    with_recording,
)
from pytest_nnopt.baseline.schema import CaseBaseline, Evidence, LeafRecord, MemoryRecord, Recording
from pytest_nnopt.baseline.store import BaselineStore
from tests.builders import (
    CASE_ID,
    make_baseline,
    make_compile_record,
    make_environment,
    make_evidence,
    make_process,
    make_recording,
    make_timing,
)

HERE = make_environment()
OTHER_THREADS = make_environment(threads=1)


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path)


def test_a_missing_baseline_is_explained_with_the_remedy(store: BaselineStore) -> None:
    assert comparable_recordings(store, CASE_ID, HERE) == (
        (),
        f"no baseline for '{CASE_ID}' on 'cpu-amd-epyc-2c-torch2.13'; record one with pytest --nnopt-update",
    )


def test_a_baseline_of_another_machine_is_mentioned(store: BaselineStore) -> None:
    elsewhere = make_environment(cpu="Other")
    store.write(elsewhere, make_baseline(elsewhere))
    recordings, why = comparable_recordings(store, CASE_ID, HERE)
    assert recordings == ()
    assert "(there are baselines for 'cpu-other-2c-torch2.13' (cpu: Other → AMD EPYC)); record one" in why


def test_recordings_of_the_same_conditions_are_comparable(store: BaselineStore) -> None:
    baseline = make_baseline(HERE, make_evidence(), make_evidence(1.1))
    store.write(HERE, baseline)
    recordings, why = comparable_recordings(store, CASE_ID, HERE)
    assert (len(recordings), why) == (2, "")


def test_recordings_of_other_conditions_are_left_out(store: BaselineStore) -> None:
    mixed = CaseBaseline(case=CASE_ID, recordings=(make_recording(OTHER_THREADS), make_recording(HERE)))
    store.write(HERE, mixed)
    recordings, why = comparable_recordings(store, CASE_ID, HERE)
    assert [recording.environment for recording in recordings] == [HERE.digest]
    assert why == ""


def test_other_conditions_are_named(store: BaselineStore) -> None:
    store.write(OTHER_THREADS, make_baseline(OTHER_THREADS))
    recordings, why = comparable_recordings(store, CASE_ID, HERE)
    assert recordings == ()
    assert why == (
        f"the baseline of '{CASE_ID}' on 'cpu-amd-epyc-2c-torch2.13' was recorded under other conditions "
        "(threads: 1 → 2); restore them or record one with pytest --nnopt-update"
    )


def test_a_missing_fingerprint_is_said(store: BaselineStore) -> None:
    store.write(OTHER_THREADS, make_baseline(OTHER_THREADS))
    (store.root / HERE.name / "environment.json").unlink()
    assert "(its fingerprint is missing from environment.json)" in comparable_recordings(store, CASE_ID, HERE)[1]


def test_what_is_recorded_and_not_compared_with_is_named(store: BaselineStore) -> None:
    assert unused_recordings(store, CASE_ID, HERE) == ""
    elsewhere = make_environment(cpu="Other")
    store.write(elsewhere, make_baseline(elsewhere))
    said = "there are baselines for 'cpu-other-2c-torch2.13' (cpu: Other → AMD EPYC)"
    assert unused_recordings(store, CASE_ID, HERE) == said
    store.write(OTHER_THREADS, make_baseline(OTHER_THREADS))
    said = "what is there was recorded under other conditions (threads: 1 → 2)"
    assert unused_recordings(store, CASE_ID, HERE) == said


def test_no_recordings_make_no_level() -> None:
    assert level_of([]) is None


def test_a_level_is_the_last_recording_with_the_times_of_all() -> None:
    first = make_evidence(1.0, count=3, compiled=make_compile_record(graphs=1))
    last = make_evidence(2.0, count=2, compiled=make_compile_record(graphs=7))
    level = level_of([make_recording(HERE, first), make_recording(HERE, last)])
    assert level is not None
    assert level.timing == (*first.timing, *last.timing)
    assert level.compile == last.compile


def test_a_level_holds_the_newest_processes_alone() -> None:
    old, new = make_evidence(1.0, count=MOST_PROCESSES), make_evidence(2.0, count=3)
    level = level_of([make_recording(HERE, old), make_recording(HERE, new)])
    assert level is not None
    assert len(level.timing) == MOST_PROCESSES
    assert level.timing[-3:] == new.timing


def test_each_environment_of_a_case_has_a_level() -> None:
    recordings = (
        make_recording(OTHER_THREADS, make_evidence(count=1)),
        make_recording(HERE, make_evidence(count=2)),
        make_recording(OTHER_THREADS, make_evidence(count=3)),
    )
    levels = levels_of(CaseBaseline(case=CASE_ID, recordings=recordings))
    assert [len(level.timing) for level in levels] == [4, 2]


WHOLE = make_evidence(count=4).model_copy(
    update={
        "numerics": {"output": LeafRecord(dtype="float32", shape=(2,))},
        "memory": MemoryRecord(candidate_peak_bytes=1024),
    }
)
OTHER_PARTS: dict[str, Any] = {
    "compile": make_compile_record(graphs=7),
    "numerics": {"output[0]": LeafRecord(dtype="float32", shape=(3,))},
    "memory": MemoryRecord(candidate_peak_bytes=2048),
    "timing": make_timing(2.0, count=3),
}


def sorted_names(names: set[str]) -> str:
    return "+".join(sorted(names)) or "nothing"


class TestWithRecording:
    def join(self, *evidence: Evidence, replaces: bool = False) -> tuple[Recording, ...]:
        """Accept one piece of evidence after the other; the last one replaces or joins the level."""
        *before, last = (make_recording(HERE, one) for one in evidence)
        recordings: tuple[Recording, ...] = ()
        for recording in before:
            recordings = with_recording(recordings, recording, replaces=False)
        return with_recording(recordings, last, replaces=replaces)

    @pytest.mark.parametrize("replaces", [False, True])
    def test_a_first_recording_stands_alone(self, replaces: bool) -> None:
        assert self.join(WHOLE, replaces=replaces) == (make_recording(HERE, WHOLE),)

    @pytest.mark.parametrize("replaces", [False, True])
    @pytest.mark.parametrize("measured", [set(), *({name} for name in OTHER_PARTS), set(OTHER_PARTS)], ids=sorted_names)
    def test_what_was_not_measured_is_taken_from_the_level_before(self, measured: set[str], replaces: bool) -> None:
        now = Evidence(**{name: OTHER_PARTS[name] for name in measured})
        level = level_of(self.join(WHOLE, now, replaces=replaces))
        assert level is not None
        for name in ("compile", "numerics", "memory"):
            assert getattr(level, name) == (OTHER_PARTS[name] if name in measured else getattr(WHOLE, name))
        before = () if replaces and "timing" in measured else WHOLE.timing
        assert level.timing == (*before, *now.timing)

    def test_a_part_comes_from_the_newest_recording_that_has_it(self) -> None:
        newer = Evidence(compile=make_compile_record(graphs=7))
        level = level_of(self.join(WHOLE, newer, Evidence(timing=make_timing(count=1))))
        assert level is not None
        assert (level.compile, level.numerics) == (newer.compile, WHOLE.numerics)

    def test_earlier_recordings_keep_their_times_alone(self) -> None:
        first, second, last = self.join(WHOLE, WHOLE, WHOLE)
        assert first.evidence == second.evidence == Evidence(timing=WHOLE.timing)
        assert last.evidence == WHOLE

    @pytest.mark.parametrize(("replaces", "is_kept"), [(False, True), (True, False)])
    def test_another_compilation_is_not_compared_with_what_was_compiled_before(
        self, replaces: bool, is_kept: bool
    ) -> None:
        compiled = make_process().model_copy(update={"code": {"generated_kernels": 6}})
        before, now = Evidence(timing=(compiled,)), Evidence(compile=make_compile_record(graphs=7))
        level = level_of(self.join(before, now, replaces=replaces))
        assert level is not None
        assert level.timing == (compiled if is_kept else make_process(),)

    def test_a_recording_without_times_leaves_no_trace_once_it_is_not_the_newest(self) -> None:
        recordings = self.join(WHOLE, Evidence(compile=make_compile_record(graphs=7)), WHOLE)
        assert [len(recording.evidence.timing) for recording in recordings] == [4, 4]

    @pytest.mark.parametrize(
        ("counts", "kept"),
        [
            ([8, 8], [8, 8]),
            ([8, 8, 8], [8, 8, 8]),
            ([8, 8, 8, 8], [8, 8, 8]),
            ([10, 10, 10], [10, 10]),
            ([8, MOST_PROCESSES], [MOST_PROCESSES]),
            ([8, MOST_PROCESSES + 1], [MOST_PROCESSES + 1]),
            ([MOST_PROCESSES, 1], [MOST_PROCESSES, 1]),
            ([MOST_PROCESSES, 1, 0], [MOST_PROCESSES, 1, 0]),
        ],
    )
    def test_no_more_recordings_are_kept_than_the_level_needs(self, counts: list[int], kept: list[int]) -> None:
        recordings = self.join(*(make_evidence(count=count) for count in counts))
        assert [len(recording.evidence.timing) for recording in recordings] == kept

    def test_other_environments_recordings_stay_as_they_are(self) -> None:
        others = tuple(make_recording(OTHER_THREADS, WHOLE) for _ in range(2))
        mine = make_recording(HERE, make_evidence(1.0)), make_recording(HERE, make_evidence(2.0))
        joined = with_recording((others[0], mine[0], others[1]), mine[1], replaces=False)
        assert joined[:2] == others
        assert len(joined) == 4
        assert with_recording((*others, mine[0]), mine[1], replaces=True) == (*others, mine[1])
