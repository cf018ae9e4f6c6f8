"""A policy-and-value network for a board game: a residual tower with squeeze-and-excitation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

BOARD = 9
PLANES = 46
MOVES_PER_SQUARE = 139
ACTIONS = MOVES_PER_SQUARE * BOARD * BOARD  # 11259


class PolicyValue(NamedTuple):
    """What the network thinks of a batch of positions.

    Attributes:
        policy: unnormalised log-probability of each action, shape ``(batch, 11259)``.
        value: expected result between -1 and 1, shape ``(batch,)``.
    """

    policy: Tensor
    value: Tensor


class SqueezeExcitation(nn.Module):
    """Scales and shifts every channel by what the whole board looks like."""

    def __init__(self, width: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // reduction)
        self.excite = nn.Linear(width // reduction, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Reweigh ``x`` of shape ``(batch, width, 9, 9)``, which the result keeps."""
        summary = torch.relu(self.squeeze(x.mean(dim=(2, 3))))
        scale, shift = self.excite(summary)[:, :, None, None].chunk(2, dim=1)
        return x * torch.sigmoid(scale) + shift


class ResidualBlock(nn.Module):
    """Two convolutions, squeeze-and-excitation and a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.attend = SqueezeExcitation(width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` of shape ``(batch, width, 9, 9)``, which the result keeps."""
        residual = torch.relu(self.norm1(self.conv1(x)))
        residual = self.attend(self.norm2(self.conv2(residual)))
        return torch.relu(x + residual)


class PolicyValueNet(nn.Module):
    """Maps board observations to a policy and a value.

    Args:
        width: channels of the residual tower.
        depth: residual blocks in the tower.
    """

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(PLANES, width, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.tower = nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
        self.policy_head = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=1), nn.ReLU(), nn.Conv2d(width, MOVES_PER_SQUARE, kernel_size=1)
        )
        self.value_head = nn.Sequential(
            nn.Conv2d(width, 4, kernel_size=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * BOARD * BOARD, 1), nn.Tanh()
        )

    def forward(self, observation: Tensor) -> PolicyValue:
        """Evaluate a batch of positions of shape ``(batch, 46, 9, 9)``."""
        features = self.tower(self.stem(observation))
        return PolicyValue(policy=self.policy_head(features).flatten(1), value=self.value_head(features).squeeze(1))
