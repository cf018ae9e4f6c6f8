"""Which cores may be used, also where OpenMP has bound the thread that loaded it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_nnopt import affinity
from pytest_nnopt.affinity import usable_cores

BOUND = """\
import os
import pytest_nnopt.affinity
import torch
torch.ones(100_000).sum()
print(len(os.sched_getaffinity(0)), len(pytest_nnopt.affinity.usable_cores()))
"""


@pytest.mark.parametrize(
    ("name", "value", "is_bound"),
    [
        ("OMP_PROC_BIND", "true", True),
        ("OMP_PROC_BIND", "close", True),
        ("OMP_PROC_BIND", "FALSE", False),
        ("OMP_PROC_BIND", "", False),
        ("KMP_AFFINITY", "disabled", False),
        ("GOMP_CPU_AFFINITY", "0-3", True),
    ],
)
def test_a_thread_that_openmp_may_have_bound_says_nothing_of_the_process(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, is_bound: bool
) -> None:
    for other in affinity._BINDING:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(affinity, "_AT_FIRST", frozenset({0, 1, 2, 3}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert usable_cores() == ({0, 1, 2, 3} if is_bound else {0})


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell")
def test_what_openmp_does_to_the_first_thread_is_not_taken_for_the_machine() -> None:
    environment = {**os.environ, "OMP_PROC_BIND": "true"}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", BOUND], env=environment, capture_output=True, text=True, check=True)
    bound, usable = map(int, done.stdout.split())
    assert bound <= usable == len(os.sched_getaffinity(0))
