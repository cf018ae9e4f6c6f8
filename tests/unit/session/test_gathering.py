from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session.gathering import gather_timing
from pytest_nnopt.verdict.fitness import find_noise
from tests.builders import make_evidence, make_process, make_question

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.verdict import Question


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
    timing, problem = gather_timing(source, make_comparison(), (), budget_seconds=60, now=source.now)
    assert (len(timing), problem) == (1, None)


def test_a_recording_says_ahead_how_many_are_coming() -> None:
    source = FakeSource([0.0] * 8)
    gather_timing(source, make_comparison(recorded_processes=3), (), budget_seconds=60, now=source.now)
    assert source.expected == [3, 2, 1]


def test_a_recording_that_will_be_refused_for_its_noise_ends_after_a_few_processes() -> None:
    source = FakeSource([0.0, 1.0] * 5)
    question = make_question(is_updating=True, recorded_processes=10)
    timing, problem = gather_timing(source, question, (), budget_seconds=60, now=source.now)
    assert (len(timing), problem) == (4, None)
    assert find_noise(question, timing) is not None


def test_the_budget_ends_what_stays_open_but_not_before_the_second_process() -> None:
    source = FakeSource([0.0953] * 8, seconds=100)
    timing, problem = gather_timing(source, make_comparison(), (), budget_seconds=60, now=source.now)
    assert (len(timing), problem) == (2, None)


def test_a_process_that_breaks_leaves_what_was_measured_before_it() -> None:
    source = FakeSource([0.0953])
    timing, problem = gather_timing(source, make_comparison(), (), budget_seconds=60, now=source.now)
    assert (len(timing), problem) == (1, "a measuring process hung")


def test_earlier_attempts_count() -> None:
    source = FakeSource([0.0] * 8)
    earlier = tuple(make_process(0.0) for _ in range(3))
    timing, _ = gather_timing(source, make_comparison(), earlier, budget_seconds=60, now=source.now)
    assert timing == earlier
