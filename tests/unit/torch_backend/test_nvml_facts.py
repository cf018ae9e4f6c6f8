from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.torch_backend.nvml_facts import gpu_settings

UNKNOWN = {"driver": None, "mig": None, "power_limit_watts": None, "application_clocks": None}


class FakeNvml:
    """A driver with one GPU; what is named in ``refused`` it does not tell."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def __init__(self, *refused: str) -> None:
        self.refused = refused

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self.refused:
            return self._refuse
        return object.__getattribute__(self, name)

    def _refuse(self, *arguments: object) -> None:
        raise FakeNvml.NVMLError("Not Supported")

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        assert uuid == "GPU-12"
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        raise FakeNvml.NVMLError("Invalid Argument")

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.65"

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        return [0, 0]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 700_000

    def nvmlDeviceGetApplicationsClock(self, handle: str, kind: int) -> int:
        return {1: 1980, 2: 3201}[kind]


@pytest.mark.parametrize("uuid", ["12", "GPU-12"])
def test_a_gpu_tells_how_it_is_set_up(uuid: str) -> None:
    assert gpu_settings(uuid, load=FakeNvml) == {
        "driver": "580.65",
        "mig": False,
        "power_limit_watts": 700,
        "application_clocks": "1980/3201 MHz",
    }


def test_what_the_driver_refuses_to_tell_is_unknown() -> None:
    refusing = FakeNvml("nvmlDeviceGetMigMode", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetApplicationsClock")
    assert gpu_settings("12", load=lambda: refusing) == {**UNKNOWN, "driver": "580.65"}


class PartitionedNvml(FakeNvml):
    """A driver with a GPU that is partitioned; its settings are known of the whole alone."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "MIG-7":
            raise FakeNvml.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        return f"whole of {handle}"

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        assert handle == "whole of MIG-7"
        return [1, 1]


@pytest.mark.parametrize("uuid", ["7", "MIG-7"])
def test_a_partition_tells_the_settings_of_its_gpu(uuid: str) -> None:
    settings = gpu_settings(uuid, load=PartitionedNvml)
    assert (settings["mig"], settings["power_limit_watts"]) == (True, 700)


def missing() -> None:
    raise ImportError("no pynvml")


@pytest.mark.parametrize(
    ("uuid", "load"),
    [
        (None, FakeNvml),
        ("12", missing),
        ("12", lambda: FakeNvml("nvmlInit")),
        ("12", lambda: FakeNvml("nvmlDeviceGetHandleByUUID")),
    ],
)
def test_without_nvml_nothing_is_known(uuid: str | None, load: Any) -> None:
    assert gpu_settings(uuid, load=load) == UNKNOWN
