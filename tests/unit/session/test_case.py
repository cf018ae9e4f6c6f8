from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from pytest_nnopt.config import CaseConfig, CompileConfig, LimitsConfig
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.session import case, ranked
from pytest_nnopt.session.case import CaseRun
from pytest_nnopt.session.ranked import RankedRun
from pytest_nnopt.torch_backend.pair import PairRequest
from tests.builders import make_process

if TYPE_CHECKING:
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
    monkeypatch.setattr(ranked if is_ranked else case, "record_process", lambda *_: process)
    request = PairRequest(torch.nn.ReLU(), (torch.ones(2),), candidate=torch.relu)
    alone = SimpleNamespace(size=1, rank=0, is_lead=True, gather=lambda value: [value], meet=lambda: None)
    run = RankedRun(cast("Team", alone), request, CaseConfig()) if is_ranked else CaseRun(request, CaseConfig())
    assert run.measure_ratio() == process
    assert not run.timing
    assert run.measure_process(Plan()) == (process,)
    assert len(run.timing) == 1
    assert asked == [False, True]
    run.close()


def test_a_speedup_that_is_asked_for_leaves_both_sides_and_random_numbers_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_a_few(references: Any, candidates: Any, *_: object, **__: object) -> Any:
        for side in (*references, *candidates, *candidates):
            side.step()

    monkeypatch.setattr(case, "time_sides", time_a_few)
    monkeypatch.setattr(case, "record_process", lambda *_: make_process())
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout())
    request = PairRequest(model, (torch.randn(4, 3),), candidate=torch.nn.Sequential(*model))
    run = CaseRun(request, CaseConfig())
    sides = run.reference, run.require_candidate()
    state = torch.get_rng_state()
    before = [{name: value.clone() for name, value in side.module.state_dict().items()} for side in sides]  # type: ignore[union-attr]
    run.measure_ratio()
    assert torch.equal(torch.get_rng_state(), state)
    for side, old in zip(sides, before, strict=True):
        assert side.module is not None
        assert all(torch.equal(value, old[name]) for name, value in side.module.state_dict().items())
    run.close()


def test_on_a_cpu_measuring_processes_load_what_the_run_compiled() -> None:
    model = torch.nn.ReLU()
    for device, is_anew in (("cpu", False), ("meta", True)):
        run = CaseRun(PairRequest(model, (torch.ones(2, device=device),), candidate=torch.relu), CaseConfig())
        assert (run.compiled_anew is not None) is is_anew
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
