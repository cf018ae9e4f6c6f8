"""An empty compiler for every test, and one cache directory for those that need real kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from pytest_nnopt.torch_backend.isolation import isolated_compilation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def inductor_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inductor")


@pytest.fixture
def compiler(inductor_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Isolate the test's compilation; kernels that another test built are reused."""
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    with isolated_compilation(cache_dir=inductor_cache):
        yield
