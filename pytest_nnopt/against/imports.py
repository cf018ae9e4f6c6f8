"""Import the base's own modules: in a process of their own, or beside the head's in a module table of their own.

Python looks modules up in process-wide places: ``sys.modules``, ``sys.path``, ``sys.meta_path`` and the working
directory. Each revision gets a set of its own of these, as far as they concern files of the repository, and they are
exchanged whenever the other revision imports or runs. Everything outside the repository is shared.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_nnopt.errors import SeparationError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from pytest_nnopt.against.worktree import Trees

_OWN_PACKAGE = __name__.partition(".")[0]
"""The measuring tool itself is shared: of its own repository, it compares everything else."""

_EXTENSION_SUFFIXES = tuple(importlib.machinery.EXTENSION_SUFFIXES)


@dataclass(frozen=True)
class Ownership:
    """Says which modules and paths are a revision's own.

    Args:
        trees: where the revisions lie.
    """

    trees: Trees

    @cached_property
    def _installed(self) -> tuple[Path, ...]:
        """Directories of installed packages; they may lie within the repository, such as in ``.venv``."""
        names = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
        roots = {Path(name).resolve() for name in names}
        return tuple(root for root in roots if root != self.trees.head and not self.trees.head.is_relative_to(root))

    def is_head_path(self, path: str | Path) -> bool:
        """Whether a path lies in the head's tree and is not part of an installed package."""
        resolved = _resolved(path)
        if not resolved.is_relative_to(self.trees.head) or resolved.is_relative_to(self.trees.base):
            return False
        return not any(resolved.is_relative_to(root) for root in self._installed)

    def is_base_path(self, path: str | Path) -> bool:
        """Whether a path lies in the base's tree."""
        return _resolved(path).is_relative_to(self.trees.base)

    def is_head_module(self, name: str, module: ModuleType) -> bool:
        """Whether a loaded module came from the head's tree."""
        return not _is_ours(name) and any(map(self.is_head_path, module_paths(module)))

    def is_base_module(self, name: str, module: ModuleType) -> bool:
        """Whether a loaded module came from the base's tree."""
        return not _is_ours(name) and any(map(self.is_base_path, module_paths(module)))


