"""What a plugin adds to a pytest run that uses none of it: pytest-nnopt beside its peers.

Run ``python benchmarks/startup.py``; it writes ``benchmarks/results/startup.md``.

One trivial test runs in a fresh process, once with every installed plugin blocked and once with each contender let
through, in an order drawn anew for every round. A plugin's cost is the difference from the bare run of the same round,
so that a machine that slows down for a while slows both sides. CPU time stands beside wall time: other processes
disturb it less.

Plugins are blocked rather than named by ``-p NAME``, because that makes pytest search the metadata of every installed
distribution once more. Users of an installed plugin do not pay for that search.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, distribution, entry_points, version
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track

from pytest_nnopt.units import format_seconds

RESULT = Path(__file__).parent / "results" / "startup.md"
PLUGIN = "pytest-nnopt"
PEERS = ("pytest-benchmark", "syrupy", "pytest-torch")
HEAVY = ("torch", "numpy", "scipy", "pydantic")
LIMIT_SECONDS = 0.020
CONFIDENCE = 0.95

ASK_FOR_MODULES = f"""\
import json, pathlib, sys, pytest
status = pytest.main(sys.argv[2:])
heavy = [name for name in {HEAVY!r} if name in sys.modules]
pathlib.Path(sys.argv[1]).write_text(json.dumps({{"count": len(sys.modules), "heavy": heavy}}))
sys.exit(status)
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """A pytest run with the plugins of one distribution, or of none.

    Attributes:
        name: distribution and version, as the table shows them.
        plugins: the names of its entry points.
    """

    name: str
    plugins: frozenset[str] = frozenset()

    @property
    def arguments(self) -> list[str]:
        """Arguments for pytest."""
        blocked = entry_points(group="pytest11").names - self.plugins
        return ["-q", *(f"-pno:{name}" for name in sorted(blocked))]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took, or took more than another."""

    wall_seconds: float
    cpu_seconds: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall_seconds - other.wall_seconds, self.cpu_seconds - other.cpu_seconds)


@dataclass(frozen=True, slots=True)
class Modules:
    """What a run had imported at its end.

    Attributes:
        count: all modules.
        heavy: those packages of ``HEAVY`` that are among them.
    """

    count: int
    heavy: tuple[str, ...]


BARE = Contender("no plugin")


def find_contenders() -> list[Contender]:
    """Return this plugin and those of its peers that are installed."""
    contenders = []
    for name in (PLUGIN, *PEERS):
        try:
            plugins = distribution(name).entry_points.select(group="pytest11").names
        except PackageNotFoundError:
            continue
        contenders.append(Contender(f"{name} {version(name)}", frozenset(plugins)))
    return contenders


@contextmanager
def trivial_project() -> Iterator[Path]:
    """Yield a folder with one test that passes and a configuration of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (folder / "test_trivial.py").write_text("def test_trivial():\n    assert True\n", encoding="utf-8")
        yield folder


