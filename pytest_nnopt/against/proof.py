"""The proof that what was imported is the base's own code, since comparing the head with itself would pass anything."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from pytest_nnopt.against.imports import Ownership, module_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pytest_nnopt.against.worktree import Trees

_PACKAGE_DIRECTORIES = (".", "src", "lib", "python")
_NEVER_OURS = frozenset({"torch", *sys.stdlib_module_names})


def find_foreign_code(
    trees: Trees, model: Callable[..., Any], *, borrowed: Collection[str] = (), test: Callable[..., Any] | None = None
) -> str | None:
    """Say which code of a base's case is not the base's, None where all of it is.

    To be called while the base is active, once its test has handed over its model.

    Args:
        trees: where the revisions lie.
        model: what the base's test handed over.
        borrowed: extension modules that are meant to be the head's.
        test: the base's test function.
    """
    ownership = Ownership(trees)
    modules = dict(sys.modules)
    return (
        _module_of_head(ownership, modules, borrowed)
        or _module_installed_elsewhere(ownership, modules)
        or _copy_of_model(ownership, model)
        or _code_of_head(ownership, model)
        or (None if test is None else _test_elsewhere(ownership, test))
    )


def _module_of_head(ownership: Ownership, modules: Mapping[str, ModuleType], borrowed: Collection[str]) -> str | None:
    for name, module in sorted(modules.items()):
        if name not in borrowed and name != "__main__" and ownership.is_head_module(name, module):
            return f"the base imported the module {name!r} from the head: {module_paths(module)[0]}"
    return None


def _module_installed_elsewhere(ownership: Ownership, modules: Mapping[str, ModuleType]) -> str | None:
    """Name a package of the repository that is imported from an installed copy: both revisions would run that copy."""
    for name in sorted(_packages(ownership.trees.base) | _packages(ownership.trees.head)):
        module = modules.get(name)
        paths = () if module is None else module_paths(module)
        if module is not None and paths and not any(map(_is_in(ownership.trees.base), paths)):
            if ownership.is_head_module(name, module):
                continue  # borrowed
            return (
                f"{name!r} is imported from {paths[0]}, an installed copy, and not from the repository; "
                "install it in place with pip install -e ."
            )
    return None


def _copy_of_model(ownership: Ownership, model: Callable[..., Any]) -> str | None:
    """Name a module of the model that runs from elsewhere though the base has a file of that name, wherever it lies."""
    tree = ownership.trees.base
    modules = {name: sys.modules.get(name) for name in {function.__module__ for function in _functions_of(model)}}
    suspects = {
        name: path
        for name, module in modules.items()
        if module is not None and name.partition(".")[0] not in _NEVER_OURS
        for path in module_paths(module)[:1]
        if not ownership.is_base_path(path) and not ownership.is_head_path(path)
    }
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*.py")} if suspects else set()
    for name, path in sorted(suspects.items()):
        stem = name.replace(".", "/")
        found = [file for file in files if f"/{file}".endswith((f"/{stem}.py", f"/{stem}/__init__.py"))]
        if found:
            return (
                f"the model's module {name!r} is imported from {path}, an installed copy, and not from {min(found)} in "
                "the repository; install it in place with pip install -e"
            )
    return None


def _packages(tree: Path) -> set[str]:
    """Return the names of what can be imported from a tree, in the usual layouts."""
    names: set[str] = set()
    for directory in _PACKAGE_DIRECTORIES:
        names |= {path.parent.name for path in (tree / directory).glob("*/__init__.py")}
    return {name for name in names if name.isidentifier()} - {__name__.partition(".")[0]}


def _is_in(tree: Path) -> Callable[[str], bool]:
    return lambda path: Path(path).resolve().is_relative_to(tree)


def _code_of_head(ownership: Ownership, model: Callable[..., Any]) -> str | None:
    for function in _functions_of(model):
        if ownership.is_head_path(function.__code__.co_filename):
            where = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
            return f"the base's model runs {function.__qualname__} of the head: {where}"
    return None


def _test_elsewhere(ownership: Ownership, test: Callable[..., Any]) -> str | None:
    code = getattr(test, "__code__", None)
    if code is None or ownership.is_base_path(code.co_filename):
        return None
    return f"the test {test.__name__} that ran is that of {code.co_filename}, not the base's"


def _functions_of(model: Callable[..., Any]) -> Iterator[FunctionType]:
    """Return the functions that a model is made of: its own, its classes', and those of its submodules' classes."""
    owner: Any = getattr(model, "__self__", model)
    submodules: Iterable[object] = owner.modules() if callable(getattr(owner, "modules", None)) else (owner,)
    seen: set[type] = set()
    for function in (model, getattr(model, "__func__", None), getattr(model, "func", None)):
        if isinstance(function, FunctionType):
            yield function
    for part in submodules:
        for kind in type(part).__mro__:
            if kind not in seen:
                seen.add(kind)
                yield from (value for value in vars(kind).values() if isinstance(value, FunctionType))
