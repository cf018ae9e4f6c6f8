"""A fixed reference workload that shows the machine's speed of the moment.

Baselines keep latencies relative to it, so a change of this file that changes its cost must raise
``YARDSTICK_VERSION``: ratios against different versions cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

YARDSTICK_VERSION = 1


@dataclass(frozen=True, slots=True)
class YardstickSize:
    """What one call does.

    Attributes:
        matrix_width: rows and columns of the square factors.
        products: matrix products, each the input of the next.
        copied_bytes: bytes read and written behind the products.
        dtype: element type of the factors.
    """

    matrix_width: int
    products: int
    copied_bytes: int
    dtype: torch.dtype


CPU_SIZE = YardstickSize(matrix_width=128, products=2, copied_bytes=2 * 2**20, dtype=torch.float64)
"""About 0.4 ms on one core of a 2023 server: mostly arithmetic, a fifth memory traffic past its L2 cache."""

CUDA_SIZE = YardstickSize(matrix_width=2048, products=4, copied_bytes=256 * 2**20, dtype=torch.float16)
"""By the data sheet about 0.25 ms on an H200; the copy exceeds its L2 cache."""


def make_yardstick(device: torch.device) -> Callable[[], object]:
    """Return the reference workload of ``device`` as a callable without arguments.

    A call writes into buffers of its own and starts from the same values every time. Neither autocast, inference mode,
    gradient mode nor ``torch.set_float32_matmul_precision`` changes what it runs: results go to ``out=`` arguments,
    which autocast leaves alone, and its types know no reduced precision chosen by settings.
    """
    size = CUDA_SIZE if device.type == "cuda" else CPU_SIZE
    with torch.inference_mode(False), torch.no_grad():
        factor = _make_rotation(size.matrix_width, size.dtype, device)
        products = [torch.zeros_like(factor) for _ in range(2)]
        buffers = [torch.zeros(size.copied_bytes, dtype=torch.uint8, device=device) for _ in range(2)]

    def run_yardstick() -> torch.Tensor:
        left = factor
        with torch.no_grad():
            for step in range(size.products):
                left = torch.mm(left, factor, out=products[step % 2])
            buffers[1].copy_(buffers[0])
        return left

    return run_yardstick


def _make_rotation(width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the cosine transform of type IV: its powers neither grow nor fade into slow subnormal numbers."""
    index = torch.arange(width, dtype=torch.float64, device="cpu") + 0.5
    matrix: torch.Tensor = torch.cos(torch.outer(index, index) * torch.pi / width) * (2 / width) ** 0.5
    return matrix.to(device=device, dtype=dtype)
