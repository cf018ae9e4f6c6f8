"""Trees are opened with paths that users know, and copied with their structure."""

from __future__ import annotations

import enum
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.torch_backend.tree import containers, flatten, map_tensors, named_tensors

X, Y = torch.ones(2), torch.zeros(3)


class Heads(NamedTuple):
    policy: Any
    value: Any


@dataclass
class State:
    hidden: Any
    step: int


class Named(OrderedDict[str, Any]):
    pass


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        (X, ["output"]),
        ((X, [Y]), ["output[0]", "output[1][0]"]),
        (deque([X]), ["output[0]"]),
        (Heads(X, (Y,)), ["output.policy", "output.value[0]"]),
        ({"k": X, 3: Y}, ["output['k']", "output[3]"]),
        (Named(a=X), ["output['a']"]),
        (State(X, 4), ["output.hidden", "output.step"]),
        (BaseModelOutputWithPast(last_hidden_state=X), ["output.last_hidden_state"]),
        (torch.max(torch.ones(2, 2), 0), ["output[0]", "output[1]"]),
        ((), []),
        ((None, 1.5, "a", torch.float32, np.ones(2), Color.RED), [f"output[{i}]" for i in range(6)]),
    ],
)
def test_paths(value: object, paths: list[str]) -> None:
    assert [path for path, _ in flatten(value, "output")] == paths


def test_a_cache_of_keys_and_values_is_opened() -> None:
    cache = DynamicCache()
    cache.update(torch.ones(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    found = dict(flatten(BaseModelOutputWithPast(past_key_values=cache), "output"))
    tensors = [path for path, leaf in found.items() if isinstance(leaf, torch.Tensor)]
    assert len(tensors) == 2
    assert all(path.startswith("output.past_key_values.") for path in tensors)


def test_a_distribution_is_opened() -> None:
    found = dict(flatten(torch.distributions.Normal(X, X), "output"))
    assert found["output.loc"] is X


def test_container_types_are_told_by_path() -> None:
    assert containers(({"a": [X]},), "output") == {"output": "tuple", "output[0]": "dict", "output[0]['a']": "list"}


@pytest.mark.parametrize("value", [threading.Lock(), object(), {1, 2}, lambda: X])
def test_what_cannot_be_compared_is_an_error_naming_it(value: object) -> None:
    with pytest.raises(NumericsError, match=r"output\[1\] is a .*cannot be compared"):
        flatten((X, value), "output")


def test_a_tree_that_contains_itself_is_an_error() -> None:
    loop: list[object] = [X]
    loop.append(loop)
    with pytest.raises(NumericsError, match=r"output\[1\] contains itself"):
        flatten(loop, "output")
    assert [path for path, _ in named_tensors(loop, "x")] == ["x[0]"]


def test_copies_keep_types_and_leave_the_original() -> None:
    tree = (Heads(X, State(Y, 4)), Named(a=[X]), BaseModelOutputWithPast(last_hidden_state=X), "name")
    copied = map_tensors(tree, lambda tensor: tensor + 1)
    assert containers(copied, "t") == containers(tree, "t")
    assert torch.equal(copied[0].policy, X + 1)
    assert copied[0].value.step == 4
    assert torch.equal(copied[2]["last_hidden_state"], X + 1)
    assert torch.equal(tree[0].policy, torch.ones(2))


def test_a_tensor_that_appears_twice_still_does() -> None:
    first, second = map_tensors((X, {"again": X}), torch.clone)
    assert isinstance(second, dict)
    assert first is second["again"]
    assert first is not X


def test_a_cache_is_copied_with_its_tensors() -> None:
    cache = DynamicCache()
    cache.update(torch.ones(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    copied = map_tensors({"cache": cache}, torch.clone)["cache"]
    copied.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), 0)
    assert (cache.get_seq_length(), copied.get_seq_length()) == (3, 4)


def test_what_cannot_be_opened_is_passed_over_in_inputs() -> None:
    assert named_tensors((object(), X), "args") == [("args[1]", X)]


class Holder:
    """A plain object whose tensors lie behind another object and a mapping, and which knows itself."""

    def __init__(self, inner: object) -> None:
        self.me = self
        self.inner = {"inner": inner}


def test_a_plain_object_is_opened_if_a_tensor_lies_below_it() -> None:
    assert [path for path, _ in named_tensors(Holder([X]), "x")] == ["x.inner['inner'][0]"]
    assert named_tensors(Holder(3), "x") == []
