from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.torch_backend.nvml import GpuState, find_gpu_concerns
from pytest_nnopt.verdict import wanted_processes
from pytest_nnopt.verdict.fitness import find_noise, find_unsoundness, processes_to_record
from tests.builders import make_config, make_process, make_question, make_timing

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord

HOT = {"thermal": "the GPU is held back by power brake"}
(SHARED,) = ({concern.kind.value: concern.text} for concern in find_gpu_concerns(GpuState(foreign_processes=2)))
BUSY_HOST = {"load": "other processes use 80 % of the cores", "stolen": "3 %"}


def reason(*concerns: dict[str, str]) -> str | None:
    return find_unsoundness([make_process().model_copy(update={"concerns": one}) for one in concerns])


@pytest.mark.parametrize("concern", [HOT, SHARED])
def test_throttling_and_others_on_the_gpu_make_times_unsound(concern: dict[str, str]) -> None:
    (text,) = concern.values()
    assert reason(concern, {}) == f"in 1 of 2 processes {text}"
    assert reason(concern, concern, {}) == f"in 2 of 3 processes {text}"
    assert reason(concern, {}, {}) is None


@pytest.mark.parametrize("concern", [{}, BUSY_HOST])
def test_load_on_the_host_is_noise_and_no_more(concern: dict[str, str]) -> None:
    assert reason(concern, concern) is None


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
    assert "the limit of 0.50 % needs at most 0.3" in text
    assert "nnopt_limits(latency=...)" in text


def scattered(sd: float, count: int) -> tuple[ProcessRecord, ...]:
    return tuple(make_process(sd * (-1) ** index) for index in range(count))


@pytest.mark.parametrize(
    ("sd", "wanted"),
    [
        pytest.param(0.01, 10, id="ten show enough"),
        pytest.param(0.067, 13, id="some more show enough"),
        pytest.param(0.30, 10, id="no number would"),
    ],
)
def test_a_recording_takes_the_processes_that_the_gate_needs(sd: float, wanted: int) -> None:
    question = make_question(make_config(latency=0.05), recorded_processes=10, is_updating=True)
    assert processes_to_record(question, scattered(sd, 9)) == 10
    assert processes_to_record(question, scattered(sd, 10)) == wanted
    assert wanted_processes(question, scattered(sd, 10)) == wanted


def test_nothing_is_recorded_unasked() -> None:
    assert processes_to_record(make_question(), scattered(0.01, 4)) == 0
