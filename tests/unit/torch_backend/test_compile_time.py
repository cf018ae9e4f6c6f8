from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import CompileFacts, CompileStatus, CompileTime
from pytest_nnopt.torch_backend import compile_time
from pytest_nnopt.torch_backend.compile_time import CacheState, complete_compile_time
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_side
from pytest_nnopt.torch_backend.isolation import isolated_compilation
from pytest_nnopt.torch_backend.side import Side

pytestmark = pytest.mark.usefixtures("compiler")


def chain(layers: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(layers)))


def side_of(module: torch.nn.Module) -> Side:
    return Side(module, (torch.randn(3, 4),), module=module)


@pytest.mark.parametrize(
    ("counters", "state"),
    [
        ({}, CacheState.UNUSED),
        ({"fx_cache_misses": 1, "autograd_cache_misses": 1}, CacheState.COLD),
        ({"fx_cache_hits": 2}, CacheState.WARM),
        ({"autograd_cache_hits": 1}, CacheState.WARM),
        ({"fx_cache_hits": 1, "fx_cache_misses": 1}, CacheState.MIXED),
        ({"fx_cache_hits": 1, "fx_cache_bypasses": 1}, CacheState.MIXED),
        ({"fx_cache_hits": 1, "autograd_cache_misses": 1}, CacheState.WARM),
    ],
)
def test_cache_state(counters: Mapping[str, int], state: CacheState) -> None:
    assert CacheState.of(CompileFacts(CompileStatus.COMPILED, counters=counters)) is state


def compile_time_of(module: torch.nn.Module, step: CompileStep, cache_dir: Path) -> CompileTime:
    """Compile from an empty cache, then again from the one that left."""
    side = side_of(module)
    with isolated_compilation(cache_dir=cache_dir):
        cold = compile_side(side, [step])
    return complete_compile_time(side, step, cold, cache_dir)


@pytest.mark.skipif(not torch._inductor.config.fx_graph_cache, reason="this release keeps no cache by default")
def test_warm_compile_of_inductor_is_proven_and_faster(tmp_path: Path) -> None:
    library_calls_alone = torch.nn.Linear(4, 4)
    time = compile_time_of(library_calls_alone, CompileStep(), tmp_path)
    assert time.cold_seconds is not None
    assert time.warm_seconds is not None
    assert 0 < time.warm_seconds < time.cold_seconds


@pytest.mark.skipif(not torch._inductor.config.fx_graph_cache, reason="this release keeps no cache by default")
def test_equal_graphs_share_an_entry_of_a_cold_cache(tmp_path: Path) -> None:
    class Blocks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.blocks[0](x)
            torch._dynamo.graph_break()
            x = self.blocks[1](x)
            torch._dynamo.graph_break()
            output: torch.Tensor = self.blocks[2](x)
            return output

    time = compile_time_of(Blocks(), CompileStep(), tmp_path)
    assert time.cold_seconds is not None
    assert time.warm_seconds is not None


@pytest.mark.skipif(not torch._inductor.config.fx_graph_cache, reason="this release keeps no cache by default")
def test_a_full_cache_gives_no_cold_compile(tmp_path: Path) -> None:
    compile_time_of(torch.nn.Linear(4, 4), CompileStep(), tmp_path)
    with pytest.raises(MeasurementError, match="an empty cache served the whole compile of default mode"):
        compile_time_of(torch.nn.Linear(4, 4), CompileStep(), tmp_path)


def test_backend_without_a_cache_has_no_warm_compile(tmp_path: Path) -> None:
    time = compile_time_of(chain(1), CompileStep(backend="aot_eager"), tmp_path)
    assert time.cold_seconds is not None
    assert time.warm_seconds is None


def test_work_repeats_and_grows_with_the_model(tmp_path: Path) -> None:
    step = CompileStep(backend="aot_eager")
    first, second, larger = (compile_time_of(chain(n), step, tmp_path) for n in (4, 4, 8))
    assert first.work_calls is not None
    assert larger.work_calls is not None
    assert first.work_calls == pytest.approx(second.work_calls, rel=1e-4)
    assert larger.work_calls > 1.2 * first.work_calls
    assert first.work_conditions == second.work_conditions
    assert first.work_conditions is not None
    assert f"torch {torch.__version__}" in first.work_conditions


@pytest.mark.skipif(not torch._inductor.config.fx_graph_cache, reason="this release keeps no cache by default")
def test_work_holds_no_building_of_machine_code(tmp_path: Path) -> None:
    class Waves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sin() + x.cos()

    side, step = side_of(Waves()), CompileStep()
    with isolated_compilation(cache_dir=tmp_path):
        cold = compile_side(side, [step])
    built = set(tmp_path.rglob("*.so"))
    first, second = (complete_compile_time(side, step, cold, tmp_path) for _ in range(2))
    assert built
    assert set(tmp_path.rglob("*.so")) == built
    assert first.warm_seconds is not None
    assert first.work_calls == pytest.approx(second.work_calls, rel=1e-4)


def test_work_is_unknown_where_calls_cannot_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_time, "count_calls", lambda _: None)
    time = compile_time_of(chain(1), CompileStep(backend="eager"), tmp_path)
    assert time.work_calls is None
    assert time.cold_seconds is not None


@pytest.mark.parametrize(("device", "is_in_process"), [("cpu", False), ("cuda", True)])
def test_kernels_of_a_gpu_are_loaded_in_process_while_work_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, is_in_process: bool
) -> None:
    monkeypatch.setattr(compile_time, "device_of", lambda _: torch.device(device))
    threads = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        threads.append(torch._inductor.config.compile_threads)
        return graph

    with torch._inductor.config.patch(compile_threads=7):
        time = compile_time_of(chain(1), CompileStep(backend=backend), tmp_path)
    assert threads == [7, 7, 1 if is_in_process else 7]
    assert ("kernels loaded in process" in str(time.work_conditions)) is is_in_process


def test_compile_that_fails_the_second_time_has_no_time(tmp_path: Path) -> None:
    calls = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        calls.append(graph)
        if len(calls) > 1:
            raise ValueError("out of registers")
        return graph

    with pytest.raises(MeasurementError, match=r"no compile time of backend='backend': .*out of registers"):
        compile_time_of(chain(1), CompileStep(backend=backend), tmp_path)


def test_eager_has_no_time(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"no compile time of eager: .* compiles nothing"):
        compile_time_of(chain(1), CompileStep(mode="eager"), tmp_path)
