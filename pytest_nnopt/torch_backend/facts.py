"""What torch, its compiler and the GPU say about themselves, as plain values for the fingerprint."""

from __future__ import annotations

import importlib.metadata
import os
import re

import torch

from pytest_nnopt.environment import Environment, FieldValue
from pytest_nnopt.gpus import VISIBLE, physical_name
from pytest_nnopt.host import host_facts
from pytest_nnopt.torch_backend.nvml_facts import gpu_settings

_SETTING_PREFIXES = ("TORCHINDUCTOR_", "TORCHDYNAMO_", "TORCH_COMPILE_", "TRITON_", "CUBLAS_", "NVIDIA_TF32_OVERRIDE")
_HARMLESS_SETTINGS = ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS", "TRITON_CACHE_DIR")
_SET_BY_THE_COMPILER = re.compile(r"TRITON_(PTXAS|CUOBJDUMP|NVDISASM|LIBDEVICE)\w*_PATH")
"""The compiler itself sets these when it first compiles, so they say nothing about what a user chose."""

_FLAGS = {
    "cudnn.enabled": True,
    "cudnn.benchmark": False,
    "cudnn.deterministic": False,
    "cudnn.allow_tf32": True,
    "cuda.matmul.allow_fp16_reduced_precision_reduction": True,
    "cuda.matmul.allow_bf16_reduced_precision_reduction": True,
    "cuda.matmul.allow_fp16_accumulation": False,
}
"""Flags of ``torch.backends`` that choose kernels or their precision, with their defaults; TF32 of products is
``matmul_precision``."""


def current_environment(device: torch.device, *, has_cold_cache: bool = False) -> Environment:
    """Fingerprint this process as it would measure on ``device``; a cold cache is named where it is a GPU's."""
    facts: dict[str, FieldValue] = {
        **host_facts(),
        "device": device.type,
        "torch": torch.__version__,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "compiler_settings": _compiler_settings(),
        "warm_calls": True,
    }
    if device.type == "cuda":
        facts |= _gpu_facts(device) | ({"cold_cache": True} if has_cold_cache else {})
    return Environment(facts)


def device_key(device: torch.device) -> str:
    """Name the physical device that processes contend for: ``cpu`` for the host, else the GPU's UUID.

    A process's own number for a GPU says nothing to others that see other GPUs. Where torch does not tell the UUID,
    CUDA's variable does. Of a partition CUDA may tell the UUID of the whole GPU: then its partitions take turns.
    """
    if device.type != "cuda":
        return device.type
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    if uuid is not None:
        return str(uuid)
    index = torch.cuda.current_device() if device.index is None else device.index
    return physical_name(index, os.environ.get(VISIBLE))


def _gpu_facts(device: torch.device) -> dict[str, FieldValue]:
    major, minor = torch.cuda.get_device_capability(device)
    return {
        "gpu": torch.cuda.get_device_name(device),
        "capability": f"{major}.{minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch leaves it untyped
        "triton": _installed_version("triton"),
        "backend_flags": _backend_flags(),
        **gpu_settings(getattr(torch.cuda.get_device_properties(device), "uuid", None)),
    }


def _backend_flags() -> str | None:
    """Name the flags of cuDNN and cuBLAS that are not at their default; None where all of them are."""
    found = {name: _flag(name) for name in _FLAGS}
    changed = [f"{name}={found[name]}" for name in sorted(found) if found[name] not in (None, _FLAGS[name])]
    return " ".join(changed) or None


def _flag(name: str) -> object:
    """Return a flag of ``torch.backends``; None where this torch lacks it or, after newer settings, refuses to tell."""
    value: object = torch.backends
    try:
        for part in name.split("."):
            value = getattr(value, part)
    except (AttributeError, RuntimeError):
        return None
    return value


def _compiler_settings() -> str:
    chosen = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_SETTING_PREFIXES)
        and name not in _HARMLESS_SETTINGS
        and not _SET_BY_THE_COMPILER.fullmatch(name)
    }
    return " ".join(f"{name}={chosen[name]}" for name in sorted(chosen))


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
