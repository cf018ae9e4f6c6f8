"""Which planted faults the timing gate alone sees at 5 %, and which the counters see: real runs of the plugin.

    python benchmarks/planted_faults.py                       # everything, and the table
    python benchmarks/planted_faults.py --state DIR --side timing print item    # these; the table of what DIR has
    python benchmarks/planted_faults.py --device cuda

A healthy model's baseline is recorded in a project of its own (``tests/integration/planted_model.py``). Then each fault
is planted and the same test is run twice against that baseline: once with the timing gate alone, by the options
``--nnopt-only=latency --nnopt-effect=5%``, and once with the noise-free checks, ``--nnopt-only=compile,memory``. A
fault is seen where the run fails. The table goes to ``benchmarks/results/planted_faults.md``, or that of
``planted_faults_cuda.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "tests" / "integration" / "planted_model.py"
RESULTS = ROOT / "benchmarks" / "results"
SIDES = {
    "timing": ("--nnopt-only=latency", "--nnopt-effect=5%", "--nnopt-budget=20s"),
    "noise_free": ("--nnopt-only=compile,memory",),
}
"""The two ways of looking, with their options."""

FAULTS = {
    "healthy": "none",
    "print": "`print` in `forward`",
    "logging": "logging in `forward`",
    "item": "`.item()`",
    "branch": "a branch on a tensor's value",
    "counter": "a counter on the model that a guard reads",
    "batch": "two further batch sizes",
    "static": "`dynamic=False` and four further batch sizes",
    "storm": "`dynamic=False` and twelve: past the recompile limit",
    "unfusable": "an operation that does not fuse",
    "activation": "a larger activation",
    "mutation": "an input written to under `reduce-overhead`",
    "suppress_errors": "`suppress_errors` and a compiler that fails",
    "TORCHDYNAMO_DISABLE": "`TORCHDYNAMO_DISABLE=1`",
}
ON_GPU_ALONE = ("mutation",)


def main() -> int:
    """Run what is asked for, and write the table of everything in the state directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", choices=[[], *FAULTS], help="default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", choices=SIDES, help="default: both")
    parser.add_argument("--state", type=Path, help="keep project, baseline and results there, for several calls")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nnopt-planted-") as scratch:
        project = Project(arguments.state or Path(scratch), arguments.device)
        for fault in arguments.faults or FAULTS:
            if fault not in ON_GPU_ALONE or arguments.device != "cpu":
                project.plant(fault, [arguments.side] if arguments.side else SIDES)
        found = project.found()
    text = describe(found, arguments.device)
    name = (
        "planted_faults.md" if arguments.device == "cpu" else f"planted_faults_{arguments.device.partition(':')[0]}.md"
    )
    (RESULTS / name).write_text(text, encoding="utf-8")
    print(text)
    return 0


