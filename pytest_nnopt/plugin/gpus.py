"""One GPU for each worker of pytest-xdist, before anything is imported in it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.gpus import ALL, VISIBLE, usable_gpus
from pytest_nnopt.plugin.run import ARGUMENTS, CROWDED


class Mapping:
    """Hooks of xdist's controller.

    The GPU is part of what a worker is started with, so that one that takes the place of a crashed worker has the same,
    and measuring processes inherit it.
    """

    def __init__(self) -> None:
        self._crowded: str | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        """Give each worker on this host a GPU of its own; where there are too few, all see what they saw."""
        workers = [spec for spec in specs if spec.popen]
        gpus = usable_gpus() if workers else []
        if not gpus:
            return
        if len(workers) > len(gpus):
            self._crowded = crowded_message(len(workers), gpus)
            return
        device = config.option.nnopt_device
        if device is not None and device.startswith("cuda:") and device != "cuda:0":
            self._crowded = (
                f"--nnopt-device={device} names one GPU, and each worker of pytest-xdist has one of its own, which it "
                "calls cuda:0; say --nnopt-device=cuda"
            )
        for spec, gpu in zip(workers, gpus, strict=False):
            spec.env.update({VISIBLE: gpu, ALL: ",".join(gpus)})

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker how this run was started, and whether it has no GPU of its own."""
        node.workerinput[ARGUMENTS] = [str(argument) for argument in node.config.invocation_params.args]
        if self._crowded is not None:
            node.workerinput[CROWDED] = self._crowded


def crowded_message(workers: int, gpus: list[str]) -> str:
    """Say why cases cannot run on a GPU."""
    gpu = "1 GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
    return (
        f"{workers} workers of pytest-xdist would share {gpu} ({', '.join(gpus)}): each needs one of its own; "
        f"run with -n{len(gpus)}, or the cases on the CPU with --nnopt-device=cpu"
    )
