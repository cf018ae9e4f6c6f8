"""What inductor's output code contains: the kernels it wrote, and the calls that leave it for a library."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

_KERNEL = re.compile(r"^(\w+) = async_compile\.\w+\(.*?'''(.*?)'''", re.MULTILINE | re.DOTALL)
_EXTERNAL_CALL = re.compile(r"(?:\bextern_kernels\.|\btorch\.ops\.|(?<![\w.])(?=aten\.))([\w.]+)\(")


def generated_kernels(codes: Sequence[str]) -> dict[str, int]:
    """Count the kernels in inductor's output code by name and content.

    A kernel is named by what it fuses and a hash of its source, as in ``cpp_fused_relu-3f9a1c04``: its running number
    is left out, so a kernel added before it changes nothing.
    """
    kernels = (match.groups() for code in codes for match in _KERNEL.finditer(code))
    return dict(sorted(Counter(_kernel_key(name, source) for name, source in kernels).items()))


def external_kernels(codes: Sequence[str]) -> dict[str, int]:
    """Count the calls in inductor's output code that leave it for a library, by name."""
    calls = (match[1] for code in codes for match in _EXTERNAL_CALL.finditer(code))
    return dict(sorted(Counter(calls).items()))


def _kernel_key(name: str, source: str) -> str:
    digest = hashlib.sha256(source.replace(name, "kernel").encode()).hexdigest()
    return f"{re.sub(r'_[0-9]+$', '', name)}-{digest[:8]}"
