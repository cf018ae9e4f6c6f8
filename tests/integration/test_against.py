"""Comparing with another revision, on real repositories and a clock whose times the models themselves declare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.report.files import read_results

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult

ALSO_OF_REVISIONS = """
@pytest.fixture(autouse=True)
def simulated_clock_of_revisions(monkeypatch):
    from pytest_nnopt.torch_backend import revisions
    monkeypatch.setattr(revisions, "make_clock", lambda device, **_: SimulatedClock())
"""
PACKAGE = """
import torch
from torch import nn

class Same(nn.Module):
    seconds, compiled_seconds, scale = 1e-3, 0.5e-3, 1.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.linear(x)) * self.scale

class Changed(Same): pass
class Breaking(Same): pass
class Mended(Same):
    def forward(self, x): raise RuntimeError("not yet")
"""
HEAD_OF_PACKAGE = PACKAGE.replace(
    "Changed(Same): pass", "Changed(Same): seconds, compiled_seconds, scale = 2e-3, 1e-3, 1.1"
)
HEAD_OF_PACKAGE = HEAD_OF_PACKAGE.replace('    def forward(self, x): raise RuntimeError("not yet")', "    pass")
HEAD_OF_PACKAGE = HEAD_OF_PACKAGE.replace(
    "Breaking(Same): pass",
    """Breaking(Same):
    compiled_seconds = 1e-3

    def forward(self, x):
        x = super().forward(x)
        torch._dynamo.graph_break()
        return x + 1 - 1
""",
)
OPERATOR = """
import torch

