"""A small residual convolutional network that classifies images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ConvNorm(nn.Sequential):
    """A convolution and its batch normalisation.

    Maps ``(batch, inputs, height, width)`` to ``(batch, outputs, height / stride, width / stride)``.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )


class Stage(nn.Module):
    """A residual block that halves height and width."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, stride=2)
        self.conv2 = ConvNorm(outputs, outputs)
        self.shortcut = ConvNorm(inputs, outputs, kernel_size=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, inputs, height, width)`` to ``(batch, outputs, height / 2, width / 2)``."""
        residual = self.conv2(F.silu(self.conv1(x)))
        return F.silu(self.shortcut(x) + residual)


class ImageClassifier(nn.Module):
    """Maps colour images to class logits.

    Args:
        width: channels of the first layer; every stage doubles them.
        stages: residual stages; every one halves height and width.
        classes: number of classes.
    """

    def __init__(self, width: int = 16, stages: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, width), nn.SiLU())
        self.stages = nn.Sequential(*(Stage(width << n, width << (n + 1)) for n in range(stages)))
        self.head = nn.Linear(width << stages, classes)

    def features(self, images: Tensor) -> Tensor:
        """Return features of shape ``(batch, self.head.in_features)`` for the images that ``forward`` takes."""
        return self.stages(self.stem(images)).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape ``(batch, classes)`` for images of shape ``(batch, 3, height, width)``."""
        return self.head(self.features(images))
