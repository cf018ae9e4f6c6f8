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
    """Digest the digests of all pieces, which as many threads make as torch computes with: large models take long."""
    digest = hashlib.blake2b()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for found in threads.map(_digest_piece, _pieces(named)):
            digest.update(found)
    return digest.hexdigest()[:_DIGITS]


def _pieces(named: Iterable[tuple[str, torch.Tensor]]) -> Iterator[str | torch.Tensor]:
    """Yield what each tensor is, and where it has plain bytes these: in chunks, or whole where a copy must be made."""
    for name, tensor in named:
        yield f"{name} {tensor.dtype} {tensor.layout} {'' if tensor.is_nested else list(tensor.shape)}"
        if tensor.is_nested or tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            continue
        is_copied = not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg()
        yield from (tensor,) if is_copied else torch.split(_bytes_of(tensor), _CHUNK_BYTES)


def _digest_piece(piece: str | torch.Tensor) -> bytes:
    chunks = [piece.encode()] if isinstance(piece, str) else torch.split(_bytes_of(piece), _CHUNK_BYTES)
    return b"".join(map(_digest_chunk, chunks))


def _digest_chunk(chunk: bytes | torch.Tensor) -> bytes:
    return hashlib.blake2b(chunk.cpu().numpy().data if isinstance(chunk, torch.Tensor) else chunk).digest()


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)
