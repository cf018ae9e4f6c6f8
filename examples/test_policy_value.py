"""A network with two outputs, gated on its numbers, its speedup and its compilation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from models.policy_value import BOARD, PLANES, PolicyValueNet

if TYPE_CHECKING:
    from pytest_nnopt import ModelPairFactory


@pytest.mark.nnopt_compile(fullgraph=True)
@pytest.mark.nnopt_tolerance(rtol=1e-4, atol=1e-5)
@pytest.mark.nnopt_speedup(min=1.05)
@pytest.mark.nnopt_limits(graph_breaks=0, recompiles=0)
def test_evaluation(model_pair: ModelPairFactory) -> None:
    torch.manual_seed(0)
    positions = torch.randn(16, PLANES, BOARD, BOARD)
    model_pair(PolicyValueNet().eval(), positions)
