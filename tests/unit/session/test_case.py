from __future__ import annotations

from typing import Any

import pytest
import torch

from pytest_nnopt.config import CaseConfig, CompileConfig
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session import case
from pytest_nnopt.session.case import CaseRun
from pytest_nnopt.torch_backend.pair import PairRequest


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
