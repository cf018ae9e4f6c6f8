"""Starts the ranks of a case by torch's own elastic launcher, and writes down how they ended.

Run as ``python -m pytest_nnopt.torch_backend.launch RANKS DIRECTORY ARGUMENTS...``: each rank is a Python with these
arguments. What the ranks print goes to files below the directory.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

FAILURES = "failures.json"
_POLL_SECONDS = 0.1
_SHOWN_LINES = 15


def launch(ranks: int, directory: Path, arguments: list[str]) -> int:
    """Run the ranks to their end and return 0 where all of them ended well.

    Where one did not, the launcher ends the others, and ``FAILURES`` in the directory says which it was.
    """
    logs = directory / "logs"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        role="rank",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=_POLL_SECONDS,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=Std.ALL),
    )
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as error:
        failures = [_describe(rank, failure, logs) for rank, failure in error.failures.items()]
        failures.sort(key=lambda failure: (failure["status"] >= 0, failure["at"], failure["rank"]))
        (directory / FAILURES).write_text(json.dumps(failures), encoding="utf-8")
        return 1
    return 0


def _describe(rank: int, failure: Any, logs: Path) -> dict[str, Any]:
    """Return what is known of a rank that failed: a rank killed by a signal said nothing itself."""
    said = failure.error_file_data.get("message", {}) if isinstance(failure.error_file_data, dict) else {}
    files = sorted(path for path in logs.rglob("*.log") if path.parent.name == str(failure.local_rank))
    lines = [line for path in files for line in path.read_text(errors="replace").splitlines()]
    return {
        "rank": rank,
        "status": failure.exitcode,
        "message": said.get("message") if isinstance(said, dict) else None,
        "at": failure.timestamp,
        "output": lines[-_SHOWN_LINES:],
    }


if __name__ == "__main__":
    _, count, place, *rest = sys.argv
    sys.exit(launch(int(count), Path(place), rest))
