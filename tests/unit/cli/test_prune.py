"""Baselines go only where pytest says that their test is gone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.cli import prune
from pytest_nnopt.cli.prune import Collected
from tests.builders import make_baseline, make_environment

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

HERE = make_environment()


def store_baselines(*cases: str) -> BaselineStore:
    store = BaselineStore(Path("baselines"))
    for case in cases:
        store.write(HERE, make_baseline(HERE, case=case))
    return store


def stored() -> list[str]:
    return sorted(baseline.case for baseline in BaselineStore(Path("baselines")).read_all(HERE.name))


@pytest.mark.parametrize(
    ("case", "may_be_there"),
    [
        ("t.py::test_a", True),
        ("t.py::test_a#pair", True),
        ("t.py::test_b[x#y]", True),
        ("t.py::test_b[x#y]#pair#2", True),
        ("t.py::test_b[x]", False),
        ("t.py::test_c", False),
        ("skipped.py::test_c", True),
    ],
)
def test_a_case_belongs_to_the_test_in_front_of_its_name(case: str, may_be_there: bool) -> None:
    collected = Collected(frozenset({"t.py::test_a", "t.py::test_b[x#y]"}), frozenset({"skipped.py"}))
    assert collected.may_have(case) is may_be_there


def test_pytest_is_asked_and_what_it_deselects_or_skips_is_kept(nnopt: Nnopt) -> None:
    Path("pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = ['-q', '-k', 'kept']\n")
    Path("test_a.py").write_text(
        "def test_kept(model_pair): pass\ndef test_deselected(model_pair): pass\ndef test_without_a_model(): pass\n"
    )
    Path("test_skipped.py").write_text("import pytest\npytest.importorskip('a_package_that_is_not_here')\n")
    names = ["kept", "deselected", "without_a_model", "gone"]
    store_baselines(*(f"test_a.py::test_{name}" for name in names), "test_skipped.py::test_x", "gone/test_b.py::test_x")
    assert nnopt("prune", "--json").json()["deleted"] is False
    assert len(stored()) == 6
    assert nnopt("prune", "--yes").out == "deleted 3 baselines\n"
    assert stored() == ["test_a.py::test_deselected", "test_a.py::test_kept", "test_skipped.py::test_x"]
    assert not Path("baselines", HERE.name, "gone").exists()


def test_a_file_that_cannot_be_collected_prunes_nothing(nnopt: Nnopt) -> None:
    Path("test_a.py").write_text("import a_package_that_is_not_here\n")
    store_baselines("test_a.py::test_a")
    said = nnopt("prune", "--yes")
    assert said.status == 4
    assert "pytest cannot collect test_a.py, so nothing is pruned:" in said.err
    assert "a_package_that_is_not_here" in said.err
    assert stored() == ["test_a.py::test_a"]


def test_parameters_that_only_another_host_has_are_kept(nnopt: Nnopt) -> None:
    Path("test_a.py").write_text(
        "import pytest\n@pytest.mark.parametrize('device', ['cpu'])\ndef test_a(device, model_pair): pass\n"
    )
    store_baselines("test_a.py::test_a[cpu]", "test_a.py::test_a[cpu-old]")
    there = make_environment(device="cuda", gpu="NVIDIA H200")
    store = BaselineStore(Path("baselines"))
    store.write(there, make_baseline(there, case="test_a.py::test_a[cuda]"))
    assert nnopt("prune", "--yes").out == "deleted 1 baselines\n"
    assert stored() == ["test_a.py::test_a[cpu]"]
    assert [one.case for one in store.read_all(there.name)] == ["test_a.py::test_a[cuda]"]


def test_a_file_outside_of_the_project_is_neither_run_nor_gone(
    nnopt: Nnopt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside.py").write_text("raise SystemExit('it ran')\n")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    store_baselines("../outside.py::test_a", f"{tmp_path}/outside.py::test_a")
    assert nnopt("prune", "--json").json()["gone"] == []


@pytest.mark.parametrize(("answer", "said", "left"), [("y", "deleted 1 baselines", 0), ("n", "kept 1 baselines", 1)])
def test_what_would_go_is_shown_before(
    answer: str, said: str, left: int, nnopt: Nnopt, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_baselines("gone.py::test_a")
    monkeypatch.setattr(sys, "stdin", __import__("io").StringIO(f"{answer}\n"))
    out = nnopt("prune").out
    assert out.startswith(f"baselines/{HERE.name}/gone.py/test_a.json\ndelete 1 baselines? [y/N]")
    assert out.endswith(f"{said}\n")
    assert len(stored()) == left


def test_nothing_to_prune_is_said(nnopt: Nnopt, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("test_a.py").touch()
    store_baselines("test_a.py::test_a")
    monkeypatch.setattr(prune, "collect", lambda files: Collected(frozenset({"test_a.py::test_a"})))
    assert nnopt("prune").out == "every baseline in baselines has its test\n"


def test_a_files_name_is_never_read_as_arguments(nnopt: Nnopt) -> None:
    for name in ("@options.py", "--basetemp=gone.py"):
        Path(name).write_text("def test_a(model_pair): pass\n")
        store_baselines(f"{name}::test_a", f"{name}::test_b")
    assert nnopt("prune", "--yes").out == "deleted 2 baselines\n"
    assert stored() == ["--basetemp=gone.py::test_a", "@options.py::test_a"]
