"""What numbers depend on: the fingerprint of hardware, software and settings, and which figures may be compared.

Facts about torch and the GPU are read by ``torch_backend.facts``; here they are plain values.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

FieldValue = Union[str, int, bool, None]  # noqa: UP007  evaluated at run time by pydantic on Python 3.10

DECISIVE_FIELDS = (
    "device",
    "cpu",
    "cores",
    "threads",
    "isa",
    "gpu",
    "capability",
    "torch",
    "cuda",
    "triton",
    "matmul_precision",
    "deterministic",
    "compiler_settings",
)
"""Fields that must agree before times or counters are compared; of versions, major and minor part."""

GRAPH_FIELDS = ("device", "torch", "matmul_precision", "deterministic", "compiler_settings")
"""Fields that must agree before the counters of captured graphs are compared; no machine's speed is among them."""

_CODE_FIELDS = {"cpu": ("isa", "threads"), "cuda": ("gpu", "capability", "cuda", "triton")}
"""By device, the fields that generated code depends on as well: its kernels are compared where these agree, too."""

_VERSION_FIELDS = ("torch", "cuda", "triton")


@dataclass(frozen=True, slots=True)
class Environment:
    """Hardware, software and settings of one measuring process.

    Attributes:
        fields: flat facts by name; None means unknown.
    """

    fields: Mapping[str, FieldValue]

    @property
    def name(self) -> str:
        """Directory name for people, such as ``cpu-amd-epyc-2c-torch2.13`` or ``nvidia-h200-torch2.11``."""
        torch = f"torch{_major_minor(self.fields.get('torch'))}"
        if self.fields.get("device") == "cpu":
            return _slug(f"cpu-{self.fields.get('cpu')}-{self.fields.get('cores')}c-{torch}")
        return _slug(f"{self.fields.get('gpu')}-{torch}")

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits over the decisive fields: equal where times and counters may be compared."""
        text = json.dumps(self._decisive(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def differences(self, recorded: Environment, fields: Sequence[str] = DECISIVE_FIELDS) -> list[str]:
        """Name each of some decisive fields that differs from a recorded environment, with both values."""
        here, there = self._decisive(), recorded._decisive()
        return [f"{name}: {there[name]} → {here[name]}" for name in fields if here[name] != there[name]]

    @property
    def code_fields(self) -> tuple[str, ...]:
        """The fields that generated code depends on besides ``GRAPH_FIELDS``; all of them on an unknown device."""
        return _CODE_FIELDS.get(str(self.fields.get("device")), DECISIVE_FIELDS)

    def _decisive(self) -> dict[str, FieldValue]:
        values = {name: self.fields.get(name) for name in DECISIVE_FIELDS}
        return {
            name: _major_minor(value) if name in _VERSION_FIELDS and value is not None else value
            for name, value in values.items()
        }


def host_facts(*, cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, FieldValue]:
    """Return what the operating system tells: CPU model, usable cores, architecture, system and Python version."""
    return {
        "cpu": _cpu_model(cpuinfo),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _cpu_model(cpuinfo: Path) -> str:
    if cpuinfo.is_file():
        match = re.search(
            r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def _major_minor(version: FieldValue) -> str:
    match = re.match(r"(\d+\.\d+)", str(version))
    return match[1] if match else str(version)


def _slug(text: str) -> str:
    text = re.sub(r"\((r|tm|c)\)|(?!^)\b(cpu|processor)\b", "", text.lower())
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-.")
