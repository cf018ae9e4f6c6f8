"""Measuring processes run their one test, as this run would, however pytest was started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
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


ON_A_GPU = """
import os
from pathlib import Path

import pytest_nnopt.session.worker as worker
from pytest_nnopt.session.gate import Gate

LOG = Path({log!r})

def note(what):
    with LOG.open("a") as log:
        log.write(f"{{os.getpid()}} {{what}}\\n")

stand_by, wait_to_enter = Gate._stand_by, worker.WorkerRole.wait_to_enter
Gate._stand_by = lambda self, test_id, device: stand_by(self, test_id, "cuda")

def noting(self, load):
    def loading():
        load()
        note("loaded")
    return wait_to_enter(self, loading)

worker.WorkerRole.wait_to_enter = noting
"""
THREE_TESTS = """
import os
import sys
import time
from conftest import LOG, note

def wait_for(count, what):
    while LOG.read_text().count(what) < count:
        time.sleep(0.01)

note(f"imported with {os.environ.get('FLAG')}")

def test_first(model_pair, monkeypatch):
    wait_for(1, "loaded")
    monkeypatch.setenv("FLAG", "1")
    note("first")
    model_pair(Model(), x)

def test_second(model_pair):
    wait_for(2, "loaded")
    note(f"second with {os.environ.get('FLAG')}")
    model_pair(Model(), x, name="a")
    model_pair(Model(), x, name="b")

def test_third(model_pair, monkeypatch):
    monkeypatch.setenv("FLAG", "3")
    note("third")
    model_pair(Model(), x)
"""


def did(log: Path) -> dict[str, list[str]]:
    """Return what each process did, in order, by its id."""
    noted = [line.split(" ", 1) for line in log.read_text().splitlines()]
    return {process: [what for one, what in noted if one == process] for process, _ in noted}


def test_what_stands_by_loads_before_its_test_and_knows_nothing_of_the_one_before(project: Project) -> None:
    log = project.pytester.path / "log.txt"
    project.pytester.makeconftest(ON_A_GPU.format(log=str(log)))
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.write_tests(THREE_TESTS)
    result = project.run_apart("--nnopt-update", "--nnopt-effect=20%", "--nnopt-only=latency", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3)
    run, *workers = did(log).values()
    assert run == ["imported with None", "first", "second with None", "third"]
    entered = [one for one in workers if one[-1].split()[0] in ("first", "second", "third")]
    assert {(one[0], one[-1]) for one in entered} == {  # what a test changes it changes in each process anew
        ("imported with None", "first"),
        ("imported with None", "second with None"),
        ("imported with None", "third"),
    }
    of_second = [one for one in entered if one[-1] == "second with None"]
    assert sorted(map(len, of_second)) == [2, 3]
    assert ["imported with None", "loaded", "second with None"] in of_second


TWO_TESTS = """
import os
import time
from conftest import LOG, note

pytestmark = []

@pytest.fixture
def until_the_next_stands_by():
    yield
    is_run = LOG.read_text().startswith(f"{os.getpid()} ")
    while is_run and "loaded" not in dict(line.split(" ", 1) for line in LOG.read_text().splitlines()).values():
        time.sleep(0.01)

note("imported")

def test_first(model_pair, until_the_next_stands_by):
    note("entered")
    model_pair(Model(), x)

def test_second(model_pair):
    note("entered")
    model_pair(Model(), x)
"""


def test_what_compiling_and_looking_leave_in_the_environment_makes_nobody_stand_by_in_vain(project: Project) -> None:
    log = project.pytester.path / "log.txt"
    project.pytester.makeconftest(ON_A_GPU.format(log=str(log)))
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.write_tests(TWO_TESTS)
    asked = "--nnopt-only=latency,memory"
    result = project.run_apart("--nnopt-update", "--nnopt-effect=20%", asked, "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    _, *workers = did(log).values()
    assert len(workers) >= 2
    assert [one for one in workers if one[-1] != "entered"] == []


def test_nothing_stays_behind_of_what_stood_by_in_vain(project: Project) -> None:
    log = project.pytester.path / "log.txt"
    project.pytester.makeconftest(ON_A_GPU.format(log=str(log)))
    project.pytester.makepyprojecttoml("[tool.nnopt]\nprocesses = 1\n")
    project.write_tests(f"{THREE_TESTS}\ndef test_fourth(model_pair):\n    assert False\n")
    result = project.run_apart("--nnopt-update", "--nnopt-only=latency", "-x", "-k", "first or fourth")
    result.assert_outcomes(passed=1, failed=1, deselected=2)
    assert len(did(log)) > 2
    assert not [process for process in did(log) if Path(f"/proc/{process}").exists()]


def test_a_killed_run_leaves_none_that_rests(project: Project) -> None:
    log = project.pytester.path / "log.txt"
    project.pytester.makeconftest(ON_A_GPU.format(log=str(log)))
    project.write_tests(THREE_TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--nnopt-update", "--nnopt-only=latency"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    resting = wait_until(lambda: find_resting(log))
    run.kill()
    run.wait()
    assert wait_until(lambda: not [process for process in did(log) if Path(f"/proc/{process}").exists()])
    assert resting


def find_resting(log: Path) -> list[str]:
    """Return the processes that have been stopped."""
    there = did(log) if log.exists() else {}
    return [process for process in there if "State:\tT" in read_status(process)]


def read_status(process: str) -> str:
    try:
        return Path(f"/proc/{process}/status").read_text()
    except OSError:
        return ""


def wait_until(found: Callable[[], object], *, seconds: float = 120.0) -> object:
    """Return what is found once it is; nothing where it takes too long."""
    deadline = time.monotonic() + seconds
    while not (result := found()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return result
