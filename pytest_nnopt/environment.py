"""What numbers depend on: the fingerprint of hardware, software and settings, and which figures may be compared.

Facts about torch and the GPU are read by ``torch_backend.facts``; here they are plain values.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Union

FieldValue = Union[str, int, bool, None]  # noqa: UP007  evaluated at run time by pydantic on Python 3.10

DECISIVE_FIELDS = (
    "device",
    "cpu",
    "cpu_family",
    "cores",
    "governor",
    "threads",
    "isa",
    "allocator",
    "gpu",
    "capability",
    "mig",
    "power_limit_watts",
    "application_clocks",
    "torch",
    "cuda",
    "triton",
    "cold_cache",
    "warm_calls",
    "matmul_precision",
    "deterministic",
    "backend_flags",
    "compiler_settings",
)
"""Fields that must agree before times or counters are compared; of versions, major and minor part."""

_LATER_FIELDS = ("backend_flags", "cold_cache", "warm_calls")
"""Decisive fields that fingerprints once lacked: where there is nothing to tell, what they were recorded for counts.
``warm_calls``: a call that is not timed comes before each timing of short ones."""

GRAPH_FIELDS = ("device", "torch", "matmul_precision", "deterministic", "compiler_settings")
"""Fields that must agree before the counters of captured graphs are compared; no machine's speed is among them."""

_CODE_FIELDS = {"cpu": ("isa", "threads"), "cuda": ("gpu", "capability", "cuda", "triton", "backend_flags")}
"""By device, the fields that generated code depends on as well: its kernels are compared where these agree, too."""

_RANKS = "ranks"
"""Decisive for every figure of a model that runs on several ranks, and absent for all others."""

_VERSION_FIELDS = ("torch", "cuda", "triton")

_SPEED_FIELDS = ("cores", "governor", "power_limit_watts", "application_clocks")
"""Fields that change the speed of both sides alike: ratios of times nearly keep their value where only these differ."""


class Match(str, Enum):
    """How alike two environments must be before figures of a kind are compared."""

    EXACT = "exact"
    COMPATIBLE = "compatible"
    ANY = "any"


def fields_to_match(kind: str, match: Match, device: str) -> tuple[str, ...]:
    """Return the decisive fields that must agree.

    Args:
        kind: ``times``, ``memory``, ``numerics`` or ``compile``.
        match: how alike; ``any`` still tells devices of different types apart.
        device: type of the device as torch names it.
    """
    if match is Match.ANY:
        return ("device",)
    if match is Match.EXACT:
        return DECISIVE_FIELDS
    if kind == "times":
        return tuple(name for name in DECISIVE_FIELDS if name not in _SPEED_FIELDS)
    if kind == "memory":
        return (*GRAPH_FIELDS, *_CODE_FIELDS.get(device, DECISIVE_FIELDS))
    return GRAPH_FIELDS


@dataclass(frozen=True)
class Environment:
    """Hardware, software and settings of one measuring process.

    Attributes:
        fields: flat facts by name; None means unknown.
    """

    fields: Mapping[str, FieldValue]

    @cached_property
    def name(self) -> str:
        """Directory name for people, such as ``cpu-amd-epyc-zen4-2c-torch2.13`` or ``nvidia-h200-torch2.11``."""
        torch = f"torch{_major_minor(self.fields.get('torch'))}"
        if self.fields.get("device") == "cpu":
            cpu = name_cpu(self.fields.get("cpu"), self.fields.get("cpu_family"))
            return _slug(f"cpu-{cpu}-{self.fields.get('cores')}c-{torch}")
        return _slug(f"{self.fields.get('gpu')}-{torch}")

    @cached_property
    def digest(self) -> str:
        """Eight hexadecimal digits over the decisive fields: equal where times and counters may be compared.

        A field of a later version counts only where there is something to tell, and leaves older digests as they are.
        """
        decisive = self._decisive()
        told = {name: decisive[name] for name in decisive if name not in _LATER_FIELDS or decisive[name] is not None}
        text = json.dumps(told, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def differences(self, recorded: Environment, fields: Sequence[str] = DECISIVE_FIELDS) -> list[str]:
        """Name each of some decisive fields that differs from a recorded environment, with both values."""
        here, there = self._decisive(), recorded._decisive()
        names = (*fields, _RANKS)
        return [f"{name}: {there.get(name)} → {here.get(name)}" for name in names if here.get(name) != there.get(name)]

    @property
    def code_fields(self) -> tuple[str, ...]:
        """The fields that generated code depends on besides ``GRAPH_FIELDS``; all of them on an unknown device."""
        return _CODE_FIELDS.get(str(self.fields.get("device")), DECISIVE_FIELDS)

    def _decisive(self) -> dict[str, FieldValue]:
        names = DECISIVE_FIELDS if self.fields.get(_RANKS) is None else (*DECISIVE_FIELDS, _RANKS)
        values = {name: self.fields.get(name) for name in names}
        return {
            name: _major_minor(value) if name in _VERSION_FIELDS and value is not None else value
            for name, value in values.items()
        }


def name_cpu(model: FieldValue, family: FieldValue) -> str:
    """Name a CPU: by its model, and by its generation where the model's name has no number that tells.

    Clouds report a bare ``AMD EPYC`` or ``Intel Xeon Processor`` for machines of several generations.
    """
    speed = r"\d+(\.\d+)?\s*GHz"
    if family is None or re.search(r"\d", re.sub(speed, "", str(model))):
        return str(model)
    return f"{model} {_generation(str(family))}"


def _generation(family: str) -> str:
    """Return ``zen4`` for a known family of AMD's, else the numbers themselves."""
    vendor, _, numbers = family.partition(" ")
    match = re.match(r"(\d+)-(\d+)", numbers)
    if match is None or vendor != "AuthenticAMD":
        return numbers or vendor
    ranges = _ZEN.get(int(match[1]), ())
    return next((f"zen{zen}" for first, last, zen in ranges if first <= int(match[2]) <= last), numbers)


_ZEN = {
    23: ((0x00, 0x2F, 1), (0x30, 0x4F, 2), (0x50, 0x5F, 1), (0x60, 0x7F, 2), (0x90, 0x91, 2), (0xA0, 0xAF, 2)),
    25: ((0x00, 0x0F, 3), (0x10, 0x1F, 4), (0x20, 0x5F, 3), (0x60, 0xAF, 4)),
    26: ((0x00, 0x2F, 5), (0x40, 0x4F, 5), (0x60, 0x7F, 5)),
}
"""By family of AMD's, the first and last model of a generation (``arch/x86/kernel/cpu/amd.c`` of the Linux kernel)."""


_LONGEST_NAME = 120
"""Characters of an environment's name; what it does not say, the digest does."""


def _major_minor(version: FieldValue) -> str:
    match = re.match(r"(\d+\.\d+)", str(version))
    return match[1] if match else str(version)


def _slug(text: str) -> str:
    text = re.sub(r"\((r|tm|c)\)|(?!^)\b(cpu|processor)\b", "", text.lower())
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-.")[:_LONGEST_NAME].rstrip("-.")