@torch.library.custom_op("sample::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2

@double.register_fake
def _(x):
    return torch.empty_like(x)
"""
PREAMBLE = """
import pytest, torch
from sample import Breaking, Changed, Mended, Same

pytestmark = pytest.mark.nnopt_compile(backend="eager")
x = torch.ones(4, 8)
"""
TESTS = """
def test_same(model_pair):
    model_pair(Same(), x)

def test_changed(model_pair):
    model_pair(Changed(), x)

def test_breaking(model_pair):
    model_pair(Breaking(), x)

def test_mended(model_pair):
    model_pair(Mended(), x)

def test_killed(model_pair):
    DIE
    model_pair(Same(), x)

def test_operator(model_pair):
    from sample.operator import double
    model_pair(lambda x: double(x) + 1, x)
"""
BASE = {
    "src/sample/__init__.py": PACKAGE,
    "tests/test_cases.py": PREAMBLE
    + TESTS.replace("DIE", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    + "\ndef test_old_name(model_pair):\n    model_pair(Same(), x)\n",
    "src/sample/operator.py": OPERATOR,
    "tests/test_import.py": "import no_such_package\n",
    ".gitignore": "__pycache__/\n",
}
HEAD = {
    "src/sample/__init__.py": HEAD_OF_PACKAGE,
    "tests/test_cases.py": PREAMBLE
    + TESTS.replace("DIE", "pass")
    + "\ndef test_new_name(model_pair):\n    model_pair(Same(), x)\n",
    "tests/test_import.py": PREAMBLE + "def test_import(model_pair):\n    model_pair(Same(), x)\n",
}


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write(top: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)


@dataclass(frozen=True)
class Revised:
    """A repository whose package is installed as ``pip install -e`` does it, by a .pth file.

    Attributes:
        top: its top directory, with one commit; the head is what is not committed.
        environment: variables of its runs.
    """

    top: Path
    environment: dict[str, str]

    @property
    def temporary(self) -> Path:
        """Where its runs keep temporary files."""
        return Path(self.environment["TMPDIR"])

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start pytest, without waiting for it."""
        plugins = ("-p", "no:cacheprovider", "-p", "pytest_nnopt.plugin", "-p", "xdist.plugin")
        command = [sys.executable, "-m", "pytest", *plugins, *arguments]
        return subprocess.Popen(
            command, cwd=self.top, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def leftovers(self) -> list[str]:
        """Name the worktrees, processes and temporary files that a run has left behind."""
        worktrees = git(self.top, "worktree", "list").splitlines()[1:]
        kept = ("pytest-of-", "pytest-nnopt-", "torchinductor_")  # pytest's, the locks, and the compiler's own cache
        files = [path.name for path in self.temporary.iterdir() if not path.name.startswith(kept)]
        return [*worktrees, *files, *self.processes()]

    def processes(self) -> list[str]:
        """Return the command lines of living processes that were started with this one's temporary directory."""
        mark, found = f"TMPDIR={self.temporary}".encode(), []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    found.append((place / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it is gone, or another user's
                continue
        return [line for line in found if line]


def make_revised(directory: Path, base: dict[str, str], head: dict[str, str]) -> Revised:
    top, site, temporary = (directory / name for name in ("repository", "site", "tmp"))
    write(top, base)
    git(top, "init", "-q", "-b", "main")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "base")
    write(top, head)
    temporary.mkdir()
    write(
        site,
        {
            "__editable__.sample-1.0.pth": f"{top / 'src'}\n",
            "sitecustomize.py": f"import site\nsite.addsitedir({str(site)!r})\n",
        },
    )
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    changes = {
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # other plugins take a second in each of some twenty processes
    }
    return Revised(top, {**plain, **changes})


@dataclass(frozen=True)
class Run:
    """What a finished run has said and written."""

    status: int
    output: str
    cases: dict[str, CaseResult]
    leftovers: list[str]

    def check(self, test: str, name: str) -> Any:
        """Return the answer to a check of one test."""
        (case,) = (case for case_id, case in self.cases.items() if case_id.endswith(f"::{test}"))
        return next(check for check in case.checks if check.name.value == name)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, simulated_clock_conftest: str) -> Run:
    """One run over all that can become of a test, spread over two processes."""
    conftest = {"tests/conftest.py": simulated_clock_conftest + ALSO_OF_REVISIONS}
    revised = make_revised(tmp_path_factory.mktemp("revised"), BASE | conftest, HEAD)
    process = revised.start("-n2", "--nnopt-effect=50%", "--nnopt-against=main", "--nnopt-json=../results.json")
    output, _ = process.communicate(timeout=500)
    results = revised.top.parent / "results.json"
    assert results.is_file(), output
    cases = {case.id: case for case in read_results(results).cases}
    return Run(process.returncode, output, cases, revised.leftovers())


def test_it_fails_for_those_that_became_worse_and_leaves_nothing(compared: Run) -> None:
    assert compared.status == pytest.ExitCode.TESTS_FAILED, compared.output
    failed = {case_id.partition("::")[2] for case_id, case in compared.cases.items() if case.outcome.is_failure}
    assert failed == {"test_changed", "test_breaking", "test_killed"}, compared.output
    assert compared.leftovers == []


def test_identical_code_passes(compared: Run) -> None:
    check = compared.check("test_same", "latency")
    assert check.outcome.value == "passed"
    assert abs(check.value) < 0.02
    case = compared.cases["tests/test_cases.py::test_same"]
    assert all(process.base is not None for process in case.timing), "both revisions in one process"


def test_a_slower_model_shows_in_eager_too(compared: Run) -> None:
    check = compared.check("test_changed", "latency")
    assert check.outcome.value == "failed"
    assert check.value == pytest.approx(1, abs=0.05)
    assert "eager slowed alike, so the model changed" in check.details[0]
    numbers = compared.check("test_changed", "numerics")
    assert numbers.outcome.value == "passed"
    assert any("the reference itself changed" in line for line in numbers.details)


def test_a_slower_compilation_is_told_from_a_slower_model(compared: Run) -> None:
    check = compared.check("test_breaking", "latency")
    assert check.outcome.value == "failed"
    assert "only the compiled side slowed, so the compilation changed" in check.details[0]
    compilation = compared.check("test_breaking", "compile")
    assert compilation.outcome.value == "failed"
    assert "graph break" in compilation.reason


def test_a_test_of_another_name_is_new_and_the_old_one_is_listed(compared: Run) -> None:
    check = compared.check("test_new_name", "latency")
    assert check.outcome.value == "skipped"
    assert "the test is new" in check.reason
    assert "gone, 1 test of main" in compared.output
    assert "tests/test_cases.py::test_old_name" in compared.output


def test_what_cannot_be_imported_in_the_base_stays_open(compared: Run) -> None:
    check = compared.check("test_import", "latency")
    assert check.outcome.value == "inconclusive"
    assert "cannot be imported in main" in check.reason
    assert "No module named 'no_such_package'" in check.reason


def test_a_model_that_does_not_run_in_the_base_stays_open(compared: Run) -> None:
    check = compared.check("test_mended", "latency")
    assert check.outcome.value == "inconclusive"
    assert "the test fails in main" in check.reason
    assert "the model raises RuntimeError: not yet" in check.reason


def test_a_process_that_is_killed_fails_the_case(compared: Run) -> None:
    check = compared.check("test_killed", "latency")
    assert check.outcome.value == "failed"
    assert "cannot be measured: a measuring process was killed by SIGKILL" in check.reason


def test_what_cannot_share_a_process_is_measured_in_two_that_take_turns(compared: Run) -> None:
    check = compared.check("test_operator", "latency")
    assert check.outcome.value == "passed"
    assert "against main (" in check.reason
    assert "the custom operator sample::double is registered by both" in check.details[-1]
    assert "the smallest change it finds is larger" in check.details[-1]


def wait_until(is_so: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("request_to_end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(tmp_path: Path, request_to_end: signal.Signals) -> None:
    flag = tmp_path / "reached"
    hanging = f"def test_it(model_pair):\n    open({str(flag)!r}, 'w').close()\n    while True: pass\n"
    revised = make_revised(tmp_path, {"tests/test_it.py": hanging}, {"tests/test_it.py": PREAMBLE_ALONE})
    process = revised.start("--nnopt-against=HEAD")
    wait_until(flag.is_file, process)
    assert len(git(revised.top, "worktree", "list").splitlines()) == 2
    process.send_signal(request_to_end)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert revised.leftovers() == []


PREAMBLE_ALONE = """
import pytest, torch

@pytest.mark.nnopt_compile(backend="eager")
def test_it(model_pair):
    model_pair(torch.nn.Linear(2, 2), torch.ones(1, 2))
"""


@pytest.fixture
def plain(pytester: pytest.Pytester) -> pytest.Pytester:
    """A repository of one commit and no case; what it is asked for is found out before any is collected."""
    pytester.makepyfile("def test_nothing(): pass")
    git(pytester.path, "init", "-q", "-b", "main")
    git(pytester.path, "add", "-A")
    git(pytester.path, "commit", "-qm", "base")
    return pytester


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nnopt-against=nowhere",), "*--nnopt-against: git knows no revision 'nowhere' in *"),
        (("--nnopt-against=HEAD", "--nnopt-baseline"), "*run them one after the other*"),
        (("--nnopt-against=HEAD", "--nnopt-against-build=exit 3"), "*--nnopt-against: the build 'exit 3' ended with*"),
    ],
)
def test_what_cannot_be_compared_with_is_a_usage_error(
    plain: pytest.Pytester, arguments: tuple[str, ...], message: str
) -> None:
    result = plain.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert len(git(plain.path, "worktree", "list").splitlines()) == 1


def test_outside_a_repository_is_a_usage_error(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(pytester.path.parent))
    result = pytester.runpytest_inprocess("--nnopt-against=HEAD")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--nnopt-against: revisions are those of a git repository, and * is in none*"])


def test_a_run_without_cases_checks_out_and_removes(plain: pytest.Pytester) -> None:
    result = plain.runpytest_inprocess("-p", "no:cacheprovider", "--nnopt-against=HEAD")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["nnopt: compared with HEAD (*), the same code as here"])
    assert len(git(plain.path, "worktree", "list").splitlines()) == 1
