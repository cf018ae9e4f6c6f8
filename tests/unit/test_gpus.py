"""Which GPUs there are is told without CUDA: by its variable, by the driver's library, or by the driver's command."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.gpus import installed_gpus, parse_listing, parse_visible, physical_name, usable_gpus

ONE, TWO = "GPU-8f3d1b1c-0000-1111-2222-333344445555", "GPU-9f3d1b1c-0000-1111-2222-333344445555"
SLICE = "MIG-41b36014-28a0-5f3e-b1a6-1f4c7cf8bd0b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("3", ["3"]),
        ("2, 0", ["2", "0"]),
        ("0,1,-1,2", ["0", "1"]),
        ("1,1,0", ["1", "0"]),
        (f"{ONE},{TWO}", [ONE, TWO]),
        (f"{SLICE},MIG-GPU-8f3d1b1c/3/0", [SLICE, "MIG-GPU-8f3d1b1c/3/0"]),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(text: str, expected: list[str]) -> None:
    assert parse_visible(text) == expected


def test_the_callers_choice_comes_before_the_driver() -> None:
    driver = [ONE, TWO].copy
    assert usable_gpus({}, driver) == [ONE, TWO]
    assert usable_gpus({"CUDA_VISIBLE_DEVICES": "1"}, driver) == ["1"]
    assert usable_gpus({"CUDA_VISIBLE_DEVICES": ""}, driver) == []


class FakeNvml:
    """Two GPUs, the second one with two of three partitions made."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, has_mig: bool = True, is_broken: bool = False) -> None:
        self._has_mig = has_mig
        self._is_broken = is_broken

    def nvmlInit(self) -> None:
        if self._is_broken:
            raise self.NVMLError

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return (ONE, TWO)[index]

    def nvmlDeviceGetUUID(self, handle: str) -> Any:
        return handle.encode() if handle == ONE else handle

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[int, int]:
        if not self._has_mig:
            raise self.NVMLError
        return (1, 1) if handle == TWO else (0, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, _: str) -> int:
        return 3

    def nvmlDeviceGetMigDeviceHandleByIndex(self, _: str, index: int) -> str:
        if index == 1:
            raise self.NVMLError
        return f"MIG-{index}"


@pytest.mark.parametrize(
    ("nvml", "expected"),
    [
        (FakeNvml(), [ONE, "MIG-0", "MIG-2"]),
        (FakeNvml(has_mig=False), [ONE, TWO]),
        (FakeNvml(is_broken=True), []),
    ],
)
def test_the_driver_tells_of_gpus_and_their_partitions(nvml: FakeNvml, expected: list[str]) -> None:
    assert installed_gpus(load=lambda: nvml) == expected


LISTING = f"""GPU 0: NVIDIA H200 (UUID: {ONE})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {TWO})
  MIG 1g.5gb      Device  0: (UUID: {SLICE})
  MIG 1g.5gb      Device  1: (UUID: MIG-2)
"""


def _missing() -> Any:
    raise ImportError


def test_without_the_library_the_drivers_command_is_asked() -> None:
    assert installed_gpus(load=_missing, list_devices=lambda: LISTING) == [ONE, SLICE, "MIG-2"]
    assert parse_listing("No devices found.\n") == []
    assert parse_listing(f"  MIG 1g.5gb Device 0: (UUID: {SLICE})\n") == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [(f"echo 'GPU 0: NVIDIA H200 (UUID: {ONE})'", [ONE]), ("echo failed; exit 9", []), (None, [])],
)
def test_the_command_may_be_missing_or_fail(
    script: str | None, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is not None:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path) if script is None else f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert installed_gpus(load=_missing) == expected


def test_a_command_that_cannot_be_run_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("neither a script nor a program")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_gpus(load=_missing) == []


@pytest.mark.parametrize(
    ("index", "visible", "expected"),
    [(0, None, "cuda-0"), (0, "3,1", "cuda-3"), (1, "3,1", "cuda-1"), (0, SLICE, SLICE), (2, "3", "cuda-2")],
)
def test_a_device_is_named_alike_whatever_a_process_sees(index: int, visible: str | None, expected: str) -> None:
    assert physical_name(index, visible) == expected
