"""Models of three sizes, and a way to make each really slower: extra work inside it, compiled along."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import nn

FILL_ELEMENTS = 2**22


class Slower(nn.Module):
    """A model that does some arithmetic besides, whose result it adds to its own in a negligible share.

    Args:
        model: what it does otherwise.
        elements: how many single elements the arithmetic takes, at most ``FILL_ELEMENTS``.
    """

    def __init__(self, model: nn.Module, elements: int) -> None:
        super().__init__()
        self.model = model
        self.fill: torch.Tensor
        self.register_buffer("fill", torch.linspace(0, 1, FILL_ELEMENTS)[:elements].clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the model returns, but for rounding."""
        output: torch.Tensor = self.model(x) + 1e-12 * torch.sin(self.fill).sum()
        return output


def feed_forward(width: int, layers: int) -> nn.Module:
    """Return linear layers with GELU and layer normalisation behind them."""
    blocks = (nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)) for _ in range(layers))
    return nn.Sequential(*blocks)


def convolutions() -> nn.Module:
    """Return a small image network whose activations are a few megabytes."""
    layers = [
        layer
        for inputs, outputs in itertools.pairwise((3, 16, 32, 64))
        for layer in (nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


MODELS: Mapping[str, Callable[[], tuple[nn.Module, torch.Tensor]]] = {
    "small": lambda: (feed_forward(64, 2).eval(), torch.randn(8, 64)),
    "medium": lambda: (feed_forward(256, 4).eval(), torch.randn(64, 256)),
    "large": lambda: (convolutions().eval(), torch.randn(8, 3, 64, 64)),
}
"""By name: a model with its input."""
