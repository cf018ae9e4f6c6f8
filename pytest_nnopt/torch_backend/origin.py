"""Where a case's numbers come from: digests of its inputs and parameters, and the seed that a test draws them under."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_nnopt.torch_backend.tree import named_tensors

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side

_DIGITS = 8
_CHUNK_BYTES = 1 << 20
"""Part of what a digest is: other chunks give other digests than those that baselines hold."""


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
    """Digest what each tensor is, and its chunks' digests, made by as many threads as torch computes with."""
    digest = hashlib.blake2b()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for name, tensor in named:
            digest.update(f"{name} {tensor.dtype} {tensor.layout} {_shape_of(tensor)}".encode())
            for chunk in threads.map(_digest_chunk, _chunks_of(tensor)):
                digest.update(chunk)
    return digest.hexdigest()[:_DIGITS]


def _shape_of(tensor: torch.Tensor) -> list[int]:
    return [] if tensor.is_nested else list(tensor.shape)


def _chunks_of(tensor: torch.Tensor) -> Iterator[np.ndarray]:
    """Yield a tensor's bytes on the host; none of one whose elements have no plain bytes."""
    if tensor.is_nested or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return
    flat = tensor.detach().resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)
    for chunk in torch.split(flat, _CHUNK_BYTES):
        yield chunk.cpu().numpy()


def _digest_chunk(chunk: np.ndarray) -> bytes:
    return hashlib.blake2b(chunk.data).digest()
