"""What importing and building a second revision did to the process: state that both would share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
import torch._dynamo
import torch._inductor.config
from torch._library import custom_ops

_READERS: Mapping[str, Callable[[], object]] = {
    "torch.get_default_dtype()": torch.get_default_dtype,
    "torch.get_default_device()": lambda: (
        str(torch.get_default_device()) if hasattr(torch, "get_default_device") else ""
    ),
    "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision,
    "torch.are_deterministic_algorithms_enabled()": torch.are_deterministic_algorithms_enabled,
    "torch.get_num_threads()": torch.get_num_threads,
    "torch.is_grad_enabled()": torch.is_grad_enabled,
    "torch.backends.cudnn.benchmark": lambda: torch.backends.cudnn.benchmark,
    "torch.backends.mkldnn.enabled": lambda: torch.backends.mkldnn.enabled,
}
"""Settings of the whole process that decide what a model computes or how fast."""

_PATCHABLE = (
    torch,
    torch.Tensor,
    torch.nn,
    torch.nn.functional,
    torch.nn.Module,
    torch.nn.init,
    torch.fft,
    torch.linalg,
)


@dataclass(frozen=True)
class ProcessState:
    """What of a process two revisions would share.

    Attributes:
        operators: custom operators by qualified name.
        settings: process-wide settings by how they are read.
    """

    operators: Mapping[str, object]
    settings: Mapping[str, object]

    @classmethod
    def read(cls) -> ProcessState:
        """Read the state of this process."""
        operators = dict(getattr(custom_ops, "OPDEFS", {}))
        settings = {name: read() for name, read in _READERS.items()}
        return cls(operators, {**settings, **_configs()})

    def conflicts(self, later: ProcessState) -> list[str]:
        """Say what the second revision changed that the first one uses, too."""
        replaced = [
            f"the custom operator {name} is registered by both"
            for name, operator in sorted(self.operators.items())
            if name in later.operators and later.operators[name] is not operator
        ]
        names = sorted(name for name in {**self.settings, **later.settings} if not _is_same(self, later, name))
        return replaced + [
            f"{name} is {later.settings.get(name, 'the default')!r} in the base and "
            f"{self.settings.get(name, 'the default')!r} in the head"
            for name in names
        ]


def find_patches(is_project_file: Callable[[str], bool]) -> list[str]:
    """Name what the project has replaced in torch by code of its own, which then serves both revisions.

    Args:
        is_project_file: whether a source file belongs to either revision.
    """
    patched = []
    owners: tuple[type | ModuleType, ...] = (*_PATCHABLE, *_layer_classes())
    for owner in owners:
        for name, value in list(vars(owner).items()):
            if inspect.isfunction(value) and is_project_file(value.__code__.co_filename):
                where = f"{value.__code__.co_filename}:{value.__code__.co_firstlineno}"
                patched.append(f"{owner.__name__}.{name} is replaced by {where}")
    return patched


def _layer_classes() -> list[type]:
    return [value for value in vars(torch.nn).values() if inspect.isclass(value)]


def _configs() -> dict[str, object]:
    """Return the compiler's settings; values that cannot be compared are left out."""
    found: dict[str, object] = {}
    for config in (torch._dynamo.config, torch._inductor.config):
        copied = config.get_config_copy() if hasattr(config, "get_config_copy") else config.shallow_copy_dict()
        simple = {name: value for name, value in copied.items() if isinstance(value, (bool, int, float, str))}
        found |= {f"{config.__name__}.{name}": value for name, value in simple.items()}
    return found


def _is_same(one: ProcessState, other: ProcessState, name: str) -> bool:
    return bool(one.settings.get(name) == other.settings.get(name))
