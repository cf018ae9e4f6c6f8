"""Which GPUs a run may use, told without starting CUDA: that would take memory on each, and cannot be undone."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""CUDA's own variable: which devices a process sees, as indices or UUIDs, in its order."""

ALL = "PYTEST_NNOPT_GPUS"
"""Set beside ``VISIBLE`` in a process that was given one GPU: all those of the run, for tests that need several."""

_DEVICE = re.compile(r"\d+|GPU-[0-9A-Fa-f-]+|MIG-[0-9A-Za-z/-]+")
_LISTED = re.compile(r"\s*(GPU|MIG)\b.*\(UUID: ([A-Za-z]+-[0-9A-Za-z/-]+)\)")
_SECONDS = 20.0


def usable_gpus(
    variables: Mapping[str, str] = os.environ, ask_driver: Callable[[], list[str]] | None = None
) -> list[str]:
    """Return the GPUs of a run as CUDA's variable names them: the caller's choice, else all that the driver tells of.

    Args:
        variables: the caller's environment.
        ask_driver: returns the UUIDs of all devices.
    """
    if VISIBLE in variables:
        return parse_visible(variables[VISIBLE])
    return (ask_driver or installed_gpus)()


def parse_visible(text: str) -> list[str]:
    """Read CUDA's variable as CUDA does: what comes behind an invalid entry is not seen; an empty text hides all."""
    found: list[str] = []
    for entry in text.split(","):
        if not _DEVICE.fullmatch(entry.strip()):
            break
        found.append(entry.strip())
    return list(dict.fromkeys(found))


def installed_gpus(
    *,
    load: Callable[[], Any] = lambda: importlib.import_module("pynvml"),
    list_devices: Callable[[], str] | None = None,
) -> list[str]:
    """Return the UUIDs of all devices, of a partitioned GPU those of its parts; none without a driver.

    Args:
        load: returns the module ``pynvml``.
        list_devices: returns what ``nvidia-smi -L`` prints, for where that module is not installed.
    """
    try:
        nvml = load()
    except ImportError:
        return parse_listing((list_devices or _list_devices)())
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [_text(nvml.nvmlDeviceGetUUID(part)) for handle in handles for part in _parts(nvml, handle) or [handle]]
    except nvml.NVMLError:
        return []


def parse_listing(text: str) -> list[str]:
    """Return the UUIDs in the output of ``nvidia-smi -L``, of a partitioned GPU those of its parts."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        match = _LISTED.match(line)
        if match is not None and match[1] == "GPU":
            found.append((match[2], []))
        elif match is not None and found:
            found[-1][1].append(match[2])
    return [device for whole, parts in found for device in (parts or [whole])]


def physical_name(index: int, visible: str | None) -> str:
    """Name the device that this process calls ``cuda:INDEX`` so that other processes may name it alike.

    Args:
        index: its number in this process.
        visible: value of CUDA's variable; None where it is not set.
    """
    names: Sequence[str] = [] if visible is None else parse_visible(visible)
    name = names[index] if index < len(names) else str(index)
    return f"cuda-{name}" if name.isdecimal() else name


def _parts(nvml: Any, handle: Any) -> list[Any]:
    """Return the handles of a partitioned GPU's parts; none of one that is whole."""
    try:
        is_partitioned = bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return []
    parts = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if is_partitioned else 0):
        try:
            parts.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except nvml.NVMLError:  # there may be fewer
            continue
    return parts


def _list_devices() -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _text(value: Any) -> str:
    """Return NVML's text, which older versions give as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
