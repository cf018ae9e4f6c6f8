import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pytest_nnopt.torch_backend.compiling import CompileStep, compile_side
from pytest_nnopt.torch_backend.memory import MemoryFacts, measure_memory
from pytest_nnopt.torch_backend.side import ExecutionMode, Side

ROWS, WIDTH, FLOAT = 64, 32, 4
TRAINING = ExecutionMode(is_grad_enabled=True)


class Chain(torch.nn.Module):
    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(layers))
        self.register_buffer("scale", torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return x * self.get_buffer("scale")


class WideChain(Chain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.cat([x, x])).chunk(2)[0].clone()


class Hoarder(Chain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        vars(self).setdefault("hoard", []).append(x.clone())
        return super().forward(x)


def side_of(module: torch.nn.Module, **changes: object) -> Side:
    return Side(module, (torch.randn(ROWS, WIDTH),), module=module, **changes)  # type: ignore[arg-type]


ACTIVATION = ROWS * WIDTH * FLOAT
PARAMETERS = 3 * (WIDTH * WIDTH + WIDTH) * FLOAT


def test_inference_holds_three_activations_at_most() -> None:
    facts = measure_memory(side_of(Chain()))
    assert facts == MemoryFacts(
        peak_bytes=3 * ACTIVATION,  # the input of a layer, its output, and what relu makes of it
        steady_bytes=PARAMETERS + WIDTH * FLOAT + ACTIVATION,
    )


def test_same_bytes_every_time() -> None:
    side = side_of(Chain(), loss=torch.sum, mode=TRAINING)
    assert len({measure_memory(side) for _ in range(5)}) == 1


def test_larger_activation_is_seen() -> None:
    assert measure_memory(side_of(WideChain())).peak_bytes >= 2 * measure_memory(side_of(Chain())).peak_bytes


def test_longer_chain_needs_no_larger_peak_without_gradients() -> None:
    short, long = (measure_memory(side_of(Chain(layers))) for layers in (3, 6))
    assert long.peak_bytes == short.peak_bytes
    assert long.steady_bytes - short.steady_bytes == PARAMETERS


def test_what_a_call_leaves_behind_is_steady() -> None:
    hoarding, plain = measure_memory(side_of(Hoarder())), measure_memory(side_of(Chain()))
    assert hoarding.steady_bytes - plain.steady_bytes == ACTIVATION


class HeldByAThread(Chain):
    """Lets a thread be the last to hold a tensor, in its fourth to sixth call, as the threads of collectives may."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls in (4, 5, 6):
            held = [x.clone()]
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
        return super().forward(x)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class TestAmongRanks:
    pytestmark = pytest.mark.usefixtures("process_group")

    def test_what_another_thread_frees_late_is_not_left_behind(self) -> None:
        assert measure_memory(side_of(HeldByAThread())) == measure_memory(side_of(Chain()))

    def test_what_a_call_leaves_behind_is_steady(self) -> None:
        hoarding, plain = measure_memory(side_of(Hoarder())), measure_memory(side_of(Chain()))
        assert hoarding.steady_bytes - plain.steady_bytes == ACTIVATION

    def test_training_step_is_measured_as_without_ranks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        among_ranks = measure_memory(side_of(Chain(), loss=torch.sum, mode=TRAINING))
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
        assert measure_memory(side_of(Chain(), loss=torch.sum, mode=TRAINING)) == among_ranks


class TestTrainingStep:
    def test_gradients_and_saved_activations(self) -> None:
        facts = measure_memory(side_of(Chain(), loss=torch.sum, mode=TRAINING))
        assert facts.gradient_bytes == PARAMETERS
        assert facts.saved_bytes is not None
        assert facts.saved_bytes >= 3 * ACTIVATION
        assert facts.peak_bytes > facts.saved_bytes + facts.gradient_bytes / 3

    def test_saved_activations_grow_with_the_layers(self) -> None:
        short, long = (measure_memory(side_of(Chain(n), loss=torch.sum, mode=TRAINING)) for n in (3, 6))
        assert short.saved_bytes is not None
        assert long.saved_bytes is not None
        assert long.saved_bytes - short.saved_bytes == 3 * ACTIVATION

    def test_leaves_no_gradients(self) -> None:
        side = side_of(Chain(), loss=torch.sum, mode=TRAINING)
        measure_memory(side)
        assert side.module is not None
        assert all(parameter.grad is None for parameter in side.module.parameters())


def test_inference_mode_tells_nothing_about_training() -> None:
    facts = measure_memory(side_of(Chain()))
    assert facts.saved_bytes is None
    assert facts.gradient_bytes is None


def test_views_of_one_storage_count_once() -> None:
    x = torch.randn(ROWS, WIDTH)
    facts = measure_memory(Side(torch.matmul, (x, x.t())))
    assert facts.steady_bytes == ACTIVATION


def test_log_of_the_profiler_stays_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    measure_memory(side_of(Chain()))
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("compiler")
def test_compiled_side_is_measured_alike() -> None:
    compiled = compile_side(side_of(Chain(), loss=torch.sum, mode=TRAINING), [CompileStep(backend="aot_eager")])
    assert compiled.side is not None
    facts = measure_memory(compiled.side)
    assert facts.gradient_bytes == PARAMETERS
    assert facts.peak_bytes > PARAMETERS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestOnGpu:
    def test_same_bytes_every_time(self) -> None:
        module = Chain().cuda()
        side = Side(module, (torch.randn(ROWS, WIDTH, device="cuda"),), module=module)
        facts = {measure_memory(side) for _ in range(5)}
        assert len(facts) == 1
        assert facts.pop().peak_bytes >= 2 * ACTIVATION

    @pytest.mark.usefixtures("compiler")
    def test_memory_of_cuda_graphs_is_steady(self) -> None:
        module = Chain().cuda()
        side = Side(module, (torch.randn(ROWS, WIDTH, device="cuda"),), module=module)
        compiled = compile_side(side, [CompileStep(mode="reduce-overhead")])
        assert compiled.side is not None
        graphed = measure_memory(compiled.side, owns_cuda_graphs=True)
        assert graphed.peak_bytes == 0
        assert graphed.steady_bytes > measure_memory(side).steady_bytes
