"""Each worker of xdist has a GPU of its own, though no process here has one: the driver's word is enough."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from pytest_nnopt.gpus import installed_gpus

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Project  # type: ignore[import-not-found]

SEEN = """
import os, pathlib

AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES")

def note(name):
    text = f"{AT_IMPORT} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
    pathlib.Path(f"seen-{name}-{os.environ['PYTEST_XDIST_WORKER']}").write_text(text)
"""
NOTING = SEEN + "def test_it():\n    note('test')\n"
PLAIN = ("-p", "no:cacheprovider", "-p", "no:randomly")


def seen(place: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in place.glob("seen-*")}


@pytest.mark.parametrize("visible", ["3,1", "GPU-aaaa,GPU-bbbb,GPU-cccc", "MIG-aaaa,MIG-bbbb"])
def test_each_worker_sees_one_gpu_of_the_callers(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    pytester.makepyfile(NOTING)
    assert pytester.runpytest_subprocess(*PLAIN, "-n2", "--dist=each").ret == 0
    first, second = visible.split(",")[:2]
    assert seen(pytester.path) == {"seen-test-gw0": f"{first} {first}", "seen-test-gw1": f"{second} {second}"}


def test_nothing_is_touched_without_a_gpu(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    pytester.makepyfile(NOTING)
    assert pytester.runpytest_subprocess(*PLAIN, "-n2", "--dist=each").ret == 0
    assert set(seen(pytester.path).values()) == {" "}


def test_a_worker_in_place_of_a_crashed_one_has_its_gpu(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    pytester.makepyfile(SEEN + "def test_a():\n    note('a')\n    os._exit(1)\n\ndef test_b():\n    note('b')\n")
    pytester.runpytest_subprocess(*PLAIN, "-n1")
    assert seen(pytester.path) == {"seen-a-gw0": "4 4", "seen-b-gw1": "4 4"}


@pytest.mark.parametrize(
    ("visible", "device", "message"),
    [
        ("0", "cuda", "*2 workers of pytest-xdist would share 1 GPU (0): each needs one of its own; *-n1*"),
        ("0,1", "cuda:1", "*--nnopt-device=cuda:1 names one GPU, and each worker *; say --nnopt-device=cuda*"),
    ],
)
def test_workers_without_a_gpu_of_their_own_are_refused_where_cases_run_on_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, visible: str, device: str, message: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    pytester.makepyfile("def test_model(model_pair): pass")
    result = pytester.runpytest_subprocess(*PLAIN, "-n2", f"--nnopt-device={device}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_more_workers_than_gpus_are_refused_once_a_model_is_on_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    project.write_tests(
        "from pytest_nnopt.session import model_pair as module\n"
        "module.device_of = lambda side: torch.device('cuda', 0)  # as if the test had moved its model\n"
        "def test_model(model_pair):\n    model_pair(Model(), x)\n"
    )
    result = project.run_apart("-n2", "--nnopt-only=compile")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*2 workers of pytest-xdist would share 1 GPU (0): each needs one of its own; *-n1*"])


def test_measuring_processes_inherit_the_gpu(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    conftest = (project.pytester.path / "conftest.py").read_text()
    noting = """
    import os, pathlib

    @pytest.fixture(autouse=True)
    def note(request):
        is_measuring = request.config.option.nnopt_worker is not None
        pathlib.Path(f"seen-{is_measuring}").write_text(str(os.environ.get("CUDA_VISIBLE_DEVICES")))
    """
    project.pytester.makeconftest(conftest + textwrap.dedent(noting))
    project.write_tests(
        "@pytest.mark.nnopt_speedup(min=1.5)\ndef test_model(model_pair):\n    model_pair(Model(), x)\n"
    )
    project.run_apart("-n1", "--nnopt-only=speedup").assert_outcomes(passed=1)
    assert seen(project.pytester.path) == {"seen-False": "6", "seen-True": "6"}


@pytest.mark.gpu
def test_workers_have_the_gpus_of_this_host_one_each(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = installed_gpus()
    pytester.makepyfile(
        "import os, pathlib\nimport torch\n\ndef test_it():\n    assert torch.cuda.device_count() == 1\n"
        "    name = f\"seen-{os.environ['PYTEST_XDIST_WORKER']}\"\n"
        "    pathlib.Path(name).write_text(str(torch.cuda.get_device_properties(0).uuid))\n"
    )
    assert pytester.runpytest_subprocess(*PLAIN, f"-n{len(found)}", "--dist=each").ret == 0
    assert sorted(f"GPU-{uuid}" for uuid in seen(pytester.path).values()) == sorted(found)
