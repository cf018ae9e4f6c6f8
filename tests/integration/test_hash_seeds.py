"""Counters are the same in processes with other hash seeds; the benchmark shows it for generated code, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "hash_seeds.py"


def test_counters_do_not_depend_on_the_hash_seed() -> None:
    command = [sys.executable, str(BENCHMARK), "--processes=2", "--backend=aot_eager", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ") and not line.startswith("| model")]
    assert len(rows) == 6
    assert all(row.endswith("| 0 |") for row in rows)
