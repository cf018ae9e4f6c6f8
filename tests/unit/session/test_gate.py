from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.baseline.schema import CaseBaseline, Evidence, ProcessRecord, WorkRecord
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import BaselineError, ConfigError
from pytest_nnopt.history.baselines import SharedBaselines
from pytest_nnopt.history.store import open_history
from pytest_nnopt.model import CheckName
from pytest_nnopt.session.gate import Gate, Markers, open_gate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR, DEFAULT_GPU_PRIOR
from tests.builders import (
    CASE_ID,
    make_baseline,
    make_entry,
    make_environment,
    make_evidence,
    make_process,
    make_recording,
)

if TYPE_CHECKING:
    from pytest_nnopt.history.schema import Entry
    from pytest_nnopt.verdict import Question

HERE = make_environment()


def open_(root: Path, purpose: str = "check", **command_line: Any) -> Gate:
    """Open a gate that knows the test."""
    gate = open_gate(root, command_line, purpose)
    gate.prepare({CASE_ID: {"limits": [{"latency": "3%"}]}})
    return gate


def ask(root: Path, purpose: str = "check", environment: Environment = HERE, /, **command_line: Any) -> Question:
    return open_(root, purpose, **command_line).question(CASE_ID, CASE_ID, environment)


class TestOpenGate:
    def test_settings_come_from_pyproject_and_the_command_line(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text('[tool.nnopt]\nbaseline_dir = "levels"\nbudget = "5s"')
        gate = open_gate(tmp_path, {"budget": "7s", "device": None}, "compare")
        assert gate.store.root == tmp_path / "levels"
        assert gate.settings.budget == 7.0

    def test_a_wrong_setting_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="command line: budget"):
            open_gate(tmp_path, {"budget": "soon"}, "check")


class TestPrepare:
    def test_every_wrong_marker_is_named(self, tmp_path: Path) -> None:
        gate = open_gate(tmp_path, {}, "check")
        markers: dict[str, Markers] = {
            "test_a": {"speedup": [{"max": 2}]},
            "test_b": {},
            "test_c": {"limits": [{"memory": "lots"}]},
        }
        with pytest.raises(ConfigError, match=r"(?s)test_a: nnopt_speedup: .*test_c: nnopt_limits: "):
            gate.prepare(markers)

    @pytest.mark.parametrize("purpose", ["compare", "update"])
    def test_a_broken_baseline_is_an_error(self, tmp_path: Path, purpose: str) -> None:
        break_baseline(tmp_path)
        with pytest.raises(BaselineError, match="cannot be read"):
            open_(tmp_path, purpose)

    def test_a_run_that_reads_no_baseline_minds_no_broken_one(self, tmp_path: Path) -> None:
        break_baseline(tmp_path)
        question = ask(tmp_path)
        assert (question.baseline, question.missing_reason) == (None, "")


def break_baseline(root: Path) -> None:
    store = open_gate(root, {}, "check").store
    store.write(HERE, make_baseline(HERE)).write_text("broken")


