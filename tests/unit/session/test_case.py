from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from pytest_nnopt.config import CaseConfig, CompileConfig, LimitsConfig
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.model import CompileFacts, CompileStatus
from pytest_nnopt.session import case, ranked
from pytest_nnopt.session.case import CaseRun
from pytest_nnopt.session.ranked import RankedRun
from pytest_nnopt.torch_backend.compiling import CompiledSide
from pytest_nnopt.torch_backend.pair import PairRequest
from tests.builders import make_process

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side
    from pytest_nnopt.torch_backend.team import Team


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with the compiler, in order."""
    steps: list[str] = []
    monkeypatch.setattr(case, "rehearse_compilation", lambda device: steps.append(f"rehearse on {device}"))
    monkeypatch.setattr(case, "probe_instruction_sets", lambda: steps.append("probe"))
    monkeypatch.setattr(case, "compile_side", lambda *_, **__: steps.append("compile"))
    return steps


def build(backend: str = "inductor", **request: Any) -> None:
    run = CaseRun(
        PairRequest(torch.nn.ReLU(), (torch.ones(2),), **request), CaseConfig(compile=CompileConfig(backend=backend))
    )
    try:
        _ = run.built
    finally:
        run.close()


def test_the_compiler_is_ready_before_a_cold_compile_is_timed(log: list[str]) -> None:
    build()
    assert log == ["rehearse on cpu", "probe", "compile"]


def test_nothing_is_rehearsed_for_another_compiler_or_the_test_s_own_candidate(log: list[str]) -> None:
    build("aot_eager")
    build(candidate=torch.relu)
    assert log == ["compile"]


@pytest.mark.parametrize("is_ranked", [False, True])
def test_times_are_taken_for_the_case_s_limit(monkeypatch: pytest.MonkeyPatch, is_ranked: bool) -> None:
    class Asked(Exception):
        pass

    def time_sides(*_: object, limit: float, **__: object) -> None:
        raise Asked(limit)

    monkeypatch.setattr(case, "time_sides", time_sides)
    request = PairRequest(torch.nn.ReLU(), (torch.ones(2),), candidate=torch.relu)
    config = CaseConfig(limits=LimitsConfig(latency=0.07))
    alone = SimpleNamespace(size=1, rank=0, is_lead=True, gather=lambda value: [value], meet=lambda: None)
    run = RankedRun(cast("Team", alone), request, config) if is_ranked else CaseRun(request, config)
    with pytest.raises(Asked, match=r"0\.07"):
        run.measure_process(Plan())
    run.close()


@pytest.mark.parametrize("is_ranked", [False, True])
def test_a_ratio_is_measured_without_kernels_and_not_kept_for_decisions(
    monkeypatch: pytest.MonkeyPatch, is_ranked: bool
) -> None:
    asked: list[bool] = []
    process = make_process()
    monkeypatch.setattr(case, "time_sides", lambda *_, has_kernels, **__: asked.append(has_kernels))
    monkeypatch.setattr(ranked if is_ranked else case, "record_process", lambda _: process)
    request = PairRequest(torch.nn.ReLU(), (torch.ones(2),), candidate=torch.relu)
    alone = SimpleNamespace(size=1, rank=0, is_lead=True, gather=lambda value: [value], meet=lambda: None)
    run = RankedRun(cast("Team", alone), request, CaseConfig()) if is_ranked else CaseRun(request, CaseConfig())
    assert run.measure_ratio() == process
    assert not run.timing
    assert run.measure_process(Plan()) == (process,)
    assert len(run.timing) == 1
    assert asked == [False, True]
    run.close()


@pytest.mark.parametrize("error", [MeasurementError("no compile time"), torch.cuda.OutOfMemoryError("no room")])
def test_what_fails_ahead_of_time_is_left_for_later(error: Exception) -> None:
    looks = []

    def look() -> None:
        looks.append("look")
        raise error

    run = CaseRun(PairRequest(torch.nn.ReLU(), (torch.ones(2),)), CaseConfig())
    run.look_ahead(look)
    run.close()
    assert looks == ["look"]


def test_ranks_do_not_look_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CaseRun, "is_shared", True)
    run = CaseRun(PairRequest(torch.nn.ReLU(), (torch.ones(2),)), CaseConfig())
    run.look_ahead(lambda: pytest.fail("looked"))
    run.close()


def place(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> CaseRun:
    """Return a run of a case that seems to be on a device."""
    monkeypatch.setattr(case, "device_of", lambda _: device)
    return CaseRun(PairRequest(torch.nn.ReLU(), (torch.ones(2),)), CaseConfig())


@pytest.mark.parametrize(
    ("change", "has_room"),
    [
        ({}, True),
        ({"default_threads": lambda: 3}, False),
        ({"can_time_kernels_alone": lambda: False}, False),
        ({"has_room_beside": lambda *_: False}, False),
    ],
)
def test_others_build_beside_a_run_where_nothing_is_short(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], has_room: bool
) -> None:
    ample = {
        "default_threads": lambda: 4,
        "can_time_kernels_alone": lambda: True,
        "has_room_beside": lambda _, processes: processes == 2,
    }
    for name, answer in (ample | change).items():
        monkeypatch.setattr(case, name, answer)
    run = place(monkeypatch, torch.device("cuda", 0))
    assert run.has_room_beside(2) is has_room
    monkeypatch.setattr(CaseRun, "is_shared", True)
    assert not run.has_room_beside(2)
    run.close()


def test_none_builds_beside_a_run_on_a_cpu_whose_code_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    run = place(monkeypatch, torch.device("cpu"))
    assert not run.has_room_beside(2)
    run.close()


@pytest.mark.parametrize(
    ("device", "is_shared", "taken"),
    [("cpu", False, []), ("cuda", False, ["key of cuda"]), ("cuda", True, [])],
)
def test_numbers_are_computed_with_a_gpu_to_oneself(
    monkeypatch: pytest.MonkeyPatch, device: str, is_shared: bool, taken: list[str]
) -> None:
    keys: list[str] = []

    def take(key: str) -> contextlib.AbstractContextManager[None]:
        keys.append(key)
        return contextlib.nullcontext()

    monkeypatch.setattr(CaseRun, "is_shared", is_shared)
    monkeypatch.setattr(CaseRun, "built", CompiledSide(cast("Side", object()), CompileFacts(CompileStatus.COMPILED)))
    monkeypatch.setattr(case, "device_key", lambda place: f"key of {place}")
    monkeypatch.setattr(case, "exclusive", take)
    monkeypatch.setattr(case, "compare_sides", lambda *_, **__: keys.append("compared"))
    run = place(monkeypatch, torch.device(device))
    _ = run.numerics
    assert keys == [*taken, "compared"]
    run.close()


@pytest.mark.parametrize(("is_shared", "asked"), [(False, ["cpu"]), (True, [])])
def test_only_where_ranks_do_not_compile_at_once_kernels_are_timed_alone(
    log: list[str], monkeypatch: pytest.MonkeyPatch, is_shared: bool, asked: list[str]
) -> None:
    devices: list[str] = []

    @contextlib.contextmanager
    def alone(device: torch.device) -> Iterator[None]:
        devices.append(str(device))
        log.append("alone")
        yield
        log.append("not alone")

    monkeypatch.setattr(CaseRun, "is_shared", is_shared)
    monkeypatch.setattr(case, "kernels_timed_alone", alone)
    build()
    assert devices == asked
    assert is_shared or log[-3:] == ["alone", "compile", "not alone"]