def run_python(arguments: Sequence[str], folder: Path) -> None:
    """Run this Python in ``folder`` and keep its bytecode there: compiling a plugin would cost more than loading it.

    Raises:
        SystemExit: the run failed, and so says nothing about its cost.
    """
    own = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": "", "PYTEST_ADDOPTS": ""}
    inherited = {key: value for key, value in os.environ.items() if key != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
    finished = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=inherited | own, capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        raise SystemExit(f"python {' '.join(arguments)} failed:\n{finished.stdout}{finished.stderr}")


def measure_cost(contender: Contender, folder: Path) -> Cost:
    """Return what one run of the trivial test takes."""
    cpu_before, before = children_cpu_seconds(), time.perf_counter()
    run_python(["-m", "pytest", *contender.arguments], folder)
    return Cost(time.perf_counter() - before, children_cpu_seconds() - cpu_before)


def children_cpu_seconds() -> float:
    """Return the CPU time of all finished child processes together."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def count_modules(contender: Contender, folder: Path) -> Modules:
    """Return what one run of the trivial test has imported at its end."""
    answer = folder / "modules.json"
    run_python(["-c", ASK_FOR_MODULES, str(answer), *contender.arguments], folder)
    modules = json.loads(answer.read_text(encoding="utf-8"))
    return Modules(modules["count"], tuple(modules["heavy"]))


def measure_added(contenders: Sequence[Contender], rounds: int, folder: Path) -> dict[Contender, list[Cost]]:
    """Return what each contender added to the bare run, one figure a round."""
    added: dict[Contender, list[Cost]] = {contender: [] for contender in contenders}
    for _ in track(range(rounds), "measuring", console=Console(stderr=True)):
        order = random.sample([BARE, *contenders], k=len(contenders) + 1)
        costs = {contender: measure_cost(contender, folder) for contender in order}
        for contender, differences in added.items():
            differences.append(costs[contender] - costs[BARE])
    return added


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval that holds the median with at least ``CONFIDENCE``, whatever the distribution.

    Its ends are the order statistics beyond which a fair coin seldom falls (Conover, Practical Nonparametric
    Statistics, 3rd edition, section 3.2). Fewer than six values give their whole range, which promises less.
    """
    ordered, tail, cut = sorted(values), 0.0, 0
    while cut < len(ordered) // 2:
        tail += math.comb(len(ordered), cut) / 2 ** len(ordered)
        if tail > (1 - CONFIDENCE) / 2:
            break
        cut += 1
    lowest = max(cut - 1, 0)
    return ordered[lowest], ordered[-1 - lowest]


def format_added(seconds: Sequence[float]) -> str:
    """Return the median with its interval."""
    low, high = median_interval(seconds)
    return f"{format_seconds(median(seconds))} ({format_seconds(low)} to {format_seconds(high)})"


def format_report(
    added: dict[Contender, list[Cost]], modules: dict[Contender, Modules], rounds: int, load: float
) -> str:
    """Return the whole page in Markdown."""
    rows = [
        f"| {contender.name} | {format_added([cost.wall_seconds for cost in costs])} "
        f"| {format_added([cost.cpu_seconds for cost in costs])} "
        f"| {modules[contender].count - modules[BARE].count} | {', '.join(modules[contender].heavy) or 'none'} |"
        for contender, costs in added.items()
    ]
    lines = [
        "# Cost of a plugin that is loaded and not used",
        "",
        f"Made by `python benchmarks/startup.py --rounds {rounds}` on {datetime.now(timezone.utc):%Y-%m-%d}: "
        f"Python {platform.python_version()}, pytest {version('pytest')}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{rounds} rounds in random order, load average {load:.1f} at the start.",
        "",
        "A run of one trivial test with the plugin, less the bare run of the same round: "
        f"median and {CONFIDENCE:.0%} interval of the median. "
        f"{PLUGIN} may add {format_seconds(LIMIT_SECONDS)} of wall time and none of the packages in the last column.",
        "",
        f"| plugin | wall time added | CPU time added | modules added | of {', '.join(HEAVY)} |",
        "|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def find_faults(costs: Sequence[Cost], modules: Modules) -> list[str]:
    """Return what this plugin promises and does not keep."""
    faults = []
    if modules.heavy:
        faults.append(f"{PLUGIN} imports {', '.join(modules.heavy)} into a run that does not use it")
    low, _ = median_interval([cost.wall_seconds for cost in costs])
    if low > LIMIT_SECONDS:
        faults.append(f"{PLUGIN} adds at least {format_seconds(low)}, limit {format_seconds(LIMIT_SECONDS)}")
    return faults


def main() -> None:
    """Measure, print and write the page.

    Raises:
        SystemExit: this plugin costs more than it promises.
    """
    parser = argparse.ArgumentParser(description="Measure what a plugin adds to a pytest run that uses none of it.")
    parser.add_argument("--rounds", type=int, default=40, help="runs of each plugin (default: %(default)s)")
    rounds = parser.parse_args().rounds
    load = os.getloadavg()[0]
    contenders = find_contenders()
    with trivial_project() as folder:
        # These runs come first because they also leave the bytecode that the timed ones find.
        modules = {contender: count_modules(contender, folder) for contender in (BARE, *contenders)}
        added = measure_added(contenders, rounds, folder)
    report = format_report(added, modules, rounds, load)
    print(report)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report, encoding="utf-8")
    faults = find_faults(added[contenders[0]], modules[contenders[0]])
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
