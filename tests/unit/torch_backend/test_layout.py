from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from pytest_nnopt.torch_backend import layout
from pytest_nnopt.torch_backend.layout import give_own_code, isolate_compilation, place_copies

CPU = torch.device("cpu")


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, *, scale: float = 2.0) -> torch.Tensor:
        output: torch.Tensor = torch.relu(self.linear(x)) * scale
        return output


class Model(nn.Module):
    """Every copy has a tag of its own, which its guards check, so that no copy can use another's entry."""

    def __init__(self, tag: str = "a") -> None:
        super().__init__()
        self.first, self.second = Layer(), Layer()
        self.tag = tag

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run both layers."""
        output: torch.Tensor = self.second(self.first(x)) + len(self.tag)
        return output

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward(x).argmax(dim=-1)


def double(x: torch.Tensor, *, by: int = 2) -> torch.Tensor:
    return x * by


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class CompileLog:
    """A backend that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


def tagged_copies() -> list[Model]:
    copies = [copy.deepcopy(Model()) for _ in range(3)]
    for number, model in enumerate(copies):
        model.tag = f"copy {number}"
    return copies


def count_entries(function: Callable[..., Any], region: int | None = None) -> int:
    """Return the entries that a call checks before it compiles anew."""
    eval_frame: Any = torch._dynamo.eval_frame
    if region is not None:
        return len(eval_frame._get_cache_entries_for_region(function.__code__, region))
    return len(eval_frame._debug_get_cache_entry_list(function.__code__))


def test_copies_lie_apart_and_their_spacers_live() -> None:
    placed = place_copies(lambda: torch.zeros(16), 5, device=CPU, random=Random(1))
    assert len(placed.copies) == 5
    assert len({tensor.data_ptr() for tensor in placed.copies}) == 5
    assert len(placed.spacers) == 5 * layout.SPACERS_PER_COPY
    sizes = [spacer.nbytes for spacer in placed.spacers]
    assert min(sizes) >= layout.SMALLEST_SPACER_BYTES
    assert max(sizes) <= layout.LARGEST_SPACER_BYTES
    assert len(set(sizes)) > len(sizes) / 2


def test_places_follow_the_random_generator() -> None:
    def sizes(seed: int) -> list[int]:
        return [s.nbytes for s in place_copies(object, 2, device=CPU, random=Random(seed)).spacers]

    assert sizes(1) == sizes(1)
    assert sizes(1) != sizes(2)


def test_copies_without_isolation_share_a_chain_of_guards(fresh_compiler: None) -> None:
    compiled = [torch.compile(model, backend=CompileLog()) for model in tagged_copies()]
    for function in compiled:
        function(torch.ones(2, 4))
    assert count_entries(Model.forward) == 3


@pytest.mark.skipif(not layout.has_isolation(), reason="this torch.compile cannot isolate by itself")
def test_isolated_copies_check_their_own_guards_alone(fresh_compiler: None) -> None:
    for model in tagged_copies():
        function, options = isolate_compilation(model, {"backend": CompileLog()})
        compiled: Any = torch.compile(function, **options)
        compiled(torch.ones(2, 4))
        assert count_entries(Model.forward, compiled.forward._isolate_recompiles_id) == 1
    assert count_entries(Model.forward, -1) == 0


@pytest.mark.skipif(not layout.has_isolation(), reason="this torch.compile cannot isolate by itself")
def test_isolated_copies_reuse_the_first_where_its_guards_hold(fresh_compiler: None) -> None:
    log, model = CompileLog(), Model()
    torch.compile(model, backend=log)(torch.ones(2, 4))
    function, options = isolate_compilation(copy.deepcopy(model), {"backend": log})
    torch.compile(function, **options)(torch.ones(2, 4))
    assert log.graphs == 1