def module_paths(module: ModuleType) -> tuple[str, ...]:
    """Return where a module came from: its file, or the directories of a namespace package; none for built-in ones."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return (file,)
    try:
        return tuple(path for path in getattr(module, "__path__", ()) if isinstance(path, str))
    except Exception:  # whatever stands in sys.modules need not be a module
        return ()


class BaseFinder:
    """Finds the base's copy of whatever the other finders find in the head's tree.

    It asks them all in turn, so that every way to install a project in place is followed: paths in ``.pth`` files,
    finders of setuptools, hatchling or scikit-build, and whatever comes next.

    Args:
        ownership: tells the revisions apart.
        may_load_builds: whether extension modules that the base was built with may be loaded.
    """

    def __init__(self, ownership: Ownership, *, may_load_builds: bool) -> None:
        self._ownership = ownership
        self._may_load_builds = may_load_builds
        self.borrowed: set[str] = set()
        """Extension modules taken from the head's build."""
        self.refused: list[str] = []
        """Modules that could not be loaded; the error that said so may have been caught."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of the base's module, None where another finder's answer stands as it is.

        Raises:
            SeparationError: the module cannot be loaded beside the head's.
        """
        if _is_ours(name):
            return None
        spec = self._ask_others(name, path, target)
        if spec is None:
            return self._borrow(name, path)
        if spec.origin is not None and self._ownership.is_base_path(spec.origin):
            self._refuse_build(name, spec.origin)
            return spec
        return self._redirect(spec)

    def _ask_others(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None

    def _redirect(self, spec: ModuleSpec) -> ModuleSpec | None:
        """Return the spec of the base's file in place of the head's."""
        places = [spec.origin] if spec.origin is not None and spec.has_location else []
        places += list(spec.submodule_search_locations or ())
        if not any(map(self._ownership.is_head_path, places)):
            return spec
        to_base = self._ownership.trees.to_base
        inside = [str(to_base(Path(place).resolve())) for place in spec.submodule_search_locations or ()]
        if not places or spec.origin is None or not spec.has_location:
            return _namespace(spec.name, [place for place in inside if Path(place).is_dir()])
        origin = to_base(Path(spec.origin).resolve())
        if not origin.exists():
            if spec.origin.endswith(_EXTENSION_SUFFIXES):
                self.borrowed.add(spec.name)
                return spec
            raise ModuleNotFoundError(f"the base has no module {spec.name!r}: {origin} is missing", name=spec.name)
        self._refuse_build(spec.name, str(origin))
        return importlib.util.spec_from_file_location(
            spec.name,
            origin,
            submodule_search_locations=inside if spec.submodule_search_locations is not None else None,
        )

    def _borrow(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """Return the head's extension module where the base's place for it is empty, as it is until it is built."""
        trees = self._ownership.trees
        places = [Path(place).resolve() for place in (sys.path if path is None else path)]
        inside = [str(trees.to_head(place)) for place in places if place.is_relative_to(trees.base)]
        spec = importlib.machinery.PathFinder.find_spec(name, inside)
        if spec is None or spec.origin is None or not spec.origin.endswith(_EXTENSION_SUFFIXES):
            return None
        self.borrowed.add(name)
        return spec

    def _refuse_build(self, name: str, origin: str) -> None:
        if origin.endswith(_EXTENSION_SUFFIXES) and not self._may_load_builds:
            self.refused.append(f"{name} is an extension module that the base has a build of its own of")
            raise SeparationError(self.refused[-1])


@dataclass
class _Table:
    """One revision's share of what Python keeps for the whole process."""

    modules: dict[str, ModuleType]
    path: list[str]
    finders: list[object]
    directory: str


@dataclass
class ModuleTables:
    """Both revisions' modules in one process; the head's are in place unless the base is active.

    Args:
        trees: where the revisions lie.
    """

    trees: Trees
    is_base_active: bool = False
    borrowed: set[str] = field(default_factory=set)
    """Extension modules that the base takes from the head's build."""
    refused: list[str] = field(default_factory=list)
    """Modules of the base that could not be loaded beside the head's, and why."""

    def __post_init__(self) -> None:
        self._ownership = Ownership(self.trees)
        self._names: list[str] = []
        self._module_count = -1
        finder = BaseFinder(self._ownership, may_load_builds=False)
        self.borrowed, self.refused = finder.borrowed, finder.refused
        path = [self._base_entry(entry) for entry in sys.path]
        finders = [one for one in sys.meta_path if not type(one).__module__.startswith("_pytest.")]
        directory = self.trees.to_base(Path.cwd().resolve())
        self._other = _Table({}, path, [finder, *finders], str(directory if directory.is_dir() else self.trees.base))

    @contextlib.contextmanager
    def base(self) -> Iterator[None]:
        """Import and run base's code inside the block."""
        with self._active(is_base=True):
            yield

    @contextlib.contextmanager
    def head(self) -> Iterator[None]:
        """Import and run head's code inside the block."""
        with self._active(is_base=False):
            yield

    @contextlib.contextmanager
    def _active(self, *, is_base: bool) -> Iterator[None]:
        if self.is_base_active == is_base:
            yield
            return
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        """Put the inactive revision's table in place and keep the active one's; takes microseconds once settled."""
        if len(sys.modules) != self._module_count:
            self._names = [name for name, module in list(sys.modules.items()) if self._is_active_own(name, module)]
        modules = {name: sys.modules[name] for name in self._names if name in sys.modules}
        active = _Table(modules, list(sys.path), list(sys.meta_path), str(Path.cwd()))
        for name in modules:
            del sys.modules[name]
        other, self._other = self._other, active
        sys.modules.update(other.modules)
        sys.path[:] = other.path
        sys.meta_path[:] = other.finders  # type: ignore[assignment]  # finders are known by what they can do
        os.chdir(other.directory)
        self.is_base_active = not self.is_base_active
        self._names, self._module_count = list(other.modules), len(sys.modules)

    def _is_active_own(self, name: str, module: ModuleType) -> bool:
        if self.is_base_active:
            return name in self.borrowed or self._ownership.is_base_module(name, module)
        return self._ownership.is_head_module(name, module)

    def _base_entry(self, entry: str) -> str:
        where = Path(entry or Path.cwd()).resolve()
        return str(self.trees.to_base(where)) if self._ownership.is_head_path(where) else entry


def enter_base(trees: Trees) -> None:
    """Make this process, which has loaded nothing of the repository yet, import from the base alone.

    Extension modules that the base lacks come from the head's build; ``borrowed_modules`` names them.

    Raises:
        SeparationError: something of the head is loaded already.
    """
    ownership = Ownership(trees)
    loaded = [name for name, module in list(sys.modules.items()) if ownership.is_head_module(name, module)]
    if loaded:
        raise SeparationError(
            f"{', '.join(sorted(loaded))} of the head is loaded before the base could be put in place"
        )
    entries = [Path(entry or Path.cwd()).resolve() for entry in sys.path]
    sys.path[:] = [
        str(trees.to_base(where)) if ownership.is_head_path(where) else entry
        for entry, where in zip(sys.path, entries, strict=True)
    ]
    sys.meta_path.insert(0, BaseFinder(ownership, may_load_builds=True))


def borrowed_modules() -> frozenset[str]:
    """Return the extension modules that the base takes from the head's build in this process."""
    return frozenset(name for finder in sys.meta_path for name in getattr(finder, "borrowed", ()))


def _namespace(name: str, places: list[str]) -> ModuleSpec | None:
    if not places:
        return None
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = places
    return spec


@functools.cache
def _resolved(path: str | Path) -> Path:
    return Path(path).resolve()


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == _OWN_PACKAGE
