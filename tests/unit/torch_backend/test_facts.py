from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace

import pytest
import torch

from pytest_nnopt.environment import DECISIVE_FIELDS
from pytest_nnopt.torch_backend import facts
from pytest_nnopt.torch_backend.facts import current_environment, device_key

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
VERSION_FIELDS = {"gpu", "capability", "cuda", "triton"}
GPU_FIELDS = {*VERSION_FIELDS, "backend_flags", "cold_cache", "mig", "power_limit_watts", "application_clocks"}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch speak as on a machine with a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)


def test_a_cpu_tells_every_decisive_field_that_it_has() -> None:
    environment = current_environment(CPU)
    assert set(DECISIVE_FIELDS) - GPU_FIELDS <= set(environment.fields)
    assert environment.fields["torch"] == torch.__version__
    assert environment.fields["threads"] == torch.get_num_threads()
    assert environment.name.startswith("cpu-")
    assert environment.fields["warm_calls"] is True


def test_one_process_has_one_digest() -> None:
    assert current_environment(CPU).digest == current_environment(CPU).digest


def test_settings_that_change_what_is_compiled_change_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = current_environment(CPU)
    monkeypatch.setenv("TORCHINDUCTOR_MAX_AUTOTUNE", "1")
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    environment = current_environment(CPU)
    assert environment.digest != before.digest
    assert str(environment.fields["compiler_settings"]).endswith("TORCHDYNAMO_DISABLE=1 TORCHINDUCTOR_MAX_AUTOTUNE=1")


@pytest.mark.parametrize(
    "name", ["TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS", "TRITON_CACHE_DIR", "HOME"]
)
def test_settings_that_change_nothing_of_it_do_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = current_environment(CPU)
    monkeypatch.setenv(name, "somewhere else")
    assert current_environment(CPU).digest == before.digest


def test_determinism_changes_the_digest() -> None:
    before = current_environment(CPU)
    torch.use_deterministic_algorithms(True)
    try:
        assert current_environment(CPU).differences(before) == ["deterministic: False → True"]
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_tells_its_name_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda package: f"{package} 3.5")
    fields = current_environment(GPU).fields
    assert fields["warm_calls"] is True
    assert {name: fields[name] for name in VERSION_FIELDS} == {
        "gpu": "NVIDIA H200",
        "capability": "9.0",
        "cuda": "13.0",
        "triton": "triton 3.5",
    }


@pytest.mark.usefixtures("gpu")
def test_a_gpu_tells_which_flags_of_its_libraries_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("benchmark", "deterministic"):
        monkeypatch.setattr(torch.backends.cudnn, name, False)
    assert current_environment(GPU).fields["backend_flags"] is None
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr("pytest_nnopt.torch_backend.facts._FLAGS", {**facts._FLAGS, "no.such.flag": True})
    assert current_environment(GPU).fields["backend_flags"] == "cudnn.benchmark=True"


@pytest.mark.usefixtures("gpu")
def test_a_package_that_is_not_installed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert current_environment(GPU).fields["triton"] is None


def test_processes_contend_for_the_host_or_for_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_key(CPU) == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-1234"))
    assert device_key(GPU) == "GPU-1234"
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace())
    assert device_key(GPU) == "cuda-0"


@pytest.mark.gpu
def test_a_real_gpu_tells_its_set_up() -> None:
    fields = current_environment(GPU).fields
    told = ("gpu", "capability", "cuda", "cudnn", "driver", "power_limit_watts")
    assert [name for name in told if fields[name] is None] == []
    assert fields["backend_flags"] is None
    torch.backends.cudnn.benchmark = True
    try:
        assert current_environment(GPU).fields["backend_flags"] == "cudnn.benchmark=True"
    finally:
        torch.backends.cudnn.benchmark = False
