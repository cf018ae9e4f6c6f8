"""What every test may use."""

from __future__ import annotations

import gc
import signal

import hypothesis
import pytest

pytest_plugins = ["pytester"]

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Let what tests start be interrupted also where this run was started in the background, which is not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of the garbage collector's sight.

    Every run of pytest inside of a test and every measurement collects garbage, which with all of torch on the heap
    takes longer than most tests.
    """
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where torch sees none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU, and torch sees none")
