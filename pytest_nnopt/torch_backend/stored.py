"""Tensors in files that hold nothing but tensors: safetensors, with what it does not keep beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pytest_nnopt.errors import OutputError, PairError

_PLAIN_DTYPES = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    }
)
"""What every reader of safetensors knows; anything else is written as its bytes."""


@dataclass(frozen=True, slots=True)
class TensorForm:
    """What a file of tensors does not say of one.

    Attributes:
        dtype: its dtype, without ``torch.``.
        shape: its shape.
        strides: its strides, in elements.
        requires_grad: whether it wants a gradient.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    requires_grad: bool = False


def store_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, TensorForm], list[str]]:
    """Write tensors into one file, replacing what was there.

    Returns:
        the form of each that was written, and the names of those that cannot be: sparse, nested or quantised ones.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    forms: dict[str, TensorForm] = {}
    plain: dict[str, torch.Tensor] = {}
    left_out = []
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
            left_out.append(name)
            continue
        forms[name] = _form_of(tensor)
        plain[name] = _plain(tensor)
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return forms, left_out


def read_tensors(path: Path, forms: Mapping[str, TensorForm]) -> dict[str, torch.Tensor]:
    """Read tensors as they were written, on the CPU, each a leaf of its own.

    Raises:
        PairError: the file cannot be read, or does not hold what ``forms`` says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        plain = load_file(path)
        return {name: _restored(plain[name], form) for name, form in forms.items()}
    except (OSError, SafetensorError, KeyError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        said = str(error).partition("\n")[0]  # torch adds its own stack
        raise PairError(
            f"{path} cannot be read: {type(error).__name__}: {said}; let the test fail once more"
        ) from error


def _form_of(tensor: torch.Tensor) -> TensorForm:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorForm(dtype, tuple(tensor.shape), tensor.stride(), tensor.requires_grad)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    values = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().clone()
    return values if values.dtype in _PLAIN_DTYPES else values.reshape(-1).view(torch.uint8)


def _restored(plain: torch.Tensor, form: TensorForm) -> torch.Tensor:
    dtype = getattr(torch, form.dtype)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{form.dtype!r} is no dtype")
    values = plain if dtype in _PLAIN_DTYPES else plain.view(dtype).reshape(form.shape)
    extent = 1 + sum((size - 1) * stride for size, stride in zip(form.shape, form.strides, strict=True))
    if values.numel() == 0:
        return values.requires_grad_(form.requires_grad)
    memory = torch.empty(extent, dtype=dtype)
    made = memory.as_strided(form.shape, form.strides)
    if values.numel() > extent:  # elements share memory
        memory[torch.arange(extent).as_strided(form.shape, form.strides).reshape(-1)] = values.reshape(-1)
    else:
        made.copy_(values)
    return made.requires_grad_(form.requires_grad)