def test_without_the_option_copies_get_code_of_their_own(fresh_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "has_isolation", lambda: False)
    for model in tagged_copies():
        expected = model(torch.ones(2, 4))
        function, options = isolate_compilation(model, {"backend": CompileLog(), "fullgraph": True})
        compiled = torch.compile(function, **options)
        assert torch.equal(compiled(torch.ones(2, 4)), expected)
        assert isinstance(model.forward, types.MethodType)
        assert count_entries(model.forward.__func__) == 1
    assert count_entries(Model.forward) == 0


def test_own_code_of_a_module_reaches_its_submodules() -> None:
    model = Model()
    assert give_own_code(model) is model
    assert isinstance(model.first.forward, types.MethodType)
    assert model.first.forward.__func__.__code__ is not Layer.forward.__code__
    assert "forward" not in vars(model.first.linear)


def test_modules_of_one_class_go_on_sharing_code() -> None:
    model = Model()
    give_own_code(model)
    assert isinstance(model.first.forward, types.MethodType)
    assert isinstance(model.second.forward, types.MethodType)
    assert model.first.forward.__func__ is model.second.forward.__func__
    assert model.second.forward.__self__ is model.second


def test_own_code_leaves_the_state_as_it_was() -> None:
    model = Model()
    keys = list(model.state_dict())
    give_own_code(model)
    assert list(model.state_dict()) == keys
    twin = copy.deepcopy(model)
    assert isinstance(twin.forward, types.MethodType)
    assert twin.forward.__self__ is twin


def test_a_forward_that_was_replaced_already_is_left_alone() -> None:
    model = Model()
    replacement = partial(Model.forward, model)
    model.forward = replacement  # type: ignore[method-assign]
    give_own_code(model)
    assert model.forward is replacement


def test_a_forward_that_is_no_function_is_left_alone() -> None:
    class Odd(nn.Module):
        forward = partial(double, by=3)

    model = Odd()
    give_own_code(model)
    assert "forward" not in vars(model)


def test_bound_method_keeps_its_module_and_gets_own_code() -> None:
    model = Model()
    method = give_own_code(model.predict)
    assert isinstance(method, types.MethodType)
    assert method.__self__ is model
    assert method.__func__.__code__ is not Model.predict.__code__
    assert "forward" in vars(model)
    assert torch.equal(method(torch.ones(2, 4)), model.predict(torch.ones(2, 4)))


def test_bound_method_of_a_plain_object_gets_own_code() -> None:
    class Scorer:
        def score(self, x: int) -> int:
            return x + 1

    scorer = Scorer()
    method = give_own_code(scorer.score)
    assert isinstance(method, types.MethodType)
    assert method.__func__ is not Scorer.score
    assert method(1) == 2


def test_function_keeps_its_defaults_closure_and_attributes() -> None:
    offset = 5

    def shift(x: int, factor: int = 2, *, addend: int = 3) -> int:
        """Shift."""
        return x * factor + addend + offset

    shift.tag = "kept"  # type: ignore[attr-defined]
    own = give_own_code(shift)
    assert isinstance(own, types.FunctionType)
    assert own.__code__ is not shift.__code__
    assert own(1) == shift(1) == 10
    assert own.__qualname__ == shift.__qualname__
    assert own.__annotations__ == shift.__annotations__
    assert (own.__doc__, own.__module__, vars(own)["tag"]) == ("Shift.", __name__, "kept")


def test_other_callables_are_returned_as_they_are() -> None:
    callables: list[Callable[..., Any]] = [partial(double, by=3), torch.relu, [].append]
    for function in callables:
        assert give_own_code(function) is function


class Static(torch.nn.Module):
    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x + 1


def test_code_that_is_no_method_or_names_no_module_is_called_as_it_is() -> None:
    traced = torch.fx.symbolic_trace(Model())
    model = torch.nn.Sequential(Static(), traced)
    x = torch.ones(2, 4)
    expected = model(x)
    assert torch.equal(give_own_code(model)(x), expected)