class TestQuestion:
    @pytest.mark.parametrize(
        ("purpose", "is_comparing", "is_updating"),
        [("check", False, False), ("compare", True, False), ("update", False, True)],
    )
    def test_the_purpose_decides_what_baselines_are_for(
        self, tmp_path: Path, purpose: str, is_comparing: bool, is_updating: bool
    ) -> None:
        question = ask(tmp_path, purpose)
        assert (question.is_comparing, question.is_updating) == (is_comparing, is_updating)
        assert question.config.limits.latency == 0.03

    def test_all_checks_are_asked_unless_some_are_named(self, tmp_path: Path) -> None:
        assert ask(tmp_path).asked == frozenset(CheckName)
        assert ask(tmp_path, only=("compile",)).asked == {CheckName.COMPILE}

    def test_the_false_alarm_rate_is_that_of_the_settings(self, tmp_path: Path) -> None:
        assert ask(tmp_path, false_alarms="2%").plan.false_alarms == 0.02

    def test_in_a_large_suite_each_case_may_err_less(self, tmp_path: Path) -> None:
        gate = open_gate(tmp_path, {"false_alarms": "2%"}, "check")
        gate.prepare({CASE_ID: {}, **{f"{CASE_ID}[{number}]": {} for number in range(99)}})
        assert 0 < gate.question(CASE_ID, CASE_ID, HERE).plan.false_alarms < 0.01

    def test_the_level_is_that_of_the_environment(self, tmp_path: Path) -> None:
        open_(tmp_path).store.write(HERE, make_baseline(HERE, make_evidence(count=2), make_evidence(count=3)))
        question = ask(tmp_path, "compare")
        assert question.baseline is not None
        assert len(question.baseline.timing) == 5
        elsewhere = ask(tmp_path, "compare", make_environment(threads=1))
        assert elsewhere.baseline is None
        assert "recorded under other conditions (threads: 2 → 1)" in elsewhere.missing_reason

    @pytest.mark.parametrize(
        ("purpose", "settings", "has_level", "processes"),
        [
            ("check", {}, False, 0),
            ("compare", {}, False, 0),
            ("compare", {"missing": "record"}, False, 3),
            ("compare", {"missing": "record"}, True, 0),
            ("update", {}, False, 10),
            ("update", {}, True, 10),
        ],
    )
    def test_as_many_processes_are_recorded_as_the_run_is_for(
        self, tmp_path: Path, purpose: str, settings: dict[str, Any], has_level: bool, processes: int
    ) -> None:
        if has_level:
            open_(tmp_path).store.write(HERE, make_baseline(HERE))
        assert ask(tmp_path, purpose, **settings).recorded_processes == processes

    def test_a_missing_baseline_takes_no_more_processes_than_an_update(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text("[tool.nnopt]\nprocesses = 2")
        assert ask(tmp_path, "compare", missing="record").recorded_processes == 2
        assert ask(tmp_path, "update").recorded_processes == 2


def timing_of(baseline: CaseBaseline) -> tuple[ProcessRecord, ...]:
    return baseline.recordings[0].evidence.timing


class TestPrior:
    def fill(self, root: Path, cases: int) -> None:
        """Record cases whose processes vary by a tenth of a percent."""
        for number in range(cases):
            timing = tuple(make_process(0.001 * sign * (1 + number / 10)) for sign in (-1, 1, -1, 1))
            open_(root).store.write(HERE, make_baseline(HERE, Evidence(timing=timing), case=f"{CASE_ID}[{number}]"))

    def test_little_evidence_leaves_the_devices_default(self, tmp_path: Path) -> None:
        gpu = Environment({"device": "cuda", "gpu": "NVIDIA H200", "torch": "2.11"})
        self.fill(tmp_path, 4)
        assert ask(tmp_path, "compare").prior == DEFAULT_CPU_PRIOR
        assert ask(tmp_path, "compare", gpu).prior == DEFAULT_GPU_PRIOR

    def test_many_baselines_teach_the_variance_of_an_environment(self, tmp_path: Path) -> None:
        self.fill(tmp_path, 6)
        prior = ask(tmp_path, "compare").prior
        assert math.sqrt(prior.variance) == pytest.approx(0.0015, rel=0.3)

    def test_levels_of_different_conditions_are_no_variance(self, tmp_path: Path) -> None:
        self.fill(tmp_path, 6)
        before = ask(tmp_path, "compare").prior
        store, elsewhere = open_(tmp_path).store, make_environment(threads=1)
        for baseline in store.read_all(HERE.name):
            timing = tuple(
                make_process(5.0 + process.candidate_to_reference.log_ratio) for process in timing_of(baseline)
            )
            other = make_recording(elsewhere, Evidence(timing=timing))
            store.write(elsewhere, CaseBaseline(case=baseline.case, recordings=(*baseline.recordings, other)))
        assert ask(tmp_path, "compare").prior.variance == pytest.approx(before.variance, rel=0.1)

    def test_a_run_that_reads_no_baselines_learns_nothing(self, tmp_path: Path) -> None:
        self.fill(tmp_path, 6)
        assert ask(tmp_path).prior == DEFAULT_CPU_PRIOR

    def test_the_prior_is_the_same_throughout_a_run(self, tmp_path: Path) -> None:
        gate = open_(tmp_path, "update")
        before = gate.question(CASE_ID, CASE_ID, HERE).prior
        self.fill(tmp_path, 6)
        assert gate.question(CASE_ID, CASE_ID, HERE).prior is before


class TestRecorded:
    def test_what_may_be_compared_with_comes_with_its_fingerprint(self, tmp_path: Path) -> None:
        gate = open_(tmp_path, "compare")
        gate.store.write(HERE, make_baseline(HERE))
        recordings, recorded = gate.recorded(CASE_ID, HERE)
        assert (len(recordings), recorded) == (1, HERE)

    def test_where_nothing_may_the_fingerprint_shows_what_differs(self, tmp_path: Path) -> None:
        gate, there = open_(tmp_path, "compare"), make_environment(threads=1)
        gate.store.write(there, make_baseline(there))
        assert gate.recorded(CASE_ID, HERE) == ((), there)

    def test_without_a_baseline_there_is_nothing(self, tmp_path: Path) -> None:
        assert open_(tmp_path, "compare").recorded(CASE_ID, HERE) == ((), None)

    def test_a_run_that_reads_no_baseline_has_none(self, tmp_path: Path) -> None:
        gate = open_(tmp_path)
        gate.store.write(HERE, make_baseline(HERE))
        assert gate.recorded(CASE_ID, HERE) == ((), None)


class TestBudget:
    def make_gate(self, tmp_path: Path, **settings: Any) -> Gate:
        return open_gate(tmp_path, settings, "check")

    def test_a_case_gets_its_own_budget_while_the_suite_has_one_left(self, tmp_path: Path) -> None:
        gate, clock = (
            self.make_gate(tmp_path, budget="20s", suite_budget="30s"),
            iter([0.0, 15.0, 15.0, 40.0, 40.0, 41.0]),
        )
        found = []
        for _ in range(3):
            with gate.spending(lambda: next(clock)) as budget:
                found.append((budget.seconds, budget.name))
        of_suite = "the suite's budget of 30 s (--nnopt-suite-budget)"
        assert found == [(20.0, "the case's budget of 20 s (--nnopt-budget)"), (15.0, of_suite), (0.0, of_suite)]

    def test_a_recording_may_take_all_that_the_suite_has_left(self, tmp_path: Path) -> None:
        gate = self.make_gate(tmp_path, budget="20s", suite_budget="30s")
        with gate.spending(iter([0.0, 25.0]).__next__, is_recording=True) as budget:
            assert budget.seconds == 30.0
        with gate.spending(iter([25.0, 26.0]).__next__, is_recording=True) as budget:
            assert budget.seconds == 5.0

    def test_without_a_suites_budget_every_case_gets_its_own(self, tmp_path: Path) -> None:
        gate, clock = self.make_gate(tmp_path, budget="20s"), iter([0.0, 1000.0, 1000.0, 1001.0])
        for _ in range(2):
            with gate.spending(lambda: next(clock)) as budget:
                assert budget.seconds == 20.0


class FakeStandby:
    """Stands for what keeps a process at hand; remembers what was asked of it."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.variables: list[Mapping[str, str]] = []
        self.kept_for: list[tuple[str | None, ...]] = []
        self.rests = 0

    def call(self, test_id: str, variables: Mapping[str, str]) -> None:
        self.called.append(test_id)
        self.variables.append(variables)

    def dismiss(self, *, unless_for: tuple[str | None, ...] = ()) -> None:
        self.kept_for.append(unless_for)

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        self.rests += 1
        yield


NEXT = "test_a.py::test_next"


class TestStandby:
    @staticmethod
    def open_with_standby(root: Path, purpose: str = "compare", **given: Any) -> tuple[Gate, FakeStandby]:
        """Open a gate that knows two tests and keeps a process at hand."""
        gate, standby = open_gate(root, {"device": "cuda:0", **given}, purpose), FakeStandby()
        gate.prepare({CASE_ID: {}, NEXT: {}})
        gate.standby = standby  # type: ignore[assignment]
        return gate, standby

    @classmethod
    def called(cls, root: Path, purpose: str = "compare", **given: Any) -> list[str]:
        """Return for which tests a process is called when a case begins."""
        gate, standby = cls.open_with_standby(root, purpose, **given)
        gate.begin_test(CASE_ID, None, {})
        return standby.called

    @pytest.mark.parametrize("purpose", ["compare", "update"])
    def test_a_case_that_will_be_timed_on_a_gpu_has_a_process_at_hand(self, tmp_path: Path, purpose: str) -> None:
        assert self.called(tmp_path, purpose) == [CASE_ID]
        assert self.called(tmp_path, purpose, only=["device_time"]) == [CASE_ID]

    @pytest.mark.parametrize("device", [None, "cpu"])
    def test_elsewhere_it_has_none(self, tmp_path: Path, device: str | None) -> None:
        assert not self.called(tmp_path, device=device)

    def test_what_is_not_timed_has_none(self, tmp_path: Path) -> None:
        assert not self.called(tmp_path, "check")
        assert not self.called(tmp_path, only=["numerics"])

    def test_a_declared_speedup_is_timed_without_any_baseline(self, tmp_path: Path) -> None:
        gate, standby = self.open_with_standby(tmp_path, "check")
        gate.prepare({CASE_ID: {"speedup": [{"min": 1.1}]}})
        gate.begin_test(CASE_ID, None, {})
        assert standby.called == [CASE_ID]

    def test_the_next_case_has_one_once_it_is_known_where_cases_run(self, tmp_path: Path) -> None:
        gate, standby = self.open_with_standby(tmp_path, device=None)
        between = {"FLAG": "0"}
        gate.begin_test(CASE_ID, NEXT, between)
        between["FLAG"] = "of the case"
        gate.look_to_next_test("cuda")
        assert standby.called == [NEXT]
        assert standby.variables == [{"FLAG": "0"}]

    def test_behind_the_last_test_and_before_one_without_a_case_there_is_none(self, tmp_path: Path) -> None:
        gate, standby = self.open_with_standby(tmp_path)
        for upcoming in (None, "test_a.py::test_without_a_pair"):
            gate.begin_test("test_a.py::test_without_a_pair", upcoming, {})
            gate.look_to_next_test("cuda")
        assert not standby.called

    def test_one_for_neither_this_test_nor_the_next_is_dismissed(self, tmp_path: Path) -> None:
        gate, standby = self.open_with_standby(tmp_path)
        gate.begin_test(CASE_ID, NEXT, {})
        assert standby.kept_for == [(CASE_ID, NEXT)]

    def test_neither_ranks_nor_what_runs_beside_a_base_nor_crowded_workers_have_one(self, tmp_path: Path) -> None:
        gate, standby = self.open_with_standby(tmp_path)
        gate.prepare({CASE_ID: {"ranks": [{"count": 2}]}})
        gate.begin_test(CASE_ID, None, {})
        gate.base = object()  # type: ignore[assignment]
        gate.begin_test(NEXT, None, {})
        gate.base, gate.crowded = None, "two workers for one GPU"
        gate.begin_test(NEXT, None, {})
        assert not standby.called

    def test_it_rests_where_a_test_asks_for_times_itself(self, tmp_path: Path) -> None:
        gate, standby = self.open_with_standby(tmp_path)
        with gate.all_at_rest():
            assert standby.rests == 1

    def test_a_run_that_starts_no_processes_has_none(self, tmp_path: Path) -> None:
        gate = open_(tmp_path, "compare", device="cuda")
        gate.begin_test(CASE_ID, CASE_ID, {})
        gate.look_to_next_test("cuda")
        with gate.all_at_rest():
            assert gate.standby is None


class TestSharedHistory:
    @staticmethod
    def ask(root: Path, *entries: Entry, purpose: str = "compare", **given: Any) -> Question:
        url = f"file://{root}/history"
        open_history(url, timeout_seconds=30).append(entries)
        usual = {"history": url, "baseline_from": "history", "history_append": "never"}
        return ask(root, purpose, HERE, **{**usual, **given})

    def test_the_last_runs_are_the_level(self, tmp_path: Path) -> None:
        entry = make_entry(HERE)
        question = self.ask(tmp_path, entry)
        assert question.baseline == entry.evidence
        assert not (tmp_path / "baselines").exists()

    def test_without_one_the_reason_names_the_history(self, tmp_path: Path) -> None:
        question = self.ask(tmp_path, make_entry(HERE, has_passed=False))
        assert question.baseline is None
        assert f"'main' in file://{tmp_path}/history" in question.missing_reason

    def test_what_is_missing_is_recorded_only_where_runs_are_added(self, tmp_path: Path) -> None:
        assert not self.ask(tmp_path, missing="record").is_recording_missing
        question = self.ask(tmp_path, missing="record", history_append="always")
        assert question.is_recording_missing
        assert question.recorded_processes == 3

    def test_drift_counts_from_the_first_runs_of_the_level(self, tmp_path: Path) -> None:
        entries = [make_entry(HERE, hours=number, evidence=make_evidence(1 + number / 50)) for number in range(4)]
        question = self.ask(tmp_path, *entries, **{})
        assert question.anchor is None
        gate = open_gate(tmp_path, {"history": f"file://{tmp_path}/history", "baseline_from": "history"}, "compare")
        gate.shared = SharedBaselines(
            open_history(f"file://{tmp_path}/history", timeout_seconds=30), branch="main", runs=2
        )
        gate.prepare({CASE_ID: {}})
        anchor = gate.question(CASE_ID, CASE_ID, HERE).anchor
        assert anchor is not None
        assert len(anchor.evidence.timing) == 16

    def test_a_plain_run_does_not_ask_it(self, tmp_path: Path) -> None:
        gate = open_gate(tmp_path, {"history": "file:///proc/nowhere", "history_append": "always"}, "check")
        assert (gate.shared, gate.sharing) == (None, None)

    def test_a_broken_entry_ends_the_run_before_anything_is_measured(self, tmp_path: Path) -> None:
        self.ask(tmp_path, make_entry(HERE))
        next((tmp_path / "history").rglob("*.json")).write_text("{")
        with pytest.raises(BaselineError, match="is no valid entry"):
            self.ask(tmp_path)


@pytest.mark.parametrize(("match", "has_work"), [("compatible", True), ("any", False)])
def test_times_of_another_environment_come_with_the_work_that_tells_whether_the_model_changed(
    tmp_path: Path, match: str, has_work: bool
) -> None:
    work = WorkRecord(operators={"aten.mm": 2}, elements=100)
    there, here = make_environment(cores=4), make_environment(cores=2)
    store = BaselineStore(tmp_path / "baselines")
    recording = make_recording(there, make_evidence().model_copy(update={"work": work}))
    store.write(there, CaseBaseline(case=CASE_ID, recordings=(recording,)))
    (tmp_path / "pyproject.toml").write_text(f'[tool.nnopt.match]\ntimes = "{match}"\n', encoding="utf-8")
    gate = open_gate(tmp_path, {}, "compare")
    gate.prepare({CASE_ID: {}})
    question = gate.question(CASE_ID, CASE_ID, here)
    assert question.foreign_times is not None
    assert question.baseline is not None
    assert len(question.baseline.timing) == len(recording.evidence.timing)
    assert question.baseline.work == (work if has_work else None)
    assert question.baseline.compile is None
