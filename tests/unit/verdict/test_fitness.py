from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.measurement.machine import ConcernKind
from pytest_nnopt.torch_backend.nvml import GpuState, Neighbours, find_gpu_concerns
from pytest_nnopt.verdict import wanted_processes
from pytest_nnopt.verdict.fitness import find_noise, find_unsoundness, processes_to_record
from tests.builders import make_config, make_process, make_question, make_timing
from tests.fakes import FakeGpu

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord


def neighbours(percent: int | None) -> Neighbours:
    there = Neighbours(FakeGpu())
    there.pids, there.busiest_percent = {1, 2}, percent
    return there


def concerns_of(state: GpuState, there: Neighbours) -> dict[str, str]:
    return {concern.kind.value: concern.text for concern in find_gpu_concerns(state, there)}


QUIET_GPU = GpuState(clock_mhz=1980, event_reasons=0, foreign=frozenset())
HOT = concerns_of(replace(QUIET_GPU, event_reasons=0x80), Neighbours(FakeGpu()))
HOT_HOST = {ConcernKind.THERMAL.value: "cores slowed down"}
SHARED = concerns_of(QUIET_GPU, neighbours(percent=None))
HELD = concerns_of(QUIET_GPU, neighbours(percent=1))
BUSY_HOST = {"load": "other processes use 80 % of the cores", "stolen": "3 %"}


def reason(*concerns: dict[str, str]) -> str | None:
    return find_unsoundness([make_process().model_copy(update={"concerns": one}) for one in concerns])


@pytest.mark.parametrize("concern", [HOT, HOT_HOST, SHARED])
def test_throttling_and_others_on_the_gpu_make_times_unsound(concern: dict[str, str]) -> None:
    (text,) = concern.values()
    assert reason(concern, {}) == f"in 1 of 2 processes {text}"
    assert reason(concern, concern, {}) == f"in 2 of 3 processes {text}"
    assert reason(concern, {}, {}) is None


def test_each_process_counts_once_by_what_is_worst() -> None:
    both = reason(HOT | SHARED, SHARED, {}, {})
    assert both == f"in 1 of 4 processes {HOT['gpu_thermal']}, in 1 of 4 processes {SHARED['gpu_shared']}"


@pytest.mark.parametrize("concern", [{}, BUSY_HOST])
def test_load_on_the_host_is_noise_and_no_more(concern: dict[str, str]) -> None:
    assert reason(concern, concern) is None


def test_a_process_that_leaves_the_gpu_alone_leaves_times_sound() -> None:
    assert "gpu_held" in HELD
    assert reason(HELD, HELD) is None


def test_nothing_measured_is_neither_unsound_nor_noisy() -> None:
    assert reason() is None
    assert find_noise(make_question(), ()) is None


def test_quiet_times_are_fit_for_the_gate() -> None:
    assert find_noise(make_question(make_config(latency=0.05)), make_timing()) is None


def test_the_same_noise_may_be_too_much_for_a_narrow_limit() -> None:
    times = tuple(make_process(0.01 * (-1) ** index) for index in range(10))
    assert find_noise(make_question(make_config(latency=0.1)), times) is None
    text = find_noise(make_question(make_config(latency=0.005)), times)
    assert text is not None
    assert "the limit of 0.50 % needs at most 0.4" in text
    assert 'nnopt_limits(latency="1%")' in text


def test_the_limit_that_is_named_would_do() -> None:
    times = tuple(make_process(0.1 * (-1) ** index) for index in range(10))
    text = find_noise(make_question(make_config(latency=0.05)), times)
    assert text is not None
    limit = float(text.rpartition('"')[0].rpartition('"')[2].rstrip("%")) / 100
    assert find_noise(make_question(make_config(latency=limit)), times) is None
    assert find_noise(make_question(make_config(latency=limit - 0.01)), times) is not None


def test_no_limit_is_named_where_none_would_do() -> None:
    times = tuple(make_process(2.0 * (-1) ** index) for index in range(10))
    assert "nnopt_limits(latency=...)" in str(find_noise(make_question(), times))


def test_a_single_process_that_went_astray_is_no_noise() -> None:
    question = make_question(make_config(latency=0.05))
    quiet, stray = make_timing(count=9), make_process(-0.2)
    assert find_noise(question, (*quiet, stray)) is None


def scattered(sd: float, count: int) -> tuple[ProcessRecord, ...]:
    return tuple(make_process(sd * (-1) ** index) for index in range(count))


@pytest.mark.parametrize(
    ("sd", "wanted"),
    [
        pytest.param(0.01, 10, id="ten show enough"),
        pytest.param(0.082, 14, id="some more show enough"),
        pytest.param(0.09, 10, id="no number would"),
    ],
)
def test_a_recording_takes_the_processes_that_the_gate_needs(sd: float, wanted: int) -> None:
    question = make_question(make_config(latency=0.05), recorded_processes=10, is_updating=True)
    assert processes_to_record(question, scattered(sd, 9)) == 10
    assert processes_to_record(question, scattered(sd, 10)) == wanted
    assert wanted_processes(question, scattered(sd, 10)) == wanted


@pytest.mark.parametrize(
    ("sd", "count", "wanted"),
    [
        pytest.param(0.3, 3, 4, id="three tell too little"),
        pytest.param(0.01, 4, 10, id="quiet"),
        pytest.param(0.3, 4, 4, id="hopeless"),
        pytest.param(0.08, 5, 10, id="ten may still be quiet enough"),
    ],
)
def test_a_recording_ends_early_where_all_further_processes_would_be_in_vain(
    sd: float, count: int, wanted: int
) -> None:
    question = make_question(make_config(latency=0.05), recorded_processes=10, is_updating=True)
    times = scattered(sd, count)
    assert processes_to_record(question, times) == wanted
    assert wanted != count or find_noise(question, times) is not None


def test_a_recording_of_few_processes_takes_no_more() -> None:
    question = make_question(recorded_processes=2, is_updating=True)
    assert [processes_to_record(question, scattered(0.01, count)) for count in range(3)] == [2, 2, 2]


def test_nothing_is_recorded_unasked() -> None:
    assert processes_to_record(make_question(), scattered(0.01, 4)) == 0


def test_what_makes_times_unsound_is_counted_by_kind() -> None:
    (hot,), (shared,) = HOT.values(), SHARED.values()
    assert reason(HOT, SHARED, {}, {}) == f"in 1 of 4 processes {hot}, in 1 of 4 processes {shared}"


@pytest.mark.parametrize(("asked", "sd"), [(18, 0.075), (25, 0.065)])
def test_no_more_are_recorded_than_a_level_keeps_unless_more_are_asked_for(asked: int, sd: float) -> None:
    question = make_question(make_config(latency=0.05), recorded_processes=asked, is_updating=True)
    assert processes_to_record(question, scattered(sd, asked)) == asked
