"""How many threads torch computes with while a case is built and measured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from pytest_nnopt.measurement.machine import HostProbe


def default_threads() -> int:
    """Return half of the usable cores, or of those that a container's quota is worth, at least one.

    A team of threads waits for its slowest member. With a thread on every core, whatever else runs on the machine holds
    up every parallel region, and a call of 10 ms takes 100.
    """
    reading = HostProbe().read()
    return max(1, int(min(reading.usable_cores, reading.quota_cores or reading.usable_cores)) // 2)


def current_threads() -> int:
    """Return how many threads torch computes with now."""
    return torch.get_num_threads()


@contextlib.contextmanager
def thread_count(count: int | None) -> Iterator[None]:
    """Compute with ``count`` threads inside; None is ``default_threads``.

    Compiled code keeps the number of threads it was compiled with, so compiling belongs inside, too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(default_threads() if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
