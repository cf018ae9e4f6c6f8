"""How a GPU is set up, as NVML tells: driver, partition, power limit and application clocks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_nnopt.environment import FieldValue


def gpu_settings(
    uuid: object, *, load: Callable[[], Any] = lambda: importlib.import_module("pynvml")
) -> dict[str, FieldValue]:
    """Return the settings of a GPU that times depend on; None is what cannot be told, all of them without NVML.

    Args:
        uuid: the GPU's identity as torch tells it; None where torch does not.
        load: returns the module ``pynvml``.
    """
    unknown: dict[str, FieldValue] = dict.fromkeys(("driver", "mig", "power_limit_watts", "application_clocks"))
    if uuid is None:
        return unknown
    try:
        nvml = load()
    except ImportError:
        return unknown
    try:
        nvml.nvmlInit()
        handle = handle_of(nvml, uuid)
    except nvml.NVMLError:
        return unknown
    whole = _answer(nvml, lambda: nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle))
    ask = _asking(nvml, handle if whole is None else whole)
    watts = ask("nvmlDeviceGetEnforcedPowerLimit")
    clocks = [ask("nvmlDeviceGetApplicationsClock", kind) for kind in (nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM)]
    mig = ask("nvmlDeviceGetMigMode")
    return {
        "driver": _text(_answer(nvml, nvml.nvmlSystemGetDriverVersion)),
        "mig": None if mig is None else bool(mig[0]),
        "power_limit_watts": None if watts is None else round(watts / 1000),
        "application_clocks": None if None in clocks else f"{clocks[0]}/{clocks[1]} MHz",
    }


def handle_of(nvml: Any, uuid: object) -> Any:
    """Return NVML's handle of a GPU, or of a partition of one; torch tells their identities without saying of which.

    Raises:
        NVMLError: NVML knows neither.
    """
    identity = str(uuid)
    if identity.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(identity)
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{identity}")


def _asking(nvml: Any, handle: Any) -> Callable[..., Any]:
    def ask(function: str, *arguments: Any) -> Any:
        return _answer(nvml, lambda: getattr(nvml, function)(handle, *arguments))

    return ask


def _answer(nvml: Any, question: Callable[[], Any]) -> Any:
    """Return what NVML answers, None where it refuses."""
    try:
        return question()
    except nvml.NVMLError:
        return None


def _text(value: Any) -> str | None:
    """Return NVML's text, which older versions give as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
