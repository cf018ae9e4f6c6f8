"""What happens at scale: ten thousand baselines, a million points of history, 64 writers at once; beside the peers.

Run ``python -m benchmarks.scale``; it writes ``benchmarks/results/scale.md``. It needs the extras ``sql`` and ``s3``,
moto, PostgreSQL's server and, for its rows, syrupy (``--syrupy FOLDER`` names where it was installed apart, since every
other pytest run would load it). ``--share 0.01`` makes everything a hundredth as large, to see that it works.

Every figure is that of a fresh process, memory at its peak. CPU time stands beside wall time, since other processes
disturb it less.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks import scale_data as data
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.history.schema import Selection
from pytest_nnopt.history.store import open_history
from pytest_nnopt.units import format_bytes, format_seconds
from tests.servers import find_postgresql, postgresql_server, s3_server

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "scale.md"
CASES = 10_000
POINTS_OF_A_CASE = 1_000
POINTS = 1_000_000
CALLS = 5
WRITERS = 64
WRITES = 10_000
WRITES_OF_THE_PEER = 1_000
"""Its storage lists all of its files to number a new one, so that ten thousand take an hour."""

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended.

    Attributes:
        seconds: wall time from start to end.
        cpu_seconds: time that it computed.
        peak_bytes: the most memory it had.
        output: what it printed.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the page.

    Attributes:
        title: its heading; sections are told apart by the first word.
        note: what was asked for, and how it was done.
        head: names of the columns.
        rows: the figures.
    """

    title: str
    note: str
    head: Row
    rows: Sequence[Row]

    @property
    def text(self) -> str:
        """What stands below the heading."""
        when = datetime.now(timezone.utc).date().isoformat()
        lines = [
            "",
            f"{self.note} Made on {when}, load average {os.getloadavg()[0]:.1f} at the end.",
            "",
            f"| {' | '.join(self.head)} |",
            "|" + "---|" * len(self.head),
            *(f"| {' | '.join(row)} |" for row in self.rows),
        ]
        return "\n".join(lines)


_LAUNCHER = """\
import json, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.call(sys.argv[2:])
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([status, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024], file)
"""
"""Starts a process from a small one: Linux takes the memory of the one that starts it for its own peak."""


