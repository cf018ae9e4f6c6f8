"""An image network compiled for inference, compiled for training, and optimised by hand."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
import torch
from models.image import ConvNorm, ImageClassifier
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from torch import Tensor

    from pytest_nnopt import ModelPairFactory


@pytest.fixture
def images() -> Tensor:
    """Return colour images of shape ``(8, 3, 64, 64)``."""
    torch.manual_seed(0)
    return torch.randn(8, 3, 64, 64)


@pytest.mark.nnopt_compile(fullgraph=True)
@pytest.mark.nnopt_speedup(min=1.05)
def test_inference(model_pair: ModelPairFactory, images: Tensor) -> None:
    model_pair(ImageClassifier().eval(), images)


# On a CPU, eager sums the batch statistics in float64 and the compiled model in float32. The error is tiny, but a whole
# channel shares it, so no mean over pixels hides it, and it is several times eager's own: say what is acceptable.
@pytest.mark.nnopt_compile(fullgraph=True)
@pytest.mark.nnopt_tolerance(rtol=1e-3, atol=1e-6)
def test_training_step(model_pair: ModelPairFactory, images: Tensor) -> None:
    labels = torch.randint(10, (len(images),))
    model_pair(
        ImageClassifier(stages=1).train(), images, loss=lambda logits: F.cross_entropy(logits, labels.to(logits.device))
    )


def fold_norms(model: nn.Module) -> nn.Module:
    """Return a copy of ``model`` whose batch normalisations are folded into the convolutions before them."""
    model = deepcopy(model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvNorm):
                setattr(module, name, fuse_conv_bn_eval(*child))
    return model


@pytest.mark.nnopt_tolerance(rtol=1e-4, atol=1e-5)
def test_folded_norms(model_pair: ModelPairFactory, images: Tensor) -> None:
    model = ImageClassifier().eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    model_pair(model, images, candidate=fold_norms(model))
