from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.baseline.schema import KernelRecord
from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import CheckName
from pytest_nnopt.session import gathering, standby
from pytest_nnopt.session.budget import Budget
from pytest_nnopt.session.gathering import Looks, gather_timing, hired_crew
from pytest_nnopt.session.processes import Launch
from pytest_nnopt.verdict.fitness import find_noise
from tests.builders import make_evidence, make_process, make_question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.verdict import Question


BUDGET = Budget(60.0, "a minute")


@dataclass
class FakeSource:
    """Gives the figures in turn and breaks when they are used up; each takes ``seconds``."""

    log_ratios: list[float]
    seconds: float = 1.0
    time: float = 0.0
    expected: list[int] = field(default_factory=list)

    def sample(self, seed: int, *, expected: int = 1) -> ProcessRecord:
        if seed >= len(self.log_ratios):
            raise MeasurementError("a measuring process hung")
        self.time += self.seconds
        self.expected.append(expected)
        return make_process(self.log_ratios[seed])

    def now(self) -> float:
        return self.time


def make_comparison(recorded_processes: int = 0) -> Question:
    baseline = make_evidence(1.0, count=10)
    return make_question(is_comparing=True, baseline=baseline, recorded_processes=recorded_processes)


def test_what_decides_early_ends_early() -> None:
    source = FakeSource([0.0] * 8)
    gathered = gather_timing(source, make_comparison(), (), budget=BUDGET, now=source.now)
    assert (len(gathered.timing), gathered.problem, gathered.spent_budget) == (1, None, None)


def test_a_recording_says_ahead_how_many_are_coming() -> None:
    source = FakeSource([0.0] * 8)
    gather_timing(source, make_comparison(recorded_processes=3), (), budget=BUDGET, now=source.now)
    assert source.expected == [3, 2, 1]


def test_a_recording_that_will_be_refused_for_its_noise_ends_after_a_few_processes() -> None:
    source = FakeSource([0.0, 1.0] * 5)
    question = make_question(is_updating=True, recorded_processes=10)
    gathered = gather_timing(source, question, (), budget=BUDGET, now=source.now)
    assert (len(gathered.timing), gathered.problem) == (4, None)
    assert source.expected == [10, 9, 8, 7]
    assert find_noise(question, gathered.timing) is not None


def test_the_budget_ends_what_stays_open_but_not_before_the_second_process() -> None:
    source = FakeSource([0.0953] * 8, seconds=100)
    gathered = gather_timing(source, make_comparison(), (), budget=BUDGET, now=source.now)
    assert (len(gathered.timing), gathered.spent_budget) == (2, "a minute")


def test_a_process_that_breaks_leaves_what_was_measured_before_it() -> None:
    source = FakeSource([0.0953])
    gathered = gather_timing(source, make_comparison(), (), budget=BUDGET, now=source.now)
    assert (len(gathered.timing), gathered.problem) == (1, "a measuring process hung")


def test_earlier_attempts_count() -> None:
    source = FakeSource([0.0] * 8)
    earlier = tuple(make_process(0.0) for _ in range(3))
    assert gather_timing(source, make_comparison(), earlier, budget=BUDGET, now=source.now).timing == earlier


def launching(count: float) -> ProcessRecord:
    return make_process(0.0).model_copy(update={"kernels": {"sums": KernelRecord(count=count, seconds=1e-4)}})


class TestLooks:
    """Times are looked at when their plan says so; chance may be asked about after every process."""

    level = make_evidence(1.0, count=10).model_copy(update={"timing": (launching(5),) * 10})
    question = make_question(is_comparing=True, baseline=level, asked=frozenset({CheckName.DEVICE_TIME}))

    @pytest.mark.parametrize(
        ("launches", "wanted"),
        [
            ([5], [1, 1]),
            ([6, 5], [1, 3, 2]),
            ([6, 6, 5], [1, 3, 3, 3]),
            ([6, 6, 6], [1, 3, 3, 3]),
        ],
    )
    def test_the_first_process_that_answers_what_chance_did_ends_it(
        self, launches: list[float], wanted: list[int]
    ) -> None:
        looks, timing = Looks(), [launching(count) for count in launches]
        assert [looks.wanted(self.question, timing[:count]) for count in range(len(timing) + 1)] == wanted

    @pytest.mark.parametrize(
        ("launches", "wanted", "looked_at"),
        [([5, 5, 5, 5], [1, 4, 4, 4, 4], [0, 1, 4]), ([6, 5, 5, 5], [1, 3, 2, 3, 4], [0, 2, 3, 4])],
    )
    def test_between_two_looks_and_while_chance_asks_nobody_looks_at_times(
        self, monkeypatch: pytest.MonkeyPatch, launches: list[float], wanted: list[int], looked_at: list[int]
    ) -> None:
        seen: list[int] = []

        def count_looks(question: Question, timing: Sequence[ProcessRecord]) -> int:
            seen.append(len(timing))
            return {0: 1, 1: 4}.get(len(timing), len(timing))

        monkeypatch.setattr(gathering, "wanted_by_looks", count_looks)
        looks, timing = Looks(), [launching(count) for count in launches]
        assert [looks.wanted(self.question, timing[:count]) for count in range(5)] == wanted
        assert seen == looked_at


@dataclass
class BusyProcess:
    """Writes into its directory until it is ended."""

    directories: list[Path]
    found_at_the_end: list[bool]
    machine_code: list[Path] = field(default_factory=list)

    def enter(self, case_id: str) -> None:
        assert case_id == "case"

    def build(self, cache_dir: Path) -> None:
        self.directories.append(cache_dir)

    def stop(self, *, at_once: bool = False) -> None:
        self.found_at_the_end += [path.is_dir() for path in self.directories]
        self.machine_code += [file for path in self.directories for file in path.glob("triton/*")]

    def __exit__(self, *_: object) -> None:
        self.stop()


def test_on_a_gpu_each_process_has_a_directory_that_outlives_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directories: list[Path] = []
    found: list[bool] = []
    machine_code: list[Path] = []
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "sums.cubin").write_bytes(b"code")
    monkeypatch.setattr(standby, "MeasuringProcess", lambda *_, **__: BusyProcess(directories, found, machine_code))
    environment = Environment({"device": "cuda"})
    with hired_crew(Launch((), tmp_path), "test", "case", environment, lambda: tmp_path) as crew:
        crew.prepare(2)
        crew.begin()
    assert found
    assert all(found)
    assert tmp_path not in directories
    assert not any(path.exists() for path in directories)
    assert {file.name for file in machine_code} == {"sums.cubin"}


def test_what_stands_by_for_another_test_rests_while_one_measures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log: list[str] = []

    class Process(BusyProcess):
        def wait_until_ready(self, environment: Environment) -> None:
            pass

        def measure(self, seed: int) -> ProcessRecord:
            log.append("measures")
            return make_process(0.0)

        def pause(self) -> None:
            log.append("rests")

        def resume(self) -> None:
            log.append("goes on")

    monkeypatch.setattr(standby, "MeasuringProcess", lambda *_, **__: Process([], []))
    kept = standby.Standby(Launch((), tmp_path))
    kept.call("another", {})
    with hired_crew(
        Launch((), tmp_path), "test", "case", Environment({"device": "cuda"}), lambda: tmp_path, standby=kept
    ) as crew:
        crew.sample(0)
    assert log == ["rests", "measures", "goes on"]
