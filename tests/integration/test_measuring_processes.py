"""Measuring processes run their one test, as this run would, however pytest was started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

GATED = """
from pathlib import Path

@pytest.fixture
def counted(tmp_path):
    (tmp_path / "file").touch()
    with Path({log!r}).open("a") as log:
        log.write("gated\\n")

@pytest.mark.flaky(reruns=2)
@pytest.mark.perf
def test_model(model_pair, counted):
    model_pair(Model(), x)
"""
OTHER = """
from pathlib import Path
import pytest

@pytest.mark.perf
def test_other(tmp_path):
    with Path({log!r}).open("a") as log:
        log.write("other\\n")
"""
SETTINGS = """
[tool.nnopt]
processes = 2
[tool.pytest.ini_options]
addopts = "--maxfail=5 {root}/tests"
markers = ["perf", "flaky"]
"""


def test_from_a_subdirectory_with_paths_in_the_settings_and_temporary_files_elsewhere(project: Project) -> None:
    root = project.pytester.path
    log = root / "log.txt"
    folder = root / "tests"
    folder.mkdir()
    project.write_tests(GATED.format(log=str(log)))
    (root / "test_model.py").rename(folder / "test_model.py")
    (folder / "test_another.py").write_text(OTHER.format(log=str(log)))
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")  # nearer, but not this run's
    project.pytester.makepyprojecttoml(SETTINGS.format(root=root))
    os.chdir(folder)
    basetemp = root / "temporary"
    settings = ("-c", str(root / "pyproject.toml"), f"--rootdir={root}", f"--basetemp={basetemp}", "-m", "perf")
    result = project.run_apart(*settings, "--nnopt-update")
    result.assert_outcomes(passed=2)
    assert (root / "baselines").is_dir()
    assert sorted(log.read_text().split()) == ["gated"] * 3 + ["other"]
    assert list(basetemp.glob("test_model*/file"))


def test_a_verdict_in_the_body_starts_no_process_within_a_process(project: Project) -> None:
    body = (
        "def test_model(model_pair):\n    first = model_pair(Model(), x, name='a')\n    assert first.verdict\n"
        "    model_pair(Model(), x, name='b')\n"
    )
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 2\n")
    project.write_tests(body)
    result = project.run_apart("--nnopt-update")
    result.assert_outcomes(passed=1)
    assert len(list((project.pytester.path / "baselines").glob("*/test_model.py/*.json"))) == 2


@pytest.mark.parametrize("is_module", [True, False])
def test_the_working_directory_is_on_the_path_as_in_this_run(project: Project, is_module: bool) -> None:
    root = project.pytester.path
    (root / "own.py").write_text("")
    (root / "tests").mkdir()
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.write_tests(
        "import importlib.util\ndef test_model(model_pair):\n"
        f"    assert (importlib.util.find_spec('own') is not None) is {is_module}\n    model_pair(Model(), x)\n"
    )
    (root / "test_model.py").rename(root / "tests" / "test_model.py")
    (root / "conftest.py").rename(root / "tests" / "conftest.py")
    script = "import sys; sys.path.remove(''); import pytest; sys.exit(pytest.main())"
    start = ("-m", "pytest") if is_module else ("-c", script)
    command = [sys.executable, *start, "-p", "no:cacheprovider", "--nnopt-update"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


STANDING_BY = """
import pytest
from pytest_nnopt.plugin.run import gate_of

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    standby = gate_of(item.config).standby
    if standby is not None:  # a run, not a measuring process of it
        standby.call(item.nodeid)
"""
TWO_TESTS = """
import os
import time
from pathlib import Path

def note(what):
    with Path({log!r}).open("a") as log:
        log.write(f"{{what}} {{os.getpid()}}\\n")

note("imported")

def test_first(model_pair):
    note("first")
    model_pair(Model(), x)

def test_second(model_pair):
    note("second")
    model_pair(Model(), x, name="a")
    model_pair(Model(), x, name="b")
"""


def test_what_stands_by_imports_before_its_test_and_enters_only_that(project: Project) -> None:
    root = project.pytester.path
    log = root / "log.txt"
    project.pytester.makeconftest(STANDING_BY)
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.write_tests(TWO_TESTS.format(log=str(log)))
    result = project.run_apart("--nnopt-update", "--nnopt-only=latency")
    result.assert_outcomes(passed=2)
    noted = [line.split() for line in log.read_text().splitlines()]
    processes = list(dict.fromkeys(process for _, process in noted))
    entered = [[what for what, process in noted if process == one] for one in processes]
    run, *workers = entered
    assert run == ["imported", "first", "second"]
    assert sorted(workers) == [["imported", "first"], ["imported", "second"], ["imported", "second"]]


def test_nothing_stays_behind_of_what_stood_by_in_vain(project: Project) -> None:
    root = project.pytester.path
    log = root / "log.txt"
    project.pytester.makeconftest(STANDING_BY)
    wait = f"    while Path({str(log)!r}).read_text().count('imported') < 2:\n        time.sleep(0.01)\n"
    project.write_tests(TWO_TESTS.format(log=str(log)) + wait)
    result = project.run_apart("--nnopt-only=numerics")
    result.assert_outcomes(passed=2)
    processes = {line.split()[1] for line in log.read_text().splitlines()}
    assert len(processes) > 1
    assert not [one for one in processes if Path(f"/proc/{one}").exists()]
