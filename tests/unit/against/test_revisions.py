"""Git, worktree, module tables and proof together, on real repositories of two revisions."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path

import pytest

from pytest_nnopt.against.arguments import base_arguments
from pytest_nnopt.against.git import Repository, find_repository
from pytest_nnopt.against.imports import ModuleTables
from pytest_nnopt.against.proof import find_foreign_code
from pytest_nnopt.against.worktree import Trees, copy_tests, prune_worktrees, worktree
from pytest_nnopt.errors import RevisionError, SeparationError

PACKAGE = "against_sample"


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def write(directory: Path, value: int) -> None:
    source = directory / "src" / PACKAGE
    source.mkdir(parents=True, exist_ok=True)
    (source / "__init__.py").write_text(f"from {PACKAGE}.part import value\n")
    (source / "part.py").write_text(f"def value():\n    return {value}\n")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two commits on main, and a branch off the first with a change that is not committed."""
    top = tmp_path / "head"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    write(top, 1)
    git(top, "add", "-A")
    git(top, "commit", "-qm", "one")
    git(top, "checkout", "-qb", "feature")
    git(top, "checkout", "-q", "main")
    git(top, "commit", "-qm", "two", "--allow-empty")
    git(top, "checkout", "-q", "feature")
    write(top, 2)
    return find_repository(top)


@pytest.fixture
def head_path(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(repository.top / "src"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


class TestResolve:
    def test_a_branch_stands_for_its_merge_base(self, repository: Repository) -> None:
        revision = repository.resolve("main")
        assert revision.is_merge_base
        assert revision.is_head
        assert revision.commit == git(repository.top, "rev-parse", "main~1")
        assert "the merge base of main and HEAD" in revision.description

    def test_exactly_it_stands_for_its_tip(self, repository: Repository) -> None:
        revision = repository.resolve("main", exact=True)
        assert revision.commit == git(repository.top, "rev-parse", "main")
        assert not revision.is_head

    @pytest.mark.parametrize("asked", ["--upload-pack=x", "-", ""])
    def test_what_looks_like_an_option_is_refused(self, repository: Repository, asked: str) -> None:
        with pytest.raises(RevisionError, match="is no revision"):
            repository.resolve(asked)

    def test_an_unknown_revision_names_itself_and_the_remedy(self, repository: Repository) -> None:
        with pytest.raises(RevisionError, match=r"knows no revision 'nowhere'.*git branch --all"):
            repository.resolve("nowhere")

    def test_a_shallow_clone_says_how_to_fetch(self, repository: Repository, tmp_path: Path) -> None:
        shallow = tmp_path / "shallow"
        git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository.top}", str(shallow))
        with pytest.raises(RevisionError, match="git fetch origin main:refs/remotes/origin/main"):
            find_repository(shallow).resolve("origin/main")
        with pytest.raises(RevisionError, match="git fetch --unshallow"):
            find_repository(shallow).resolve("v1.0")

    def test_unrelated_histories_are_an_error(self, repository: Repository) -> None:
        git(repository.top, "checkout", "-q", "--orphan", "alone")
        git(repository.top, "commit", "-qam", "alone")
        with pytest.raises(RevisionError, match=r"have no merge base.*--nnopt-against-exact"):
            repository.resolve("main")

    def test_outside_a_repository_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RevisionError, match="is in none"):
            find_repository(tmp_path)


