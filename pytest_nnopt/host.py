"""What the operating system tells about the host: its CPU, how it is clocked, and whose allocator serves memory."""

from __future__ import annotations

import itertools
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.affinity import affinity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.environment import FieldValue

_ALLOCATORS = re.compile(r"/lib(jemalloc|tcmalloc|mimalloc|hoard|snmalloc)[^/]*$", re.MULTILINE)
_C_LIBRARIES = {"glibc": r"/libc(-[\d.]+)?\.so[^/]*$", "musl": r"/(ld-musl|libc\.musl)[^/]*$"}


def host_facts(
    *,
    cpuinfo: Path = Path("/proc/cpuinfo"),
    maps: Path = Path("/proc/self/maps"),
    frequencies: Path = Path("/sys/devices/system/cpu/cpu0/cpufreq"),
) -> dict[str, FieldValue]:
    """Return the facts of the host and of this process in it; None is what the system does not tell.

    Args:
        cpuinfo: the kernel's list of processors.
        maps: the files mapped into this process.
        frequencies: the kernel's directory about the clock of a core.
    """
    processor = _read(cpuinfo)
    allowed = affinity()
    cores = None if allowed is None else sorted(allowed)
    return {
        "cpu": _field(processor, "model name") or platform.processor() or platform.machine() or "unknown",
        "cpu_family": cpu_family(processor),
        "cores": os.cpu_count() if cores is None else len(cores),
        "affinity": None if cores is None else name_cores(cores),
        "governor": _read(frequencies / "scaling_governor").strip() or None,
        "machine": platform.machine(),
        "allocator": allocator(_read(maps)),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def name_cores(cores: Sequence[int]) -> str:
    """Name cores in ascending order as the kernel does: ``0-3,6``."""
    numbered = itertools.groupby(enumerate(cores), key=lambda pair: pair[1] - pair[0])
    ranges = [[core for _, core in group] for _, group in numbered]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in ranges)


def cpu_family(cpuinfo: str) -> str | None:
    """Return what tells a CPU's generation, such as ``AuthenticAMD 25-17`` or, of Arm's, ``0x41 0xd40``.

    Intel's generations may share family and model, so theirs ends in the stepping.
    """
    vendor, family, model = (_field(cpuinfo, name) for name in ("vendor_id", "cpu family", "model"))
    if vendor and family and model:
        stepping = f"-{_field(cpuinfo, 'stepping')}" if vendor == "GenuineIntel" else ""
        return f"{vendor} {family}-{model}{stepping}"
    implementer, part = _field(cpuinfo, "CPU implementer"), _field(cpuinfo, "CPU part")
    return f"{implementer} {part}" if implementer and part else None


def allocator(maps: str) -> str | None:
    """Name the C allocator of a process by what is mapped into it: a preloaded one, else the C library's."""
    found = sorted(set(_ALLOCATORS.findall(maps)))
    if found:
        return "+".join(found)
    return next((name for name, pattern in _C_LIBRARIES.items() if re.search(pattern, maps, re.MULTILINE)), None)


def _field(cpuinfo: str, name: str) -> str | None:
    match = re.search(rf"^{name}[ \t]*:[ \t]*(\S.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else None


def _read(path: Path) -> str:
    """Return a file of the kernel's, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
