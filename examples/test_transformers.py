"""A transformers model built from its configuration, with random weights: nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from pytest_nnopt import ModelPairFactory

transformers = pytest.importorskip("transformers")


@pytest.mark.nnopt_compile(fullgraph=True)
@pytest.mark.nnopt_speedup(min=1.1)
@pytest.mark.nnopt_limits(graph_breaks=0, recompiles=0)
def test_llama(model_pair: ModelPairFactory) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        use_cache=False,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model_pair(model, input_ids=torch.randint(config.vocab_size, (4, 64)))
