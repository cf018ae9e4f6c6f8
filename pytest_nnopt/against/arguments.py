"""The command line of a pytest that runs the base: the head's own, with paths of the head turned into the base's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.against.worktree import Trees


_CONFIG_FILE = "--config-file="
_SECTIONS = ("[tool.pytest", "[pytest]", "[tool:pytest]")


def base_arguments(trees: Trees, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return arguments whose absolute paths in the head's tree, alone or behind ``=``, point into the base's.

    A configuration file that the base does not have, or not for pytest, is left out: it finds its own.
    """
    mapped = (_base_argument(trees, argument) for argument in arguments)
    return tuple(one for one in mapped if not one.startswith(_CONFIG_FILE) or _configures(trees, one))


def _configures(trees: Trees, argument: str) -> bool:
    path = Path(argument[len(_CONFIG_FILE) :])
    if not path.is_relative_to(trees.base):
        return True
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return path.name in ("pytest.ini", ".pytest.ini") or any(section in text for section in _SECTIONS)


def base_test(trees: Trees, root: Path, test_id: str) -> str:
    """Return the base's test of the same id, as an argument for pytest.

    Args:
        trees: where the revisions lie.
        root: pytest's rootdir of the head.
        test_id: node id of the test, relative to ``root``.
    """
    return f"{trees.to_base(root.resolve())}/{test_id}"


def base_directory(trees: Trees, directory: Path) -> Path:
    """Return the base's directory for one of the head's; the top where the base does not have it."""
    there = trees.to_base(directory.resolve())
    return there if there.is_dir() else trees.base


def _base_argument(trees: Trees, argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    path, colons, rest = value.partition("::")
    if not Path(path).is_absolute() or not Path(path).resolve().is_relative_to(trees.head):
        return argument
    return f"{option}{equals}{trees.to_base(Path(path).resolve())}{colons}{rest}"
