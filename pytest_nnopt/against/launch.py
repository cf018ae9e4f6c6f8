"""Run pytest in a process of its own that imports the base: ``python -m pytest_nnopt.against.launch HEAD BASE ARGS``.

``sys.path`` and the finders are set before pytest loads a plugin or a conftest file.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from pytest_nnopt.against.imports import enter_base
from pytest_nnopt.against.worktree import Trees


def main() -> None:
    """Put the base in place, then become ``python -m pytest``."""
    _, head, base, *arguments = sys.argv
    enter_base(Trees(Path(head), Path(base)))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pytest_nnopt"]:
        del sys.modules[name]  # pytest wants to import its plugins itself and warns, or fails, where they are loaded
    sys.argv = ["pytest", *arguments]
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
