from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.work import WorkFacts, count_work


def work_of(model: nn.Module, *inputs: torch.Tensor, **fields: Any) -> WorkFacts:
    return count_work(Side(model, inputs, module=model, **fields))


def test_operators_are_counted_by_name_with_the_elements_they_touch() -> None:
    found = work_of(nn.ReLU(), torch.zeros(2, 3))
    assert found == WorkFacts({"aten.relu.default": 1}, 12)


def test_the_same_model_does_the_same_work_whatever_its_numbers() -> None:
    torch.manual_seed(0)
    first, second = (work_of(nn.Sequential(nn.Linear(4, 4), nn.Dropout()), torch.randn(2, 4)) for _ in range(2))
    assert first == second


def test_another_operator_or_another_shape_is_other_work() -> None:
    plain = work_of(nn.Linear(4, 4), torch.zeros(2, 4))
    assert work_of(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), torch.zeros(2, 4)) != plain
    assert work_of(nn.Linear(4, 4), torch.zeros(3, 4)) != plain


def test_a_training_step_counts_its_backward_pass() -> None:
    mode = ExecutionMode(is_grad_enabled=True)
    found = work_of(nn.Sigmoid(), torch.zeros(3, requires_grad=True), loss=torch.sum, mode=mode)
    assert found.operators["aten.sigmoid_backward.default"] == 1


def test_sparse_tensors_are_counted_by_their_operators_alone() -> None:
    found = count_work(Side(torch.neg, (torch.eye(3).to_sparse(),)))
    assert sum(found.operators.values()) > 0


def test_the_random_state_stays() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    work_of(nn.Dropout(), torch.ones(8))
    assert torch.equal(torch.random.get_rng_state(), before)
