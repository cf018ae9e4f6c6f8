from collections.abc import Mapping
from typing import Any

import pytest
import torch

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import CompileFacts, CompileStatus
from pytest_nnopt.torch_backend.compile_time import CacheState, measure_compile_time
from pytest_nnopt.torch_backend.compiling import CompileStep
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
        ({"fx_cache_hits": 1, "autograd_cache_misses": 1}, CacheState.WARM),
    ],
)
def test_cache_state(counters: Mapping[str, int], state: CacheState) -> None:
    assert CacheState.of(CompileFacts(CompileStatus.COMPILED, counters=counters)) is state


def test_warm_compile_of_inductor_is_proven_and_faster() -> None:
    library_calls_alone = torch.nn.Linear(4, 4)
    time = measure_compile_time(side_of(library_calls_alone), CompileStep(), counts_work=False)
    if not torch._inductor.config.fx_graph_cache:  # off by default on torch 2.4
        assert time.warm_seconds is None
        return
    assert time.warm_seconds is not None
    assert 0 < time.warm_seconds < time.cold_seconds
    assert time.work_calls is None


def test_equal_graphs_share_an_entry_of_a_cold_cache() -> None:
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

    time = measure_compile_time(side_of(Blocks()), CompileStep(), counts_work=False)
    assert time.cold_seconds > 0
    assert (time.warm_seconds is not None) == torch._inductor.config.fx_graph_cache


def test_backend_without_a_cache_has_no_warm_compile() -> None:
    time = measure_compile_time(side_of(chain(1)), CompileStep(backend="aot_eager"), counts_work=False)
    assert time.cold_seconds > 0
    assert time.warm_seconds is None


def test_work_repeats_and_grows_with_the_model() -> None:
    step = CompileStep(backend="aot_eager")
    measure_compile_time(side_of(chain(4)), step)
    first, second, larger = (measure_compile_time(side_of(chain(n)), step).work_calls for n in (4, 4, 8))
    assert first is not None
    assert larger is not None
    assert first == pytest.approx(second, rel=5e-3)
    assert larger > 1.2 * first


def test_failing_compile_has_no_time() -> None:
    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        raise ValueError("out of registers")

    with pytest.raises(MeasurementError, match=r"no compile time of backend='backend': .*out of registers"):
        measure_compile_time(side_of(chain(1)), CompileStep(backend=backend))


def test_eager_has_no_time() -> None:
    with pytest.raises(MeasurementError, match=r"no compile time of eager: .* compiles nothing"):
        measure_compile_time(side_of(chain(1)), CompileStep(mode="eager"))
