"""The ranks of one case: processes of one process group that build, run and time a model together."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from pytest_nnopt.measurement.family import end_with_parent

_ValueT = TypeVar("_ValueT")

_LONGEST_SILENCE = timedelta(hours=12)
"""How long ranks wait for the one that gathers times from other processes."""


@dataclass(frozen=True)
class Team:
    """All ranks of a case, seen from one of them. Every method is called by all of them, in the same order.

    Attributes:
        rank: this process's number.
        size: how many there are.
        group: a process group of the plugin's own: what it says there neither mixes with the model's communication nor
            uses a GPU.
    """

    rank: int
    size: int
    group: Any

    @property
    def is_lead(self) -> bool:
        """Whether this rank talks to the run that started the team."""
        return self.rank == 0

    def gather(self, value: _ValueT) -> list[_ValueT]:
        """Return every rank's value, in the order of ranks."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def by_lead(self, work: Callable[[], _ValueT]) -> _ValueT:
        """Let rank 0 do something while the others wait, and return what it came to."""
        values: list[Any] = [work() if self.is_lead else None]
        dist.broadcast_object_list(values, src=0, group=self.group)
        result: _ValueT = values[0]
        return result

    def largest(self, value: float) -> float:
        """Return the largest of all ranks' values."""
        values = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.group)
        return float(values)

    def meet(self) -> None:
        """Wait for all ranks."""
        dist.barrier(group=self.group)


def join_team(backend: str | None, timeout_seconds: float) -> Team:
    """Make this process a rank: it was started by the elastic launcher, and ends when the launcher does.

    Args:
        backend: of ``torch.distributed``; None takes gloo for tensors on the CPU and nccl for those on a GPU.
        timeout_seconds: how long the model's own communication may wait for another rank.
    """
    end_with_parent()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks are on this host, whose name need not resolve
    ranks = int(os.environ["LOCAL_WORLD_SIZE"])
    if torch.cuda.is_available() and torch.cuda.device_count() >= ranks:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
    group = dist.new_group(backend="gloo", timeout=_LONGEST_SILENCE)
    return Team(dist.get_rank(), dist.get_world_size(), group)


def report_failure(text: str, variables: Mapping[str, str] = os.environ) -> None:
    """Leave word for the launcher why this rank fails, in the form of ``torch.distributed.elastic``'s error files."""
    place = variables.get("TORCHELASTIC_ERROR_FILE")
    if place is not None and not Path(place).exists():
        said = {"message": {"message": text, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with contextlib.suppress(OSError):  # then the launcher tells of its exit status and its output
            Path(place).write_text(json.dumps(said), encoding="utf-8")
