"""Keep what the process has freed, so that no measurement pays for asking the kernel for memory.

glibc hands freed memory back once enough of it lies at the top of the heap, and serves large blocks from mappings of
their own. Whether a model's activations come from warm memory or from pages that the kernel must first map and zero
depends on what the process did before: the same model ran at 20 ms or at 8 ms a call. See
``docs/decisions/0008-measuring-processes-keep-freed-memory.md``.
"""

from __future__ import annotations

import ctypes
from typing import Protocol, cast

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""

_LARGEST_MMAP_THRESHOLD = 4 * 1024 * 1024 * ctypes.sizeof(ctypes.c_long)
"""The highest that mallopt(3) takes. A larger block is mapped and unmapped whatever is asked for."""

_NEVER_TRIM = 2**31 - 1


class CLibrary(Protocol):
    """The part of the C library that is used."""

    def mallopt(self, parameter: int, value: int) -> int:
        """Set a parameter of the allocator; 1 on success."""
        ...


def keep_freed_memory(library: CLibrary | None = None) -> bool:
    """Make the C library keep freed memory for the rest of the process's life.

    Nothing brings its own judgement back afterwards, so only a process that does nothing but measure should call this.

    Args:
        library: stands in for the C library of this process.

    Returns:
        whether it does. A C library without ``mallopt`` does not, and one that takes memory from another allocator
        (jemalloc, tcmalloc) is left to that allocator's judgement.
    """
    library = library or cast("CLibrary", ctypes.CDLL(None))
    try:
        return all(
            [
                library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
                library.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM),
            ]
        )
    except AttributeError:
        return False
