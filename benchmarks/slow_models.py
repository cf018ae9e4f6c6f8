"""Models of three sizes for a CPU and a GPU, and a way to make each really slower: more work inside it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
from torch import nn

MOST_ELEMENTS = {"cpu": 2**24, "cuda": 2**27}
PASSES = {"cpu": 64, "cuda": 16}
"""How often the extra work goes over its elements. Each time costs the eager model two launches, so that on a GPU few
leave the pace to the device."""

LEAST_ELEMENTS = {"cpu": 64, "cuda": 2**20}
"""Extra elements of a model that counts as unchanged: the kernel that works on them is there in every version. On a GPU
they are enough to occupy all of it, so that more of them cost more."""


class Busy(nn.Module):
    """A model that does some arithmetic besides, whose result it adds to its own in a negligible share.

    Args:
        model: what it does otherwise.
        elements: on how many single elements the arithmetic works, at most ``MOST_ELEMENTS``; its cost grows with them.
        passes: how often.
    """

    def __init__(self, model: nn.Module, elements: int, passes: int) -> None:
        super().__init__()
        self.model = model
        self.passes = passes
        self.fill: torch.Tensor
        self.register_buffer("fill", torch.linspace(0.1, 0.9, elements))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the model returns, but for rounding."""
        busy = self.fill
        for _ in range(self.passes):
            busy = torch.sqrt(busy + 0.1)
        output: torch.Tensor = self.model(x) + 1e-12 * busy.sum()
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


Make = Callable[[], tuple[nn.Module, torch.Tensor]]

CPU_MODELS: Mapping[str, Make] = {
    "small": lambda: (feed_forward(64, 2).eval(), torch.randn(8, 64)),
    "medium": lambda: (feed_forward(256, 4).eval(), torch.randn(64, 256)),
    "large": lambda: (convolutions().eval(), torch.randn(8, 3, 64, 64)),
}
"""By name: a model with its input; about 50 µs, 1 ms and 15 ms on one core of a server."""

GPU_MODELS: Mapping[str, Make] = {
    "small": lambda: (feed_forward(256, 4).eval(), torch.randn(64, 256)),
    "medium": lambda: (feed_forward(2048, 6).eval(), torch.randn(2048, 2048)),
    "large": lambda: (convolutions().eval(), torch.randn(256, 3, 128, 128)),
}
"""The first is paced by the host; the others by the GPU, for 2 to 5 ms a call."""
