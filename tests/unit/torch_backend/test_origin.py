from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pytest_nnopt.torch_backend import origin
from pytest_nnopt.torch_backend.origin import origin_of, seed_generators
from pytest_nnopt.torch_backend.side import Side
from pytest_nnopt.torch_backend.threads import thread_count

if TYPE_CHECKING:
    import pytest


def side_of(module: nn.Module, *args: torch.Tensor) -> Side:
    return Side(module, args, module=module)


def linear(seed: int = 0, width: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(width, 2)


def test_the_same_bits_have_the_same_digests() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    assert origin_of(side_of(linear(), x)) == origin_of(side_of(linear(), x.T.contiguous().T))


def test_the_same_bits_in_several_chunks_have_the_same_digests_for_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(origin, "_CHUNK_BYTES", 8)
    x = torch.arange(6.0).reshape(2, 3)
    first = origin_of(side_of(linear(), x))
    with thread_count(2):
        assert origin_of(side_of(linear(), x.T.contiguous().T)) == first
    assert origin_of(side_of(linear(), x.flip(1)))["inputs"] != first["inputs"]


def test_a_digest_is_what_baselines_hold_of_the_same_bits() -> None:
    assert origin_of(Side(torch.neg, (torch.arange(1 << 19, dtype=torch.float32),)))["inputs"] == "46e6ec8e"


def test_a_view_that_is_conjugated_when_read_counts_by_what_is_read() -> None:
    x = torch.tensor([1 + 2j])
    assert origin_of(Side(torch.neg, (x.conj(),))) == origin_of(Side(torch.neg, (x.conj().resolve_conj(),)))
    assert origin_of(Side(torch.neg, (x.conj(),))) != origin_of(Side(torch.neg, (x,)))


def test_each_digest_tells_its_own_part() -> None:
    x = torch.ones(2, 3)
    before = origin_of(side_of(linear(), x))
    other_input = origin_of(side_of(linear(), x * 2))
    other_weights = origin_of(side_of(linear(seed=1), x))
    other_shape = origin_of(side_of(linear(width=4), x))
    assert [name for name in before if other_input[name] != before[name]] == ["inputs"]
    assert [name for name in before if other_weights[name] != before[name]] == ["parameters"]
    assert [name for name in before if other_shape[name] != before[name]] == ["parameters", "structure"]


def test_shapes_count_where_bytes_are_equal() -> None:
    flat = Side(torch.neg, (torch.zeros(6),))
    assert origin_of(flat)["inputs"] != origin_of(Side(torch.neg, (torch.zeros(2, 3),)))["inputs"]


def test_inputs_without_plain_bytes_have_a_digest() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    for tensor in (
        torch.eye(3).to_sparse(),
        nested,
        torch.ones(2, device="meta"),
        torch.ones(2, dtype=torch.complex64),
    ):
        assert len(origin_of(Side(torch.neg, (tensor,)))["inputs"]) == 8


def test_a_seed_holds_for_every_generator() -> None:
    def draw() -> tuple[float, float, float]:
        seed_generators(3)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        assert draw() == draw()
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
        torch.set_rng_state(state[2])
