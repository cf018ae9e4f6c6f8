"""One process of an A/A run: identical code on both sides, timed as a measuring process times a case.

Started as ``python -m pytest_nnopt.session.identical``; it prints one JSON object.
"""

from __future__ import annotations

import subprocess
import sys

from pydantic import ValidationError

from pytest_nnopt.baseline.schema import ProcessRecord, Record
from pytest_nnopt.environment import FieldValue
from pytest_nnopt.errors import MeasurementError

_PROCESS_SECONDS = 300.0
_LAST_LINES = 10


class IdenticalRun(Record):
    """What one process of an A/A run found.

    Attributes:
        environment: fingerprint of the process.
        process: times of both sides; candidate and reference are the same code.
        gpu: what the driver tells of the GPU; empty on a CPU.
    """

    environment: dict[str, FieldValue]
    process: ProcessRecord
    gpu: dict[str, int | None]


def run_identical(seed: int, device: str | None) -> IdenticalRun:
    """Measure identical code in a fresh process.

    Args:
        seed: draws the order of the blocks.
        device: where to measure; None is the GPU where there is one.

    Raises:
        MeasurementError: the process fails; its last words are in the message.
    """
    command = [sys.executable, "-m", "pytest_nnopt.session.identical", str(seed), *([] if device is None else [device])]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROCESS_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(
            f"the A/A run took more than {_PROCESS_SECONDS:.0f} s; another process may be timing, or the machine hangs"
        ) from None
    try:
        return IdenticalRun.model_validate_json(done.stdout)
    except ValidationError:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
        raise MeasurementError(f"the A/A run failed with status {done.returncode}:\n{said}") from None


def measure_identical(seed: int, device: str | None) -> IdenticalRun:
    """Measure identical code in this process; arguments as of ``run_identical``."""
    from pytest_nnopt.config import LimitsConfig
    from pytest_nnopt.measurement.allocator import keep_freed_memory
    from pytest_nnopt.measurement.engine import Plan
    from pytest_nnopt.measurement.exclusive import exclusive
    from pytest_nnopt.session.records import record_process
    from pytest_nnopt.torch_backend.facts import current_environment, device_key
    from pytest_nnopt.torch_backend.identical import as_device, identical_sides
    from pytest_nnopt.torch_backend.nvml import gpu_facts
    from pytest_nnopt.torch_backend.threads import thread_count
    from pytest_nnopt.torch_backend.timing import time_sides

    keep_freed_memory()
    place = as_device(device)
    with thread_count(None):
        reference, candidate = identical_sides(place)
        with exclusive(device_key(place)):
            limit = LimitsConfig().latency_on(place.type)
            timed = time_sides([reference], [candidate], place, Plan(seed=seed), limit=limit)
        fields = dict(current_environment(place).fields)
        return IdenticalRun(environment=fields, process=record_process(timed), gpu=gpu_facts(place))


if __name__ == "__main__":
    _, seed, *rest = sys.argv
    sys.stdout.write(measure_identical(int(seed), rest[0] if rest else None).model_dump_json())
