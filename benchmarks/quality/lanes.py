"""Where processes measure: a GPU, or a few cores each, side by side on one host."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Lane:
    """A place where one process at a time measures.

    Attributes:
        device: ``cpu``, or ``cuda:N`` as the caller counts its GPUs.
        cores: the cores that its processes may use; empty for all.
    """

    device: str
    cores: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Lane:
        """Read ``cpu``, ``cpu@4-5`` or ``cuda:1@0-7``."""
        device, _, cores = text.partition("@")
        first, _, last = cores.partition("-")
        return cls(device, tuple(range(int(first), int(last or first) + 1)) if cores else ())

    @property
    def is_gpu(self) -> bool:
        """Whether models run on a GPU."""
        return self.device != "cpu"

    @property
    def torch_device(self) -> torch.device:
        """The device as the lane's own processes name it."""
        return torch.device("cuda" if self.is_gpu else "cpu")

    def environment(self) -> dict[str, str]:
        """Return the environment of the lane's processes, in which its GPU is the only one."""
        if not self.is_gpu:
            return dict(os.environ)
        index = int(self.device.partition(":")[2] or 0)
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        return {**os.environ, "CUDA_VISIBLE_DEVICES": visible[index] if visible else str(index)}

    def enter(self) -> None:
        """Stay on the lane's cores from now on, and with all that is started."""
        if self.cores:
            os.sched_setaffinity(0, self.cores)

    @contextlib.contextmanager
    def busy_neighbour(self) -> Iterator[None]:
        """Keep the lane's last core busy with matrix products inside the body."""
        pin = f"import os\nos.sched_setaffinity(0, {{{self.cores[-1]}}})\n" if self.cores else ""
        script = f"{pin}import torch\ntorch.set_num_threads(1)\na = torch.ones(512, 512)\nwhile True: a @ a"
        process = subprocess.Popen([sys.executable, "-c", script])
        try:
            yield
        finally:
            process.kill()
            process.wait()
