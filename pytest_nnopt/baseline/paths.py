"""Which file holds which case: readable, unique, and never outside the baseline directory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import PurePosixPath

_LONGEST_NAME = 120
_LONGEST_FOLDER = 1000
"""Characters of all folders together; systems refuse a path of four thousand."""


@lru_cache(maxsize=1024)
def case_path(case_id: str) -> PurePosixPath:
    """Return the path of a case's file below its environment's directory.

    ``tests/test_a.py::TestB::test_c[3]#name`` becomes ``tests/test_a.py/TestB.test_c[3]#name.json``. A name that had
    to be changed to be a safe file name carries a hash of what it was, so that two cases never share a file.
    """
    file, _, name = case_id.partition("::")
    folders = [_safe(part) for part in file.split("/")]
    if sum(map(len, folders)) + len(folders) > _LONGEST_FOLDER:
        folders = [_with_digest(folders[-1], file)]
    return PurePosixPath(*folders, _safe(_with_dotted_classes(name)) + ".json")


def test_of(case_id: str, test_ids: Collection[str]) -> str | None:
    """Return which of some tests a case is of, None where it is of another; ``#name`` tells a test's cases apart."""
    test_id = case_id
    while test_id not in test_ids:
        test_id, separator, _ = test_id.rpartition("#")
        if not separator:
            return None
    return test_id


def _with_dotted_classes(name: str) -> str:
    """Write ``TestB::test_c[x::y]`` as ``TestB.test_c[x::y]``: a parameter ``x::y`` is not a parameter ``x.y``."""
    classes = re.split(r"[\[#]", name, maxsplit=1)[0]
    return classes.replace("::", ".") + name[len(classes) :]


def _safe(name: str) -> str:
    """Make one path component harmless: no separators, control characters, leading dots or excessive length."""
    safe = re.sub(r"[^\w\-.,\[\]#=+@ ]", "_", name, flags=re.ASCII)
    safe = re.sub(r"^\.|[. ]$", "_", safe)[:_LONGEST_NAME] or "_"
    if safe == name:
        return safe
    return _with_digest(safe, name)


def _with_digest(safe: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe}-{digest}"