class Project:
    """A user's project with the planted model, its baseline, and what was found so far."""

    def __init__(self, directory: Path, device: str) -> None:
        self.directory = directory.resolve()
        self.device = device
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODEL, self.directory / "test_planted.py")
        (self.directory / "pytest.ini").write_text("[pytest]\n")

    def plant(self, fault: str, sides: Iterable[str]) -> None:
        """Run the test with a fault and keep its checks."""
        if not (self.directory / "baselines").exists():
            recorded = self.run("healthy", "--nnopt-update", f"--nnopt-device={self.device}")
            print("recorded", self.checks(recorded))
        for side in sides:
            checks = self.checks(self.run(fault, "--nnopt-baseline", *SIDES[side]))
            if side == "timing":
                checks = [check for check in checks if check["name"] == "latency"]  # not those that nobody asked for
            print(fault, side, outcome_of(checks))
            (self.directory / f"{fault}.{side}.json").write_text(json.dumps(checks))

    def run(self, fault: str, *options: str) -> Path:
        """Run pytest and return its results file."""
        results = self.directory / "results.json"
        results.unlink(missing_ok=True)
        planted = {"TORCHDYNAMO_DISABLE": "1"} if fault == "TORCHDYNAMO_DISABLE" else {"PLANTED": fault}
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        settings = {
            "PLANTED_BACKEND": "inductor",
            "PLANTED_DEVICE": self.device,
            "PYTHONPATH": os.pathsep.join(paths),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, f"--nnopt-json={results}"]
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**os.environ, **settings, **planted},
            capture_output=True,
            text=True,
            check=False,
        )
        if not results.exists():
            raise RuntimeError(f"{fault}: pytest ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return results

    @staticmethod
    def checks(results: Path) -> list[dict[str, Any]]:
        """Return the checks of the one case."""
        (case,) = json.loads(results.read_text())["cases"]
        checks: list[dict[str, Any]] = case["checks"]
        return checks

    def found(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Return everything found so far, in the order of the faults."""
        files = {fault: {side: self.directory / f"{fault}.{side}.json" for side in SIDES} for fault in FAULTS}
        found = {
            fault: {side: json.loads(file.read_text()) for side, file in sides.items() if file.exists()}
            for fault, sides in files.items()
        }
        return {fault: sides for fault, sides in found.items() if sides}


def describe(found: dict[str, dict[str, list[dict[str, Any]]]], device: str) -> str:
    """Return the page."""
    import torch

    planted = {fault: sides for fault, sides in found.items() if fault != "healthy"}
    runs = {side: [sides[side] for sides in planted.values() if side in sides] for side in SIDES}
    timing, noise_free = (f"{sum(map(is_seen, runs[side]))} of {len(runs[side])}" for side in SIDES)
    return "\n".join(
        [
            "# Planted faults",
            "",
            f"Made by `python benchmarks/planted_faults.py`: torch {torch.__version__}, {name_of(device)}.",
            "",
            f"The timing gate alone sees {timing} planted faults at 5 %, the noise-free checks {noise_free}.",
            "",
            "| fault | timing gate alone, 5 % | latency against the baseline | counters and memory | what they say |",
            "|---|---|---|---|---|",
            *(format_row(fault, checks) for fault, checks in found.items()),
            "",
        ]
    )


def name_of(device: str) -> str:
    """Return the device in words."""
    import torch

    return f"CPU, {os.cpu_count()} cores" if device == "cpu" else torch.cuda.get_device_name(device)


def is_seen(checks: list[dict[str, Any]]) -> bool:
    """Whether one of the checks failed."""
    return any(check["outcome"] == "failed" for check in checks)


def format_row(fault: str, found: dict[str, list[dict[str, Any]]]) -> str:
    """Return a table row: the outcomes of both runs, and what was measured."""
    noise_free = found.get("noise_free", [])
    said = [line for check in noise_free if check["outcome"] == "failed" for line in problems(check)]
    outcomes = [outcome_of(found.get(side)) for side in SIDES]
    cells = (FAULTS[fault], outcomes[0], latency_of(found.get("timing", [])), outcomes[1], "; ".join(said) or "nothing")
    return f"| {' | '.join(cells)} |"


def latency_of(checks: list[dict[str, Any]]) -> str:
    """Return the change of latency with its interval."""
    measured = next((check for check in checks if check["value"] is not None), None)
    if measured is None:
        return "not measured"
    change, interval = f"{100 * measured['value']:+.1f} %", measured["interval"]
    if interval is None:
        return change
    return f"{change} [{100 * interval['low']:+.1f} %, {100 * interval['high']:+.1f} %]"


def outcome_of(checks: list[dict[str, Any]] | None) -> str:
    """Say ``**seen**``, or how the run ended instead."""
    if checks is None:
        return "not run"
    if is_seen(checks):
        return "**seen**"
    other = {check["outcome"] for check in checks} & {"inconclusive", "no_baseline"}
    return " and ".join(sorted(other)).replace("_", " ") or "not seen"


def problems(check: dict[str, Any]) -> list[str]:
    """Return what a failed check found wrong, without places and advice."""
    return [check["reason"], *(line for line in check["details"] if ", the baseline has " in line)]


if __name__ == "__main__":
    sys.exit(main())