def run(*command: str, cwd: Path = ROOT, paths: Sequence[Path] = ()) -> Ended:
    """Run a process to its end.

    Raises:
        RuntimeError: it failed.
    """
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths)))}
    with tempfile.NamedTemporaryFile("r") as figures:
        launched = (sys.executable, "-I", "-S", "-c", _LAUNCHER, figures.name, *command)
        done = subprocess.run(
            launched, cwd=cwd, env=variables, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        status, seconds, cpu_seconds, peak_bytes = json.load(figures)
    if status != 0:
        raise RuntimeError(f"{command!r} failed:\n{done.stdout[-2000:]}")
    return Ended(seconds, cpu_seconds, peak_bytes, done.stdout)


def read_and_compare(folder: Path, cases: int, peer_paths: Sequence[Path]) -> list[Row]:
    """Time the reading of all baselines and a full verdict on each case, and what the peers do in their place."""
    _tell("baselines")
    data.fill_baselines(folder / "project" / "baselines", cases)
    ours = run(sys.executable, "-m", "benchmarks.scale_data", "gate", str(folder / "project"), str(cases))
    parts = json.loads(ours.output.splitlines()[-1])
    names = {
        "read": "pytest-nnopt: read and validate all",
        "compared": "pytest-nnopt: the same, and each compared by ratio",
        "judged": "pytest-nnopt: the same, with the gate's question and verdict on each",
    }
    rows: list[Row] = [(what, *_figures(*parts[name])) for name, what in names.items()]
    _tell("peers")
    data.fill_pytest_benchmark(folder / "storage", cases)
    call = ("-c", "from pytest_benchmark.cli import main; main()")
    command = (*call, "--storage", f"file://{folder}/storage", "compare", "--columns=median")
    peer = run(sys.executable, *command, cwd=folder)
    assert data.case_id(cases - 1).rpartition("::")[2] in peer.output
    rows.append(
        ("`pytest-benchmark compare` of two runs (process)", *_figures(peer.seconds, peer.cpu_seconds, peer.peak_bytes))
    )
    if peer_paths:
        data.fill_syrupy(folder / "snapshots", cases)
        peer = _run_syrupy(folder / "snapshots", peer_paths)
        peer = _run_syrupy(folder / "snapshots", peer_paths, update=False)
        rows.append(
            ("syrupy, its snapshots asserted (process)", *_figures(peer.seconds, peer.cpu_seconds, peer.peak_bytes))
        )
    return rows


def _run_syrupy(folder: Path, paths: Sequence[Path], *, update: bool = True) -> Ended:
    options = ("--snapshot-update",) if update else ()
    plain = ("-p", "syrupy", "-p", "no:cacheprovider", "-q", "--rootdir", str(folder))
    return run(sys.executable, "-m", "pytest", *plain, *options, str(folder), cwd=folder, paths=paths)


def update_one(folder: Path, cases: int, peer_paths: Sequence[Path]) -> list[Row]:
    """Count the files and bytes that an update of one case's baseline writes."""
    rows: list[Row] = []
    _tell("update")
    project = folder / "project" / "baselines"
    with _changes_below(project) as changed:
        data.update_one_case(BaselineStore(project))
    rows.append(("pytest-nnopt", *changed()))
    with _changes_below(folder / "storage") as changed:
        data.save_one_run(folder / "storage", cases)
    rows.append(("pytest-benchmark `--benchmark-autosave` of all", *changed()))
    if peer_paths:
        data.change_one_snapshot(folder / "snapshots")
        with _changes_below(folder / "snapshots") as changed:
            _run_syrupy(folder / "snapshots", peer_paths)
        rows.append(("syrupy `--snapshot-update`", *changed()))
    return rows


@contextmanager
def _changes_below(folder: Path) -> Iterator[Callable[[], tuple[str, str]]]:
    def stamps() -> dict[Path, tuple[int, int, int]]:
        files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        found = {path: path.stat() for path in files}
        return {path: (stat.st_mtime_ns, stat.st_ino, stat.st_size) for path, stat in found.items()}

    before = stamps()

    def changed() -> tuple[str, str]:
        new = {
            path: stamp
            for path, stamp in stamps().items()
            if before.get(path) != stamp and not path.name.startswith(".")
        }
        return str(len(new)), format_bytes(sum(size for _, _, size in new.values()))

    yield changed


def ask_history(urls: dict[str, str], points: int, points_of_a_case: int) -> list[Row]:
    """Time ``nnopt history CASE`` over a history of many points."""
    rows: list[Row] = []
    for kind, url in urls.items():
        _tell(f"history {kind}")
        if kind == "s3":
            continue  # moto keeps its objects in one process's memory, and its listing is its own speed
        data.fill_history(url, points, points_of_a_case)
        call = "from pytest_nnopt.cli import program; program()"
        command = (sys.executable, "-c", call, "history", data.case_id(0), "--history", url)
        first = run(*command)
        assert "change: " in first.output, first.output
        rows.append((kind, format_seconds(first.seconds), *_median_figures(command)))
    bare = (sys.executable, "-c", "from pytest_nnopt.cli import program; program()", "config")
    rows.append(("`nnopt config`, which asks no store", "-", *_median_figures(bare)))
    return rows


def _median_figures(command: Sequence[str]) -> tuple[str, str, str]:
    """Run a command several times and return its wall time, CPU time and memory."""
    ended = [run(*command) for _ in range(CALLS)]
    return _figures(*(median(getattr(one, what) for one in ended) for what in ("seconds", "cpu_seconds", "peak_bytes")))


def _load_clients() -> None:
    """Import what the writers need before they are forked, so that they write and do not import."""
    import psycopg  # noqa: F401
    import s3fs  # type: ignore[import-untyped]  # noqa: F401

    from pytest_nnopt.history import database, objects  # noqa: F401


def write_at_once(urls: dict[str, str], folder: Path, writes: int) -> list[Row]:
    """Let many processes write one entry after the other, and count what is there in the end."""
    rows: list[Row] = []
    _load_clients()
    for kind, url in urls.items():
        _tell(f"writers {kind}")
        start = time.perf_counter()
        _in_processes(_write, url, writes // WRITERS + 1)
        seconds = time.perf_counter() - start
        wanted = (writes // WRITERS + 1) * WRITERS
        store = open_history(url, timeout_seconds=600)
        found = store.labels(data.WRITTEN, Selection(10 * wanted))
        sound = len(store.read(found[:: max(1, len(found) // 500)]))
        rows.append(
            (kind, str(wanted), str(len({label.run for label in found})), f"{wanted / seconds:.0f}", str(sound))
        )
    wanted = min(writes, WRITES_OF_THE_PEER) // WRITERS * WRITERS
    start = time.perf_counter()
    _in_processes(_write_to_peer, str(folder / "written"), wanted // WRITERS)
    seconds = time.perf_counter() - start
    found_files = len(list((folder / "written").rglob("*.json")))
    rows.append(("pytest-benchmark's storage", str(wanted), str(found_files), f"{wanted / seconds:.0f}", "-"))
    return rows


def _in_processes(target: Callable[[str, int, int], None], where: str, count: int) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=target, args=(where, number, count)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    if failed := [writer.exitcode for writer in writers if writer.exitcode]:
        raise RuntimeError(f"{len(failed)} of {WRITERS} writers failed")


def _write(url: str, writer: int, count: int) -> None:
    store = open_history(url, timeout_seconds=600)
    for number in range(count):
        store.append([data.make_entry(data.WRITTEN, writer * count + number, run=secrets.token_hex(8))])


def _write_to_peer(folder: str, writer: int, count: int) -> None:
    for number in range(count):
        data.save_to_pytest_benchmark(Path(folder), f"{writer}-{number}")


def write_report(sections: Sequence[Section]) -> None:
    """Write the page of results; sections that were not made anew stay as they are."""
    known = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", _page(), re.DOTALL | re.MULTILINE))
    for section in sections:
        made = {row[0] for row in section.rows}
        kept = [row for row in _rows_of(known.get(section.title, "")) if row[0] not in made]
        text = replace(section, rows=[*kept, *section.rows]).text
        known = {title: text for title, text in known.items() if title.split()[0] != section.title.split()[0]}
        known[section.title] = text
    head = (
        "# Scale\n\nMade by `python -m benchmarks.scale`: "
        f"Python {platform.python_version()}, pytest-benchmark {version('pytest-benchmark')}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores.\n"
    )
    page = head + "".join(f"\n## {title}\n{text.rstrip()}\n" for title, text in known.items())
    RESULT.write_text(page, encoding="utf-8")
    print(page)


def _rows_of(text: str) -> list[Row]:
    """Read the rows of a table; those of stores that were not asked for this time are kept."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def _page() -> str:
    return RESULT.read_text(encoding="utf-8") if RESULT.is_file() else ""


def _figures(seconds: float, cpu_seconds: float, peak_bytes: float) -> tuple[str, str, str]:
    return format_seconds(seconds), format_seconds(cpu_seconds), format_bytes(peak_bytes)


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, str]]:
    """Give the URL of an empty history of each kind, with its server running."""
    import boto3

    programs = find_postgresql()
    if programs is None:
        raise RuntimeError("PostgreSQL's server is not installed; apt-get install postgresql")
    with ExitStack() as stack:
        database = stack.enter_context(postgresql_server(programs))
        endpoint = stack.enter_context(s3_server())
        keys = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        os.environ.update({**keys, "AWS_DEFAULT_REGION": "us-east-1"})
        boto3.client("s3").create_bucket(Bucket="nnopt")
        yield {
            "file": f"file://{folder}/history",
            "sqlite": f"sqlite:///{folder}/history.db",
            "postgresql": database,
            "s3": "s3://nnopt/history",
        }


def _tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def baselines_sections(folder: Path, cases: int, peer_paths: Sequence[Path]) -> list[Section]:
    """Make the tables of reading and of updating baselines."""
    reading = Section(
        f"Reading {cases} baselines",
        "Files of 7 KiB with ten processes each. Asked for: read and compared within 2 s and 300 MB.",
        ("what", "wall time", "CPU time", "memory"),
        read_and_compare(folder, cases, peer_paths),
    )
    updating = Section(
        f"Updating one of {cases} cases",
        "Asked for: one file.",
        ("what", "files written", "bytes in them"),
        update_one(folder, cases, peer_paths),
    )
    return [reading, updating]


def writers_section(folder: Path, urls: dict[str, str], writes: int) -> Section:
    """Make the table of many writers."""
    return Section(
        f"Writing by {WRITERS} processes at once",
        "Each process adds one entry after the other to the same case. Asked for: nothing lost.",
        ("store", "written", "found", "writes a second", "read back and sound"),
        write_at_once(urls, folder, writes),
    )


def history_section(urls: dict[str, str], points: int) -> Section:
    """Make the table of a long history."""
    of_a_case = min(POINTS_OF_A_CASE, points)
    return Section(
        f"Asking `nnopt history CASE` of {points} points",
        f"A process from start to end, on a case with {of_a_case} points in which one change is found. Asked for: 1 s.",
        ("store", "first call", f"median of {CALLS} further", "their CPU time", "memory"),
        ask_history(urls, points, of_a_case),
    )


def main() -> None:
    """Make the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--syrupy", type=Path)
    parser.add_argument("--section", choices=("baselines", "writers", "history"), action="append")
    parser.add_argument("--store", choices=("file", "sqlite", "postgresql", "s3"), action="append")
    options = parser.parse_args()
    cases, points, writes = (max(100, round(options.share * number)) for number in (CASES, POINTS, WRITES))
    peer_paths = [] if options.syrupy is None else [options.syrupy.resolve()]
    wanted = options.section or ["baselines", "writers", "history"]
    with tempfile.TemporaryDirectory(prefix="nnopt-scale-") as name:
        folder = Path(name)
        if "baselines" in wanted:
            write_report(baselines_sections(folder, cases, peer_paths))
        if wanted == ["baselines"]:
            return
        with stores(folder) as every:
            urls = {kind: url for kind, url in every.items() if options.store is None or kind in options.store}
            if "writers" in wanted:
                write_report([writers_section(folder, urls, writes)])
            if "history" in wanted:
                write_report([history_section(urls, points)])


if __name__ == "__main__":
    main()
