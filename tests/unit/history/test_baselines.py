from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.baseline.level import comparable_recordings, level_of
from pytest_nnopt.baseline.schema import Evidence, MemoryRecord
from pytest_nnopt.errors import HistoryError
from pytest_nnopt.history.baselines import SharedBaselines
from pytest_nnopt.history.store import HistoryStore, open_history
from pytest_nnopt.model import Outcome
from tests.builders import CASE_ID, make_entry, make_environment, make_evidence

if TYPE_CHECKING:
    from pytest_nnopt.history.schema import Entry

HERE = make_environment()
THERE = make_environment(threads=1)
OTHER_CPU = make_environment(cpu="Intel Xeon 9")


@pytest.fixture
def store(tmp_path: Path) -> HistoryStore:
    return open_history(f"file://{tmp_path}/history", timeout_seconds=30)


def shared(store: HistoryStore, *entries: Entry, runs: int = 3) -> SharedBaselines:
    store.append(entries)
    return SharedBaselines(store, branch="main", runs=runs)


def run(number: int, ratio: float = 1.0, **fields: Any) -> Entry:
    return make_entry(hours=number, **{"evidence": make_evidence(ratio, count=2), **fields})


def level(baselines: SharedBaselines) -> Evidence | None:
    return level_of(comparable_recordings(baselines, CASE_ID, HERE)[0])


def times(evidence: Evidence | None) -> list[float]:
    assert evidence is not None
    return [process.candidate_to_reference.log_ratio for process in evidence.timing]


def ratios(*entries: Entry) -> list[float]:
    return [ratio for entry in entries for ratio in times(entry.evidence)]


def test_the_last_runs_make_the_level(store: HistoryStore) -> None:
    runs = [run(number, 1 + number / 100) for number in range(5)]
    assert times(level(shared(store, *runs))) == ratios(*runs[2:])


def test_what_failed_or_ran_elsewhere_or_on_another_branch_is_not_part_of_it(store: HistoryStore) -> None:
    sound = run(0)
    unsound = [
        run(1, outcome=Outcome.FAILED),
        run(2, has_passed=False),
        run(3, branch="12/merge"),
        run(4, outcome=Outcome.INCONCLUSIVE),
    ]
    elsewhere = make_entry(THERE, hours=5)
    assert times(level(shared(store, sound, *unsound, elsewhere))) == ratios(sound)


def test_an_accepted_level_starts_anew(store: HistoryStore) -> None:
    runs = [run(0), run(1, 1.2, recording="replace", outcome=Outcome.SKIPPED, reason="intended"), run(2, 1.2)]
    assert times(level(shared(store, *runs))) == ratios(*runs[1:])


def test_drift_counts_from_a_level_that_was_accepted_as_worse(store: HistoryStore) -> None:
    before = [run(number) for number in range(8)]
    accepted = run(8, recording="append", starts_anew=True, outcome=Outcome.SKIPPED, reason="more memory")
    baseline = shared(store, *before, accepted, run(9)).read(HERE.name, CASE_ID)
    assert baseline is not None
    assert baseline.anchors == ()
    assert [one.recorded for one in baseline.recordings] == [accepted.recorded, run(9).recorded]


def test_a_partial_run_loses_nothing(store: HistoryStore) -> None:
    memory = MemoryRecord(candidate_peak_bytes=5)
    whole = run(0, evidence=make_evidence(count=2).model_copy(update={"memory": memory}))
    partial = run(1, evidence=Evidence(compile=whole.evidence.compile))
    found = level(shared(store, whole, partial))
    assert found is not None
    assert found.memory == memory
    assert times(found) == ratios(whole)


def test_slow_drift_is_held_against_the_first_runs_of_the_level(store: HistoryStore) -> None:
    runs = [run(number, 1 + number / 100) for number in range(10)]
    baseline = shared(store, *runs).read(HERE.name, CASE_ID)
    assert baseline is not None
    (anchor,) = baseline.anchors
    assert times(anchor.evidence) == ratios(*runs[:3])
    assert [recording.recorded for recording in baseline.recordings][-1] == runs[-1].recorded


def test_a_short_history_has_no_anchor(store: HistoryStore) -> None:
    baseline = shared(store, run(0), run(1)).read(HERE.name, CASE_ID)
    assert baseline is not None
    assert baseline.anchors == ()


def test_other_environments_of_a_case_are_known(store: HistoryStore) -> None:
    baselines = shared(store, make_entry(OTHER_CPU), make_entry(THERE, hours=1), make_entry(hours=2))
    assert baselines.environments_with(CASE_ID) == sorted({OTHER_CPU.name, HERE.name})
    assert baselines.environments() == baselines.environments_with(CASE_ID)
    assert baselines.cases(HERE.name) == [CASE_ID]
    found = baselines.read(HERE.name, CASE_ID)
    assert found is not None
    assert [recording.environment for recording in found.recordings] == [THERE.digest, HERE.digest]
    assert baselines.fingerprint(HERE.name, THERE.digest) == THERE
    assert baselines.fingerprint(HERE.name, OTHER_CPU.digest) is None


def test_another_environment_is_named_with_what_differs(store: HistoryStore) -> None:
    found, reason = comparable_recordings(shared(store, make_entry(THERE)), CASE_ID, HERE)
    assert found == ()
    assert "(threads: 1 → 2); restore them or let 'main' run pytest --nnopt-baseline" in reason


def test_where_there_is_no_run_the_remedy_is_said(store: HistoryStore) -> None:
    baselines = shared(store)
    found, reason = comparable_recordings(baselines, CASE_ID, HERE)
    assert found == ()
    assert "; let 'main' run pytest --nnopt-baseline --nnopt-missing=record once" in reason
    assert f"it is made of {baselines.name}, and one that failed does not count" in reason


class Counting:
    """Counts what is asked of a history."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        self.name = store.name
        self.listed: list[str] = []

    def cases(self) -> list[str]:
        return self._store.cases()

    def labels(self, case_id: str, selection: Any) -> Any:
        self.listed.append(case_id)
        return self._store.labels(case_id, selection)

    def read(self, labels: Any) -> Any:
        return self._store.read(labels)

    def append(self, entries: Sequence[Entry]) -> None:
        self._store.append(entries)


def test_only_the_cases_of_the_tests_are_read_and_each_once(store: HistoryStore) -> None:
    counting = Counting(store)
    ids = [CASE_ID, f"{CASE_ID}#a", f"{CASE_ID}#a#b", f"{CASE_ID}_other"]
    baselines = shared(counting, *(make_entry(case=case_id) for case_id in ids))
    baselines.verify([CASE_ID])
    for case_id in ids[:3]:
        assert baselines.read(HERE.name, case_id) is not None
    assert sorted(counting.listed) == sorted(ids[:3])
    assert [baseline.case for baseline in baselines.read_all(HERE.name)] == sorted(ids[:3])
    baselines.verify()
    assert len(baselines.read_all(HERE.name)) == 4


def test_a_broken_entry_is_found_before_anything_is_measured(store: HistoryStore, tmp_path: Path) -> None:
    baselines = shared(store, run(0))
    next(path for path in tmp_path.rglob("*.json")).write_text("{")
    with pytest.raises(HistoryError, match="is no valid entry"):
        baselines.verify([CASE_ID])