class TestWorktree:
    def test_it_holds_the_base_and_goes_away_after_an_interrupt(self, repository: Repository) -> None:
        opened = worktree(repository, repository.resolve("main"))
        trees = opened.__enter__()
        assert "return 1" in (trees.base / "src" / PACKAGE / "part.py").read_text()
        prune_worktrees(repository)
        assert trees.base.is_dir(), "a worktree in use is left alone"
        assert not opened.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert not trees.base.parent.exists()
        assert len(git(repository.top, "worktree", "list").splitlines()) == 1

    def test_what_a_killed_run_left_behind_is_removed(self, repository: Repository, tmp_path: Path) -> None:
        stale = tmp_path / "nnopt-base-killed" / "tree"
        git(repository.top, "worktree", "add", "-q", "--detach", str(stale), "main")
        prune_worktrees(repository)
        assert not stale.parent.exists()
        assert len(git(repository.top, "worktree", "list").splitlines()) == 1

    def test_a_build_that_fails_says_its_last_words(self, repository: Repository) -> None:
        revision = repository.resolve("main")
        with (
            pytest.raises(RevisionError, match="ended with status 3 in the base; its last output:\nno compiler"),
            worktree(repository, revision, build="echo no compiler; exit 3"),
        ):
            pass

    def test_a_submodule_has_what_the_base_names_and_changes_in_it_belong_to_the_head(
        self, repository: Repository, tmp_path: Path
    ) -> None:
        library = tmp_path / "library"
        library.mkdir()
        git(library, "init", "-q")
        (library / "value").write_text("committed")
        git(library, "add", "-A")
        git(library, "commit", "-qm", "library")
        git(repository.top, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "inner")
        git(repository.top, "commit", "-qam", "with a submodule")
        (repository.top / "inner" / "value").write_text("dirty")
        assert repository.is_dirty
        with worktree(repository, repository.resolve("HEAD")) as trees:
            assert (trees.base / "inner" / "value").read_text() == "committed"
        assert (repository.top / "inner" / "value").read_text() == "dirty"

    def test_the_heads_tests_can_take_the_bases_place(self, repository: Repository) -> None:
        test = repository.top / "tests" / "test_it.py"
        test.parent.mkdir()
        test.write_text("head")
        (repository.top / "conftest.py").write_text("head, too")
        with worktree(repository, repository.resolve("main")) as trees:
            copy_tests(trees, [test])
            assert (trees.base / "tests" / "test_it.py").read_text() == "head"
            assert (trees.base / "conftest.py").read_text() == "head, too"


