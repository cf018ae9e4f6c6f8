"""A language model in inference and in a training step; it may be no slower than its baseline, more is not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from models.decoder import Decoder
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_nnopt import ModelPairFactory

pytestmark = [
    pytest.mark.nnopt_compile(fullgraph=True),
    pytest.mark.nnopt_limits(graph_breaks=0, recompiles=0),
]

VOCABULARY = 512


@pytest.fixture
def tokens() -> Tensor:
    """Return token sequences of shape ``(4, 65)``: one position more than a model sees at once."""
    torch.manual_seed(0)
    return torch.randint(VOCABULARY, (4, 65))


def test_inference(model_pair: ModelPairFactory, tokens: Tensor) -> None:
    model_pair(Decoder(VOCABULARY).eval(), tokens[:, :-1])


def test_training_step(model_pair: ModelPairFactory, tokens: Tensor) -> None:
    following = tokens[:, 1:].flatten()
    model_pair(
        Decoder(VOCABULARY).train(),
        tokens[:, :-1],
        loss=lambda logits: F.cross_entropy(logits.flatten(0, 1), following.to(logits.device)),
    )
