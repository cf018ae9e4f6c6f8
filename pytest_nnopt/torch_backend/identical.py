"""Two sides that are the same: what a measurement says of them is its own error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pytest_nnopt.torch_backend.pair import PairRequest, build_side

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side

_WIDTH = 256
_BATCH = 64


def as_device(name: str | None) -> torch.device:
    """Return the named device; None is the GPU where torch sees one, else the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def identical_sides(device: torch.device) -> tuple[Side, Side]:
    """Build two copies of a small network, each with parameters and inputs of its own, as a case's two sides are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _WIDTH)]
        request = PairRequest(nn.Sequential(*layers).eval(), (torch.randn(_BATCH, _WIDTH),))
    return build_side(request, device=str(device)), build_side(request, device=str(device))
