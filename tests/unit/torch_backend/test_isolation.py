import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters, get_compilation_metrics, graph_break_reasons
from torch._inductor import async_compile

from pytest_nnopt.torch_backend import isolation
from pytest_nnopt.torch_backend.isolation import (
    default_cache_dir,
    isolated_compilation,
    rehearse_compilation,
    reset_compiler,
    share_machine_code,
)


def compile_something() -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x * 2

    torch.compile(double, backend="eager")(torch.ones(2))


def test_leaves_nothing_of_what_was_compiled_before() -> None:
    compile_something()
    with isolated_compilation():
        assert not counters
        assert not get_compilation_metrics()
        assert not graph_break_reasons


def test_leaves_nothing_of_what_was_compiled_inside() -> None:
    with isolated_compilation():
        compile_something()
        assert counters["stats"]["unique_graphs"] > 0
    assert not counters
    assert not get_compilation_metrics()
    assert not graph_break_reasons


def test_second_instance_of_a_class_is_compiled_anew() -> None:
    graphs = []
    for _ in range(2):
        with isolated_compilation():
            module = torch.nn.Sequential(torch.nn.Linear(2, 2))
            torch.compile(module, backend="eager")(torch.ones(1, 2))
            graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [1, 1]


def test_cold_cache_is_new_and_removed_even_when_the_body_raises() -> None:
    seen: list[Path] = []

    def look_and_raise() -> None:
        with isolated_compilation():
            seen.append(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]))
            assert seen[-1].is_dir()
            raise RuntimeError("in the body")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="in the body"):
            look_and_raise()
    assert seen[0] != seen[1]
    assert not any(path.exists() for path in seen)


def test_given_cache_is_kept(tmp_path: Path) -> None:
    with isolated_compilation(cache_dir=tmp_path / "warm"):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "warm")
        assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "warm" / "triton")
    assert (tmp_path / "warm").is_dir()


def test_machine_code_is_shared_and_what_was_chosen_by_timing_is_not(tmp_path: Path) -> None:
    made = tmp_path / "run" / "triton" / "HASH"
    made.mkdir(parents=True)
    for name in ("sums.cubin", "sums.autotune.json"):
        (made / name).write_bytes(b"made")
    with isolated_compilation():
        share_machine_code(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]), tmp_path / "run")
        found = Path(os.environ["TRITON_CACHE_DIR"]) / "HASH"
        assert [file.name for file in found.iterdir()] == ["sums.cubin"]


def test_where_no_machine_code_is_there_it_is_made(tmp_path: Path) -> None:
    share_machine_code(tmp_path / "own", tmp_path / "run")
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_environment_is_as_it_was(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    if before is not None:
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
    with isolated_compilation():
        pass
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") == before


def test_reset_forgets_shapes_that_were_seen() -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    for size in (2, 3):
        reset_compiler()
        torch.compile(double, backend="eager")(torch.ones(size))
    assert counters["stats"]["unique_graphs"] == 1
    assert [entry.cache_size for entry in get_compilation_metrics()] == [0]


LOADING = """
import sys
import torch

def wake():
    raise SystemExit("a GPU is awake")

torch.cuda.is_available = lambda: True
torch.cuda._lazy_init = wake
from pytest_nnopt.torch_backend.isolation import load_compiler
load_compiler()
assert "torch._inductor.compile_fx" in sys.modules
"""


def test_loading_the_compiler_wakes_no_gpu() -> None:
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def unrehearsed() -> Iterator[None]:
    """Let rehearsals take place in this process that has had one."""
    rehearse_compilation.cache_clear()
    yield
    rehearse_compilation.cache_clear()


@pytest.mark.usefixtures("unrehearsed")
def test_a_rehearsal_compiles_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ordinary, others = tmp_path / "ordinary", tmp_path / "others"
    others.mkdir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(ordinary))
    monkeypatch.setattr("tempfile.tempdir", str(others))
    state = torch.random.get_rng_state()
    rehearse_compilation("cpu")
    assert list(ordinary.rglob("*.py"))
    assert not list(others.iterdir())
    assert not counters
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(ordinary)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.usefixtures("unrehearsed")
def test_a_rehearsal_on_a_gpu_makes_a_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    rehearse_compilation("cuda")
    assert list(tmp_path.rglob("*.cubin"))


@pytest.mark.usefixtures("unrehearsed")
def test_processes_that_compile_kernels_are_started_before_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(async_compile, "maybe_warm_pool", lambda: told.append("started"), raising=False)
    monkeypatch.setattr(isolation, "reset_compiler", lambda: told.append("reset"))
    rehearse_compilation("cpu")
    assert "started" not in told
    told.clear()
    rehearse_compilation("cuda")  # where there is none, that is all that comes of it
    assert told[:2] == ["started", "reset"]


@pytest.mark.usefixtures("unrehearsed")
def test_a_rehearsal_that_fails_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    rehearse_compilation("cpu")
    assert not counters


def test_asking_for_the_ordinary_cache_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert default_cache_dir().is_dir()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
