import copy
import functools
import re
from typing import Any

import pytest
import torch

from pytest_nnopt.errors import PairError
from pytest_nnopt.model import CompileStatus
from pytest_nnopt.torch_backend.compiling import CompileStep, Inputs, clone_inputs, compile_side, copy_side
from pytest_nnopt.torch_backend.side import ExecutionMode, Side

pytestmark = pytest.mark.usefixtures("compiler")

AOT = CompileStep(backend="aot_eager")
EAGER = CompileStep(mode="eager")
_RECOMPILE_LIMIT = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"


class Classifier(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)
        self.linear = torch.nn.Linear(4, 2)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.dropout(self.linear(self.norm(x)))
        return output

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward(x).sum()


class Broken(Classifier):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("broken here")  # noqa: T201 - the fault under test
        return super().forward(x)


class InPlace(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(1)


def side_of(module: torch.nn.Module, *args: Any, **changes: Any) -> Side:
    return Side(module, args or (torch.randn(3, 4),), module=module, **changes)


def failing_backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
    raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")


def backend_without_triton(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
    missing: type[Exception] | None = getattr(torch._inductor.exc, "TritonMissing", None)
    raise RuntimeError("Cannot find a working triton installation") if missing is None else missing(None)


def backend_failing_when_run(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
    def run(*args: Any) -> Any:
        raise RuntimeError("the kernel was made for another machine")

    return run


class TestWhatCanBeCompiled:
    def test_module_keeps_its_type_and_keys(self) -> None:
        model = Classifier()
        compiled = compile_side(side_of(model), [AOT])
        assert compiled.facts.status is CompileStatus.COMPILED
        assert compiled.side is not None
        assert type(compiled.side.function) is Classifier
        assert compiled.side.function is compiled.side.module
        assert compiled.side.module is not model
        assert compiled.side.module.state_dict().keys() == model.state_dict().keys()

    @pytest.mark.parametrize(
        "module",
        [torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())],
        ids=["one", "many"],
    )
    def test_module_of_torch_itself(self, module: torch.nn.Module) -> None:
        facts = compile_side(side_of(module), [AOT]).facts
        assert facts.status is CompileStatus.COMPILED
        assert facts.graphs == 1

    def test_bound_method_runs_on_the_copy(self) -> None:
        model = Classifier().eval()
        side = Side(model.score, (torch.randn(3, 4),), module=model)
        compiled = compile_side(side, [AOT])
        assert compiled.facts.graphs == 1
        assert compiled.side is not None
        assert compiled.side.module is not None
        torch.testing.assert_close(compiled.side.call(), side.call())
        with torch.no_grad():
            for parameter in compiled.side.module.parameters():
                parameter.zero_()
        assert compiled.side.call() == 0
        assert side.call() != 0

    @pytest.mark.parametrize(
        "function", [torch.nn.functional.gelu, functools.partial(torch.add, alpha=2, other=1), lambda x: x + 1]
    )
    def test_plain_callable(self, function: Any) -> None:
        compiled = compile_side(Side(function, (torch.randn(3),)), [AOT])
        assert compiled.facts.status is CompileStatus.COMPILED
        assert compiled.facts.graphs == 1

    def test_keyword_inputs(self) -> None:
        model = Classifier().eval()
        assert compile_side(Side(model, kwargs={"x": torch.randn(3, 4)}, module=model), [AOT]).facts.graphs == 1

    def test_training_step_compiles_the_backward_pass(self) -> None:
        directions = []

        def recording(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
            directions.append(graph)
            return graph.forward

        from torch._dynamo.backends.common import aot_autograd

        step = CompileStep(backend=aot_autograd(fw_compiler=recording))
        mode = ExecutionMode(is_grad_enabled=True)
        compiled = compile_side(side_of(Classifier(), loss=torch.sum, mode=mode), [step])
        assert compiled.facts.status is CompileStatus.COMPILED
        assert len(directions) == 2


class TestWhatIsLeftAsItWas:
    def test_inputs_parameters_buffers_gradients_and_random_state(self) -> None:
        model = Classifier()
        mode = ExecutionMode(is_grad_enabled=True)
        side = side_of(model, loss=torch.sum, mode=mode)
        state, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        compiled = compile_side(side, [AOT])
        assert compiled.side is not None
        assert compiled.side.module is not None
        for module in (model, compiled.side.module):
            torch.testing.assert_close(module.state_dict(), state, rtol=0, atol=0)
            assert all(parameter.grad is None for parameter in module.parameters())
        assert torch.equal(torch.get_rng_state(), random_state)

    def test_input_that_the_model_writes_to(self) -> None:
        side = Side(InPlace(), (torch.zeros(2),))
        compiled = compile_side(side, [AOT])
        assert compiled.side is not None
        assert torch.equal(side.args[0], torch.zeros(2))
        assert torch.equal(compiled.side.args[0], torch.zeros(2))

    def test_tensor_attribute_and_replaced_buffer(self) -> None:
        class Cached(torch.nn.Module):
            total: torch.Tensor

            def __init__(self) -> None:
                super().__init__()
                self.cache = torch.zeros(2)
                self.register_buffer("total", torch.zeros(2))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.cache.add_(x)
                self.total = self.total + x
                return torch.add(self.cache, self.total)

        compiled = compile_side(side_of(Cached(), torch.ones(2)), [AOT])
        assert compiled.side is not None
        assert torch.equal(compiled.side.call(), torch.full((2,), 2.0))


class TestCopies:
    def test_aliases_and_strides_survive(self) -> None:
        base = torch.arange(6.0).reshape(2, 3)
        (first, second), _ = clone_inputs(((base.t(), base[0]), {}))
        assert first.stride() == (1, 3)
        second.fill_(-1)
        assert first[0, 0] == -1
        assert base[0, 0] == 0

    def test_tensor_inside_a_graph_loses_its_history(self) -> None:
        leaf = torch.ones(2, requires_grad=True)
        (cloned,), _ = clone_inputs(((leaf * 2,), {}))
        assert cloned.is_leaf
        assert cloned.requires_grad

    def test_model_that_cannot_be_copied(self) -> None:
        module = torch.nn.Linear(2, 2)
        vars(module)["stream"] = (value for value in [1])
        with pytest.raises(PairError, match="Linear cannot be deep-copied: TypeError"):
            copy_side(side_of(module))

    def test_own_maker_of_sides(self) -> None:
        made = []

        def make() -> Side:
            made.append(side_of(Classifier()))
            return made[-1]

        compiled = compile_side(side_of(Classifier()), [AOT], make_side=make)
        assert compiled.side is not None
        assert compiled.side.module is made[0].module


class TestFailures:
    @pytest.mark.parametrize(
        ("step", "error"),
        [
            (CompileStep(mode="fastest"), r"RuntimeError: Unrecognized mode=fastest, should be one of: default, "),
            (CompileStep(options={"freezin": True}), r"RuntimeError: Unexpected optimization option freezin; did you "),
            (CompileStep(backend="inductr"), r"InvalidBackend: Invalid backend: 'inductr'; there are .*inductor"),
            (CompileStep(mode="max-autotune", options={"freezing": True}), "Either mode or options can be specified"),
            (CompileStep(backend=failing_backend), r"failing_backend' raised: .*No working C\+\+ compiler found"),
            (CompileStep(backend=backend_without_triton), "Cannot find a working triton installation"),
            (CompileStep(backend=backend_failing_when_run), "RuntimeError: the kernel was made for another machine"),
        ],
        ids=["mode", "option", "backend", "mode and options", "no C++ compiler", "no triton", "first call"],
    )
    def test_is_a_fact_with_the_error_in_one_line(self, step: CompileStep, error: str) -> None:
        compiled = compile_side(side_of(Classifier()), [step])
        assert compiled.facts.status is CompileStatus.FAILED
        assert compiled.side is None
        (attempt,) = compiled.facts.attempts
        assert attempt.description == step.description
        assert attempt.error is not None
        assert re.search(error, attempt.error)
        assert len(attempt.error) <= 300
        assert len(compiled.errors) == 1

    @pytest.mark.skipif(
        not hasattr(torch._dynamo.config, "fail_on_recompile_limit_hit"),
        reason="this release cannot raise at its limit",
    )
    def test_a_recompile_limit_that_raises_is_a_fact(self) -> None:
        samples: list[Inputs] = [((torch.randn(rows, 4),), {}) for rows in (4, 5, 6)]
        limits = {"fail_on_recompile_limit_hit": True, _RECOMPILE_LIMIT: 1}
        with torch._dynamo.config.patch(limits):
            compiled = compile_side(
                side_of(Classifier()), [CompileStep(backend="eager", dynamic=False)], samples=samples
            )
        assert compiled.facts.status is CompileStatus.FAILED
        (attempt,) = compiled.facts.attempts
        assert attempt.error is not None
        assert attempt.error.startswith("FailOnRecompileLimitHit")

    def test_graph_break_under_fullgraph_names_the_line(self) -> None:
        step = CompileStep(backend="eager", fullgraph=True)
        (attempt,) = compile_side(side_of(Broken()), [step]).facts.attempts
        assert attempt.description == "backend='eager', fullgraph=True"
        assert attempt.error is not None
        assert f"(at {__file__}:" in attempt.error

    def test_falls_back_in_order_and_says_so(self) -> None:
        fullgraph = CompileStep(backend="eager", fullgraph=True)
        compiled = compile_side(side_of(Broken()), [CompileStep(mode="fastest"), fullgraph, AOT, EAGER])
        assert compiled.facts.status is CompileStatus.FELL_BACK
        assert [attempt.error is None for attempt in compiled.facts.attempts] == [False, False, True]
        assert compiled.facts.used == "backend='aot_eager'"
        assert compiled.facts.graph_breaks is not None
        assert len(compiled.facts.graph_breaks) == 1
        assert len(compiled.errors) == 2

    def test_falls_back_to_eager(self) -> None:
        model = Classifier().eval()
        compiled = compile_side(side_of(model), [CompileStep(backend=failing_backend), EAGER])
        assert compiled.facts.status is CompileStatus.FELL_BACK
        assert compiled.facts.used == "eager"
        assert compiled.facts.graphs == 0
        assert compiled.side is not None
        compiled.side.call()

    def test_failed_step_leaves_nothing_to_the_next(self) -> None:
        compiled = compile_side(side_of(Classifier()), [CompileStep(backend=backend_failing_when_run), AOT])
        assert compiled.facts.graphs == 1
        assert compiled.facts.recompiles == ()

    def test_model_that_raises_anyway_is_the_users_error(self) -> None:
        with pytest.raises(PairError, match=r"the model raises RuntimeError: .* without any compilation"):
            compile_side(side_of(Classifier(), torch.randn(3, 5)), [AOT, EAGER])

    def test_sample_that_the_model_refuses_is_named(self) -> None:
        samples: list[Inputs] = [((torch.randn(3, 4),), {}), ((torch.randn(3, 5),), {})]
        with pytest.raises(PairError, match=r"the model raises .* on samples\[1\] without any compilation"):
            compile_side(side_of(Classifier()), [AOT], samples=samples)

    def test_sample_that_the_compiled_model_refuses(self) -> None:
        def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
            def run(*args: Any) -> Any:
                if len(args[-1]) == 5:
                    raise RuntimeError("five is too many")
                return graph.forward(*args)

            return run

        compiled = compile_side(
            side_of(torch.nn.ReLU()), [CompileStep(backend=backend, dynamic=False)], samples=[((torch.randn(5),), {})]
        )
        assert compiled.facts.status is CompileStatus.FAILED

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_interrupt_is_not_a_failure(self, interrupt: type[BaseException]) -> None:
        def interrupted(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
            def run(*args: Any) -> Any:
                raise interrupt

            return run

        with pytest.raises(interrupt):
            compile_side(side_of(Classifier()), [CompileStep(backend=interrupted), EAGER])


class TestNothingCompiled:
    def test_dynamo_disabled_by_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
        facts = compile_side(side_of(Classifier()), [AOT, EAGER]).facts
        assert facts.status is CompileStatus.NOTHING_COMPILED
        assert facts.graphs == 0
        assert facts.explanation == "the environment variable TORCHDYNAMO_DISABLE=1 turns torch.compile off; unset it"

    def test_dynamo_disabled_by_its_config(self) -> None:
        with torch._dynamo.config.patch(disable=True):
            facts = compile_side(side_of(Classifier()), [AOT]).facts
        assert facts.status is CompileStatus.NOTHING_COMPILED
        assert facts.explanation is not None
        assert "torch._dynamo.config.disable" in facts.explanation

    @pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="stances exist since torch 2.6")
    def test_stance_forces_eager(self) -> None:
        with torch.compiler.set_stance("force_eager"):
            facts = compile_side(side_of(Classifier()), [AOT]).facts
        assert facts.status is CompileStatus.NOTHING_COMPILED
        assert facts.explanation is not None
        assert "set_stance('force_eager')" in facts.explanation

    def test_suppressed_error_is_silent_eager(self) -> None:
        class Unseen(torch.nn.Module):
            """Not compiled by another test: on torch 2.4 a reset keeps frames that were skipped once."""

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x.relu()

        with torch._dynamo.config.patch(suppress_errors=True):
            facts = compile_side(side_of(Unseen()), [CompileStep(backend=failing_backend), EAGER]).facts
        assert facts.status is CompileStatus.NOTHING_COMPILED
        assert facts.eager_frames
        assert facts.explanation is not None
        assert facts.explanation.startswith("torch._dynamo.config.suppress_errors hid an error of the compiler")
        assert "No working C++ compiler" in facts.explanation

    def test_function_kept_from_the_compiler(self) -> None:
        kept = torch.compiler.disable(torch.nn.functional.relu)  # type: ignore[no-untyped-call]
        facts = compile_side(Side(lambda x: kept(x), (torch.ones(2),)), [AOT]).facts
        assert facts.status is CompileStatus.NOTHING_COMPILED
        assert facts.explanation is not None
        assert facts.explanation.startswith("the compiler found nothing that it could compile")

    def test_eager_as_the_first_step(self) -> None:
        facts = compile_side(side_of(Classifier()), [EAGER]).facts
        assert facts.status is CompileStatus.NOTHING_COMPILED
        assert facts.explanation == "the step in use is 'eager', which compiles nothing"


@pytest.mark.parametrize(
    ("step", "description"),
    [
        (CompileStep(), "default mode"),
        (CompileStep(mode="default"), "default mode"),
        (CompileStep(mode="max-autotune", fullgraph=True), "mode='max-autotune', fullgraph=True"),
        (CompileStep(backend="aot_eager", dynamic=False), "backend='aot_eager', dynamic=False"),
        (CompileStep(backend=failing_backend), "backend='failing_backend'"),
        (CompileStep(options={"freezing": True}), "options={'freezing': True}"),
        (EAGER, "eager"),
    ],
)
def test_description(step: CompileStep, description: str) -> None:
    assert step.description == description
