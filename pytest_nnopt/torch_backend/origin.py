"""Where a case's numbers come from: digests of its inputs and parameters, and the seed that a test draws them under."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_nnopt.torch_backend.tree import named_tensors

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side

_DIGITS = 8
_CHUNK_BYTES = 1 << 24


def seed_generators(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators, so that what a test draws is the same in every run."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def origin_of(side: Side) -> dict[str, str]:
    """Return digests of eight hexadecimal digits: of the inputs, and of the parameters' values and structure.

    Equal digests mean that two runs started from the same bits. A tensor whose elements have no plain bytes, such as a
    quantised one, counts by its shape alone.
    """
    inputs = named_tensors((side.args, dict(side.kwargs)), "inputs")
    state = [] if side.module is None else [*side.module.named_parameters(), *side.module.named_buffers()]
    structure = "".join(f"{name} {tensor.dtype} {list(tensor.shape)};" for name, tensor in state)
    return {
        "inputs": _digest(inputs),
        "parameters": _digest(state),
        "structure": hashlib.blake2b(structure.encode()).hexdigest()[:_DIGITS],
    }


def _digest(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.blake2b()
    for name, tensor in named:
        digest.update(f"{name} {tensor.dtype} {tensor.layout}".encode())
        if tensor.is_nested:
            continue
        digest.update(str(list(tensor.shape)).encode())
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
            continue
        flat = tensor.detach().resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)
        for start in range(0, flat.numel(), _CHUNK_BYTES):
            digest.update(flat[start : start + _CHUNK_BYTES].cpu().numpy().data)
    return digest.hexdigest()[:_DIGITS]
