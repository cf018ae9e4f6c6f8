import logging
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import get_compilation_metrics

from pytest_nnopt.model import CompileFacts, CompileStatus, GraphBreak
from pytest_nnopt.torch_backend.compiling import CompileStep, Inputs, compile_side
from pytest_nnopt.torch_backend.counters import CompileObserver, collect_facts
from pytest_nnopt.torch_backend.isolation import isolated_compilation, warnings_not_raised
from pytest_nnopt.torch_backend.side import ExecutionMode, Side

pytestmark = pytest.mark.usefixtures("compiler")

log = logging.getLogger(__name__)


class Tower(torch.nn.Module):
    """A healthy model, whose ``disturb`` the faulty ones replace."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)

    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.second(self.disturb(self.first(x)).relu())
        return output


class Prints(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        print("looking")  # noqa: T201 - the fault under test
        return x


class Logs(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        log.warning("looking")
        return x


class ReadsItem(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.max().item()


class Branches(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Counts(Tower):
    calls = 0

    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class SwallowsInsideTry(Tower):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in (self.first, self.second):
            try:
                x = block(x)
                torch._dynamo.graph_break()
            except ValueError:
                x = x.relu()
        return x


def facts_of(module: torch.nn.Module, *samples: torch.Tensor, **step: Any) -> CompileFacts:
    """Compile ``module`` for the first sample, call it with all, and return the facts."""
    step.setdefault("backend", "eager")
    side = Side(module, (samples[0] if samples else torch.randn(3, 4),), module=module)
    declared: list[Inputs] = [((sample,), {}) for sample in samples[1:]]
    return compile_side(side, [CompileStep(**step)], samples=declared).facts


def batches(*sizes: int) -> list[torch.Tensor]:
    return [torch.randn(size, 4) for size in sizes]


def test_healthy_model() -> None:
    facts = facts_of(Tower())
    assert facts.status is CompileStatus.COMPILED
    assert (facts.graphs, facts.graph_breaks, facts.recompiles, facts.eager_frames) == (1, (), (), 0)
    assert facts.graph_ops is not None
    assert {name.lower(): count for name, count in facts.graph_ops.items()} == {"tensor.relu": 1, "linear": 2}
    assert facts.counters["calls_captured"] == 3
    assert facts.counters["guards"] > 0
    assert facts.counters["cudagraph_skips"] == 0


@pytest.mark.parametrize(
    ("model", "code", "reason"),
    [
        (Prints, 'print("looking")', "print|builtin"),
        (Logs, 'log.warning("looking")', "[Ll]ogg"),
        (ReadsItem, "return x * x.max().item()", "item"),
        (Branches, "return x if x.sum() > 0 else -x", "Data-dependent branching|Dynamic control flow"),
    ],
)
def test_graph_break_names_the_line(model: type[Tower], code: str, reason: str) -> None:
    facts = facts_of(model())
    assert facts.graph_breaks
    place = facts.graph_breaks[0]
    assert place.code is not None
    assert place.code.startswith(code)
    assert place.file == __file__
    assert place.line is not None
    assert re.search(reason, place.reason)
    assert "\n" not in place.reason
    assert facts.graphs is not None
    assert facts.graphs > 1


def test_frame_given_up_is_an_eager_frame() -> None:
    facts = facts_of(SwallowsInsideTry())
    assert facts.eager_frames
    assert facts.eager_reasons


class TestRecompiles:
    def test_changing_batch_size_once(self) -> None:
        facts = facts_of(Tower(), *batches(2, 3, 4))
        assert facts.recompiles is not None
        (recompile,) = facts.recompiles
        assert recompile.function == "forward"
        assert recompile.file == __file__
        assert facts.graphs == 2

    def test_changing_batch_size_with_static_shapes(self) -> None:
        facts = facts_of(Tower(), *batches(2, 3, 4), dynamic=False)
        assert facts.recompiles is not None
        assert len(facts.recompiles) == 2

    @pytest.mark.skipif(
        "recompile_reason" not in torch._dynamo.utils.CompilationMetrics.__dataclass_fields__,
        reason="this release does not keep the reason",
    )
    def test_names_the_guard(self) -> None:
        facts = facts_of(Tower(), *batches(2, 3))
        assert facts.recompiles is not None
        assert facts.recompiles[0].reason == "tensor 'x' size mismatch at index 0. expected 2, actual 3"

    def test_dynamic_shapes_need_none(self) -> None:
        facts = facts_of(Tower(), *batches(2, 3, 4), dynamic=True)
        assert facts.recompiles == ()
        assert facts.graphs == 1

    def test_model_that_counts_its_calls(self) -> None:
        facts = facts_of(Counts())
        assert facts.recompiles is not None
        assert len(facts.recompiles) == 1

    def test_storm_ends_in_silent_eager(self) -> None:
        facts = facts_of(Tower(), *batches(*range(2, 14)), dynamic=False)
        assert facts.recompiles is not None
        assert len(facts.recompiles) == 7
        assert facts.eager_frames
        assert facts.status is CompileStatus.COMPILED
        assert any("limit" in place.reason for place in facts.eager_reasons)

    def test_more_than_torch_keeps(self) -> None:
        with torch._dynamo.config.patch({_limit_name(): 200, f"accumulated_{_limit_name()}": 200}):
            facts = facts_of(Tower(), *batches(*range(2, 68)), dynamic=False)
        assert facts.recompiles is not None
        assert len(facts.recompiles) == 65


class TestObserver:
    def test_counts_only_what_happens_while_it_listens(self) -> None:
        def compile_and_call(fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
            torch.compile(fn, backend="eager")(torch.ones(2))

        def broken(x: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return x + 1

        compile_and_call(broken)
        facts = collect_facts(lambda: compile_and_call(lambda x: x * 2))
        assert (facts.graphs, facts.graph_breaks) == (1, ())
        assert facts.counters["calls_captured"] == 1

    def test_nothing_happened(self) -> None:
        facts = collect_facts(lambda: None)
        assert facts.status is CompileStatus.NOTHING_COMPILED
        assert facts.graphs == 0

    def test_leaves_torch_as_it_was(self) -> None:
        from torch._dynamo.output_graph import OutputGraph
        from torch._inductor import compile_fx
        from torch._inductor.graph import GraphLowering

        def state() -> list[object]:
            owners = ((OutputGraph, "call_user_compiler"), (GraphLowering, "save_output_code"))
            taps = [vars(owner).get(name) for owner, name in owners]
            return [*taps, getattr(compile_fx, "inductor_metrics_log", None)]

        before = state()
        with pytest.raises(RuntimeError, match="stop"), CompileObserver():
            raise RuntimeError("stop")
        assert state() == before
        assert torch._dynamo.utils._compilation_metrics.maxlen == 64

    def test_unknown_is_absent(self) -> None:
        facts = facts_of(Tower(), backend="aot_eager")
        assert facts.kernels is None
        assert facts.external_kernels is None
        assert facts.counters.keys() & {"generated_kernels", "bytes_accessed", "fused_nodes", "fx_cache_hits"} == set()

    def test_same_figures_every_time(self) -> None:
        first, second = (self._isolated_facts() for _ in range(2))
        assert first == second

    def _isolated_facts(self) -> CompileFacts:
        torch.manual_seed(0)
        with isolated_compilation():
            return facts_of(Branches(), *batches(2, 3))


class Sums(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.sin() + 1).sum(dim=-1)


class SumsOfSorted(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.sin().sort(dim=-1).values + 1).sum(dim=-1)


class TestGeneratedCode:
    """With inductor and a C++ compiler; the kernels are built once for all these tests."""

    def test_unfusable_operation_adds_kernels(self) -> None:
        fused, split = (facts_of(model, torch.randn(8, 32), backend="inductor") for model in (Sums(), SumsOfSorted()))
        assert fused.counters["generated_kernels"] == 1
        assert fused.counters["external_kernels"] == 0
        assert split.counters["generated_kernels"] == 2
        assert split.external_kernels is not None
        assert sum(split.external_kernels.values()) == 1
        assert "sort" in next(iter(split.external_kernels))
        assert split.counters["bytes_accessed"] > fused.counters["bytes_accessed"] > 8 * 32 * 4

    @pytest.mark.parametrize(("paddings", "implementations"), [(0, 0), (2, 0), (1, 3)])
    def test_what_the_compiler_chose_by_timing_is_counted(
        self, monkeypatch: pytest.MonkeyPatch, paddings: int, implementations: int
    ) -> None:
        with warnings_not_raised():
            from torch._inductor.fx_passes import pad_mm
        monkeypatch.setattr(pad_mm, "get_pad_cache", lambda: SimpleNamespace(set_value=lambda *_, **__: None))

        def run() -> None:
            torch.compile(Sums())(torch.randn(8, 32))
            for number in range(paddings):  # what the compiler calls where it has timed both ways, as on a GPU alone
                pad_mm.set_cached_should_pad(str(number), True)
            torch._dynamo.utils.counters["inductor"]["select_algorithm_autotune"] += implementations

        with warnings_not_raised():
            facts = collect_facts(run)
        assert facts.counters.get("timed_choices", 0) == paddings + implementations

    def test_warm_cache_gives_the_same_kernels_and_shows(self, inductor_cache: Any) -> None:
        facts = []
        for _ in range(2):
            with isolated_compilation(cache_dir=inductor_cache):
                facts.append(facts_of(Sums(), torch.randn(8, 32), backend="inductor"))
        assert facts[0].kernels == facts[1].kernels
        if torch._inductor.config.fx_graph_cache:
            assert facts[1].counters["fx_cache_hits"] + facts[1].counters.get("autograd_cache_hits", 0) > 0
        assert facts[1].kernels is not None
        assert next(iter(facts[1].kernels)).startswith("cpp_fused_")


def test_cudagraph_skip_names_the_line() -> None:
    from torch._inductor import cudagraph_utils

    message = (
        "skipping cudagraphs due to mutated inputs (1 instances). Found from : \n"
        '   File "model.py", line 7, in forward\n    x.add_(1)\n'
    )
    with CompileObserver() as observer:
        cudagraph_utils.log_cudagraph_skip_and_bump_counter(message)
        cudagraph_utils.log_cudagraph_skip_and_bump_counter("skipping cudagraphs due to cpu device (arg0_1)")
        facts = observer.facts()
    assert facts.counters["cudagraph_skips"] == 2
    assert facts.cudagraph_skips == (
        GraphBreak("skipping cudagraphs due to mutated inputs (1 instances)", "model.py", 7, "x.add_(1)"),
        GraphBreak("skipping cudagraphs due to cpu device (arg0_1)"),
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
class TestOnGpu:
    def test_mutated_input_skips_cudagraphs(self) -> None:
        def add_in_place(x: torch.Tensor) -> torch.Tensor:
            x.add_(1)
            return x * 2

        step = CompileStep(mode="reduce-overhead")
        facts = compile_side(Side(add_in_place, (torch.zeros(8, device="cuda"),)), [step]).facts
        assert facts.counters["cudagraph_skips"] > 0
        (skip,) = facts.cudagraph_skips
        assert skip.reason == "skipping cudagraphs due to mutated inputs (1 instances)"
        assert (skip.file, skip.code) == (__file__, "x.add_(1)")

    def test_triton_kernels_are_counted(self) -> None:
        facts = facts_of(Sums().cuda(), torch.randn(8, 32, device="cuda"), backend="inductor")
        assert facts.counters["generated_kernels"] == 1
        assert facts.kernels is not None
        assert next(iter(facts.kernels)).startswith("triton_")


def test_training_step_is_one_graph() -> None:
    model = Tower()
    side = Side(model, (torch.randn(3, 4),), module=model, loss=torch.sum, mode=ExecutionMode(is_grad_enabled=True))
    facts = compile_side(side, [CompileStep(backend="aot_eager")]).facts
    assert (facts.graphs, facts.recompiles) == (1, ())


def test_second_call_adds_nothing_to_the_metrics() -> None:
    facts_of(Tower())
    assert len(get_compilation_metrics()) == 1


def _limit_name() -> str:
    return "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