@pytest.mark.usefixtures("head_path")
class TestModuleTables:
    def test_each_revision_imports_and_keeps_its_own(self, repository: Repository) -> None:
        head = importlib.import_module(PACKAGE)
        with worktree(repository, repository.resolve("main")) as trees:
            tables = ModuleTables(trees)
            with tables.base():
                base = importlib.import_module(PACKAGE)
                assert find_foreign_code(trees, base.value) is None
                with tables.head():
                    assert sys.modules[PACKAGE] is head
                assert sys.modules[PACKAGE] is base
            assert (head.value(), base.value()) == (2, 1)
            assert sys.modules[PACKAGE] is head

    def test_a_finder_of_an_editable_install_is_followed(
        self, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Finder:
            """As setuptools installs one for a layout that no path can tell."""

            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
                place = repository.top / "src" / PACKAGE / "__init__.py"
                return spec_from_file_location(name, place) if name == PACKAGE else None

        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(repository.top / "src")])
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
        head = importlib.import_module(PACKAGE)
        with worktree(repository, repository.resolve("main")) as trees, ModuleTables(trees).base():
            base = importlib.import_module(PACKAGE)
            assert find_foreign_code(trees, base.value) is None
        assert (head.value(), base.value()) == (2, 1)

    def test_a_module_that_the_base_lacks_is_not_taken_from_the_head(self, repository: Repository) -> None:
        (repository.top / "src" / PACKAGE / "new.py").write_text("")
        importlib.import_module(f"{PACKAGE}.new")
        with (
            worktree(repository, repository.resolve("main")) as trees,
            ModuleTables(trees).base(),
            pytest.raises(ModuleNotFoundError),
        ):
            importlib.import_module(f"{PACKAGE}.new")

    def test_an_extension_module_is_borrowed_unless_the_base_has_built_its_own(self, repository: Repository) -> None:
        source = find_spec("_json")
        if source is None or source.origin is None or not Path(source.origin).is_file():
            pytest.skip("_json is built into this interpreter")
        built, name = Path("src", PACKAGE, Path(source.origin).name), f"{PACKAGE}._json"
        shutil.copy(source.origin, repository.top / built)
        with worktree(repository, repository.resolve("main")) as trees:
            tables = ModuleTables(trees)
            with tables.base():
                assert importlib.import_module(name).__file__ == str(repository.top / built)
                assert tables.borrowed == {name}
                assert find_foreign_code(trees, importlib.import_module(PACKAGE).value, borrowed={name}) is None
            shutil.copy(source.origin, trees.base / built)
            again = ModuleTables(trees)
            with again.base(), pytest.raises(SeparationError, match="the base has a build of its own"):
                importlib.import_module(name)
            assert again.refused

    def test_code_of_the_head_is_named(self, repository: Repository) -> None:
        head = importlib.import_module(PACKAGE)
        with worktree(repository, repository.resolve("main")) as trees, ModuleTables(trees).base():
            found = find_foreign_code(trees, head.value)
        assert found is not None
        assert "runs value of the head" in found

    def test_a_package_installed_elsewhere_is_named(
        self, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "installed", 3)
        monkeypatch.syspath_prepend(str(tmp_path / "installed" / "src"))
        with worktree(repository, repository.resolve("main")) as trees, ModuleTables(trees).base():
            value = importlib.import_module(PACKAGE).value
            found = find_foreign_code(trees, value)
            del sys.modules[PACKAGE], sys.modules[f"{PACKAGE}.part"]
        assert found is not None
        assert "an installed copy" in found
        assert "pip install -e" in found

    def test_a_copy_of_a_module_that_lies_deeper_in_the_repository_is_named(
        self, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = repository.top / "services" / "ml"
        service.mkdir(parents=True)
        code = "import torch\n\n@torch.no_grad()\ndef run(x):\n    return x\n"
        (service / "nnopt_deep_module.py").write_text(code)
        git(repository.top, "add", "services")
        git(repository.top, "commit", "-qm", "deep")
        installed = tmp_path / "installed"
        installed.mkdir()
        (installed / "nnopt_deep_module.py").write_text(code)
        monkeypatch.syspath_prepend(str(installed))
        with worktree(repository, repository.resolve("HEAD")) as trees, ModuleTables(trees).base():
            found = find_foreign_code(trees, importlib.import_module("nnopt_deep_module").run)
            del sys.modules["nnopt_deep_module"]
        assert found is not None
        assert "and not from services/ml/nnopt_deep_module.py in the repository" in found

    def test_a_decorator_from_elsewhere_is_no_copy(self, repository: Repository) -> None:
        code = "import torch\n\n@torch.no_grad()\ndef run(x):\n    return x\n"
        (repository.top / "nnopt_decorated.py").write_text(code)
        git(repository.top, "add", "nnopt_decorated.py")
        git(repository.top, "commit", "-qm", "decorated")
        with worktree(repository, repository.resolve("HEAD")) as trees, ModuleTables(trees).base():
            sys.path.insert(0, str(trees.base))
            try:
                assert find_foreign_code(trees, importlib.import_module("nnopt_decorated").run) is None
            finally:
                sys.path.remove(str(trees.base))
                sys.modules.pop("nnopt_decorated", None)


def test_a_configuration_that_the_base_lacks_is_left_out(tmp_path: Path) -> None:
    trees = Trees(tmp_path / "head", tmp_path / "base")
    for tree in (trees.head, trees.base):
        tree.mkdir()
        (tree / "pytest.ini").touch()
        (tree / "pyproject.toml").write_text("[project]\n")
    names = ("pytest.ini", "gone.ini", "pyproject.toml")
    given = [*(f"--config-file={trees.head}/{name}" for name in names), "--config-file=/dev/null"]
    assert base_arguments(trees, given) == (f"--config-file={trees.base}/pytest.ini", "--config-file=/dev/null")


def test_paths_of_the_head_become_the_bases() -> None:
    trees = Trees(Path("/head"), Path("/base"))
    given = ["-q", "/head/tests/test_a.py::test_b", "--rootdir=/head", "--basetemp=/else", "-k", "head"]
    assert base_arguments(trees, given) == (
        "-q", "/base/tests/test_a.py::test_b", "--rootdir=/base", "--basetemp=/else", "-k", "head",
    )  # fmt: skip
