"""Tensors as leaves that the numerics can read: exactly converted, in chunks, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.numerics.leaves import CHUNK_ELEMENTS, ArrayLeaf, Chunk, ConstantLeaf, Leaf, LeafKind, eps_of

_PIECE_ELEMENTS = 1 << 22
_EXACT_DTYPES = frozenset(
    {"bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"}  # numpy has them all
)
_COMPRESSED_INDICES = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}


def leaves_of(path: str, kind: LeafKind, value: object, *, is_unchanged: bool = False) -> list[Leaf]:
    """Make comparable leaves of one leaf of a tree; the tensor is kept, not copied.

    A sparse or nested tensor becomes several: its indices and its values. Numbers become arrays of no dimension.
    A Python float counts as rounded to float32, which is what a model computes in unless told otherwise.

    Raises:
        NumericsError: a tensor of a kind or dtype that cannot be compared.
    """
    if isinstance(value, torch.Tensor):
        return [
            _dense_leaf(part_path, kind, part, is_unchanged=is_unchanged)
            for part_path, part in _dense_parts(path, value.detach())
        ]
    if isinstance(value, np.ndarray):
        return [_dense_leaf(path, kind, _tensor_of_array(path, value), is_unchanged=is_unchanged)]
    number = _array_of_number(value)
    if number is not None:
        return [_number_leaf(path, kind, *number)]
    return [ConstantLeaf(path, kind, repr(value))]


def read_tensor(tensor: torch.Tensor) -> Iterator[Chunk]:
    """Yield the elements of a dense tensor in logical order as :class:`ArrayLeaf` promises them.

    A tensor on a device is fetched a piece at a time. Never more than one piece is copied.
    """
    for piece in _pieces(tensor.detach(), _PIECE_ELEMENTS):
        flat = piece.reshape(-1).cpu()
        for start in range(0, flat.numel(), CHUNK_ELEMENTS):
            yield _exact_chunk(flat[start : start + CHUNK_ELEMENTS])


def _pieces(tensor: torch.Tensor, limit: int) -> Iterator[torch.Tensor]:
    """Cut a tensor along its leading dimensions into parts of at most ``limit`` elements, by its shape alone."""
    if tensor.numel() <= limit:
        if tensor.numel():
            yield tensor
        return
    row_elements = tensor.numel() // tensor.shape[0]
    if row_elements > limit:
        for row in tensor:
            yield from _pieces(row, limit)
        return
    yield from torch.split(tensor, limit // row_elements)


def _exact_chunk(flat: torch.Tensor) -> Chunk:
    if flat.is_complex():
        flat = torch.view_as_real(flat.resolve_conj()).reshape(-1)
    if flat.is_floating_point():
        flat = flat.resolve_neg().to(torch.float64)
    chunk: Chunk = flat.numpy()
    return chunk


def _dense_parts(path: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Split a sparse or nested tensor into dense ones; a dense tensor is its own only part."""
    if tensor.is_nested:
        return _nested_parts(path, tensor)
    if tensor.layout is torch.sparse_coo:
        merged = tensor.coalesce()
        return [
            (f"{path}.shape", torch.tensor(tensor.shape)),
            (f"{path}.indices()", merged.indices()),
            (f"{path}.values()", merged.values()),
        ]
    if tensor.layout in _COMPRESSED_INDICES:
        names = (*_COMPRESSED_INDICES[tensor.layout], "values")
        parts = [(f"{path}.{name}()", getattr(tensor, name)()) for name in names]
        return [(f"{path}.shape", torch.tensor(tensor.shape)), *parts]
    return [(path, tensor)]


def _nested_parts(path: str, tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    parts = [(f"{path}[{index}]", part) for index, part in enumerate(tensor.unbind())]
    return [(f"{path}.size(0)", torch.tensor(len(parts))), *parts]


def _dense_leaf(path: str, kind: LeafKind, tensor: torch.Tensor, *, is_unchanged: bool) -> ArrayLeaf:
    dtype = dtype_name(tensor.dtype)
    if tensor.is_quantized or (eps_of(dtype) is None and dtype not in _EXACT_DTYPES):
        raise NumericsError(f"{path} is a tensor of {tensor.dtype}, which cannot be compared; dequantize or convert it")
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        raise NumericsError(f"{path} is a tensor of {tensor.layout} on {tensor.device}, which cannot be compared")
    return ArrayLeaf(
        path=path,
        kind=kind,
        shape=tuple(tensor.shape),
        dtype=dtype,
        device=str(tensor.device),
        strides=tensor.stride(),
        layout="strided",
        read=partial(read_tensor, tensor),
        is_unchanged=is_unchanged,
    )


def dtype_name(dtype: torch.dtype) -> str:
    """Write a dtype as torch does, without ``torch.``."""
    return str(dtype).removeprefix("torch.")


def _tensor_of_array(path: str, array: Chunk) -> torch.Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(array))
    except TypeError as error:
        raise NumericsError(f"{path} is a numpy array of {array.dtype}, which cannot be compared") from error


def _array_of_number(value: object) -> tuple[Chunk, str] | None:
    """Return a number as an array of one element with its dtype's name; None where it does not fit into one."""
    if isinstance(value, (bool, np.bool_)):
        return np.array([value], dtype=np.bool_), "bool"
    if isinstance(value, (int, np.integer)):
        return (np.array([value], dtype=np.int64), "int64") if -(2**63) <= value < 2**63 else None
    if isinstance(value, (float, np.floating)):
        return np.array([value], dtype=np.float64), "float32"
    if isinstance(value, (complex, np.complexfloating)):
        return np.array([value.real, value.imag], dtype=np.float64), "complex64"
    return None


def _number_leaf(path: str, kind: LeafKind, chunk: Chunk, dtype: str) -> ArrayLeaf:
    return ArrayLeaf(path, kind, (), dtype, "python", (), "strided", lambda: iter([chunk]))
