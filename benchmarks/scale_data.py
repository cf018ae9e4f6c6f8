"""What ``benchmarks.scale`` fills stores with, and the process in which it times the gate."""

from __future__ import annotations

import json
import math
import random
import resource
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_nnopt.baseline.level import level_of
from pytest_nnopt.baseline.schema import (
    CaseBaseline,
    CompileRecord,
    Evidence,
    LeafRecord,
    MemoryRecord,
    OriginRecord,
    ProcessRecord,
    RatioRecord,
    Recording,
    WorkRecord,
)
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.environment import Environment
from pytest_nnopt.history.names import case_folder, entry_name, month_of
from pytest_nnopt.history.schema import Entry, Label
from pytest_nnopt.model import CompileAttempt, CompileFacts, CompileStatus, Outcome
from pytest_nnopt.results import speedup_of

if TYPE_CHECKING:
    from pytest_nnopt.session.gate import Gate

HERE = Environment({"device": "cpu", "cpu": "AMD EPYC", "cores": 2, "threads": 2, "torch": "2.13.0"})
START = datetime(2025, 1, 1, tzinfo=timezone.utc)
WRITTEN = "tests/test_writers.py::test_many"
_TESTS_OF_A_FILE = 100
_STEP = math.log(1.05)
_AT_ONCE = 10_000


def case_id(number: int) -> str:
    """Return the id of one of many cases."""
    return f"tests/test_{number // _TESTS_OF_A_FILE}.py::test_case[{number % _TESTS_OF_A_FILE}]"


def make_process(generator: random.Random, log_ratio: float = -0.5) -> ProcessRecord:
    """Make what one process measured, with two percent of noise."""
    found = generator.gauss(log_ratio, 0.02)
    ratio = RatioRecord(log_ratio=found, variance=1e-6, blocks=40, drift=0.001)
    return ProcessRecord(
        seconds={"reference": 1e-3, "candidate": 1e-3 * math.exp(found), "yardstick": 5e-4},
        candidate_to_reference=ratio,
        candidate_to_yardstick=ratio,
        warmup_seconds=0.25,
        is_steady=True,
    )


def make_evidence(generator: random.Random, processes: int = 10) -> Evidence:
    """Make everything that a baseline holds."""
    leaf = LeafRecord(
        dtype="float32",
        shape=(64, 128),
        candidate_nrmse=1e-7,
        candidate_max=1e-6,
        reference_nrmse=1e-7,
        reference_max=1e-6,
        norm=1.0,
        sample=tuple(generator.gauss(0, 1) for _ in range(8)),
    )
    return Evidence(
        timing=tuple(make_process(generator) for _ in range(processes)),
        numerics={"output": leaf},
        origin=OriginRecord(inputs="0" * 8, parameters="0" * 8, structure="0" * 8),
        compile=CompileRecord(
            status="compiled",
            graphs=1,
            graph_breaks=0,
            recompiles=0,
            eager_frames=0,
            kernels={"cpp_fused_relu_0": 1},
            counters={"generated_kernels": 4, "guards": 30},
        ),
        memory=MemoryRecord(candidate_peak_bytes=2**20, reference_peak_bytes=2**21),
        work=WorkRecord(operators={"aten.addmm": 2, "aten.relu": 1}, elements=12345),
    )


def fill_baselines(root: Path, cases: int) -> None:
    """Write the baselines of many cases, as the store writes one, but without waiting for the disk each time."""
    generator, store = random.Random(0), BaselineStore(root)
    for number in range(cases):
        recording = Recording(recorded=START, environment=HERE.digest, evidence=make_evidence(generator))
        baseline = CaseBaseline(case=case_id(number), recordings=(recording,))
        if number == 0:
            store.write(HERE, baseline)
        path = store.path(HERE.name, baseline.case)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = baseline.model_dump(mode="json", by_alias=True)
        path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def update_one_case(store: BaselineStore) -> None:
    """Record another level of one case."""
    recording = Recording(recorded=START, environment=HERE.digest, evidence=make_evidence(random.Random(1)))
    store.write(HERE, CaseBaseline(case=case_id(7), recordings=(recording,)))


def make_entry(case: str, number: int, *, run: str, processes: int = 1, log_ratio: float = -0.5) -> Entry:
    """Make what a run adds to a history, so many hours after the first."""
    return Entry(
        run=run,
        case=case,
        recorded=START + timedelta(hours=number),
        revision=f"{number:012x}",
        branch="main",
        environment=HERE.digest,
        fields=dict(HERE.fields),
        outcome=Outcome.PASSED,
        has_passed=True,
        evidence=Evidence(timing=tuple(make_process(random.Random(number), log_ratio) for _ in range(processes))),
    )


def fill_history(url: str, points: int, points_of_a_case: int) -> None:
    """Fill a history by its own layout, in bulk: the course of every case has a step of five percent in its middle."""
    scheme, _, place = url.partition("://")
    if scheme == "file":
        _fill_folder(Path(place) / "v1", _histories(points, points_of_a_case))
    else:
        _fill_database(url, _histories(points, points_of_a_case))


def _histories(points: int, points_of_a_case: int) -> Iterator[tuple[Label, str]]:
    """Yield labels and texts; between cases, ids alone differ."""
    made = []
    for number in range(points_of_a_case):
        log_ratio = -0.5 if number < points_of_a_case // 2 else -0.5 + _STEP
        entry = make_entry("CASE", number, run="0" * 16, log_ratio=log_ratio)
        made.append((Label.of(entry), entry.to_text()))
    for index in range(points // points_of_a_case):
        case = case_id(index)
        for label, text in made:
            run = secrets.token_hex(8)
            yield replace(label, case=case, run=run), text.replace('"CASE"', f'"{case}"').replace("0" * 16, run)


def _fill_folder(root: Path, entries: Iterator[tuple[Label, str]]) -> None:
    known: set[Path] = set()
    for label, text in entries:
        folder = root / case_folder(label.case) / month_of(label)
        if folder not in known:
            folder.mkdir(parents=True)
            known.add(folder)
        (folder / entry_name(label)).write_text(text, encoding="utf-8")


def _fill_database(url: str, entries: Iterator[tuple[Label, str]]) -> None:
    from pytest_nnopt.history import database

    store = database.DatabaseHistory(url, timeout_seconds=600)
    store._create_tables()
    seen: set[str] = set()
    while some := list(islice(entries, _AT_ONCE)):
        cases, rows = [], []
        for label, text in some:
            key = database._case_key(label.case)
            if key not in seen:
                seen.add(key)
                cases.append({"case_key": key, "case_id": label.case})
            values = {name: getattr(label, name) for name in database._LABEL_COLUMNS}
            values["recorded"] = label.recorded.replace(tzinfo=None)
            rows.append({**values, "case_key": key, "branch": "main", "outcome": "passed", "entry": text})
        with store._engine.begin() as connection:
            if cases:
                connection.execute(database.CASES.insert(), cases)
            connection.execute(database.ENTRIES.insert(), rows)


def fill_pytest_benchmark(folder: Path, cases: int) -> None:
    """Write two runs of pytest-benchmark's with as many benchmarks."""
    for number in (1, 2):
        path = folder / "machine" / f"{number:04}_run.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_benchmark_run(cases)), encoding="utf-8")


def save_one_run(folder: Path, cases: int) -> None:
    """Save a run as pytest-benchmark does."""
    save_to_pytest_benchmark(folder, "again", _benchmark_run(cases))


def save_to_pytest_benchmark(folder: Path, name: str, values: dict[str, Any] | None = None) -> None:
    """Save a run in pytest-benchmark's storage by its own code."""
    from pytest_benchmark.logger import Logger
    from pytest_benchmark.storage.file import FileStorage

    storage = FileStorage(str(folder), Logger(Logger.QUIET), default_machine_id="machine")
    storage.save(values or _benchmark_run(1), name)


def _benchmark_run(cases: int) -> dict[str, Any]:
    return {
        "machine_info": {},
        "commit_info": {},
        "datetime": START.isoformat(),
        "version": "5.0.0",
        "benchmarks": [_benchmark(number) for number in range(cases)],
    }


def _benchmark(number: int) -> dict[str, Any]:
    names = ("min", "max", "mean", "stddev", "median", "iqr", "q1", "q3", "ld15iqr", "hd15iqr", "ops", "total")
    stats = dict.fromkeys(names, 0.001 + number * 1e-09)
    return {
        "group": None,
        "name": case_id(number).rpartition("::")[2],
        "fullname": case_id(number),
        "params": None,
        "param": None,
        "extra_info": {},
        "options": {},
        "stats": {**stats, "rounds": 10, "iterations": 1, "outliers": "0;0", "iqr_outliers": 0, "stddev_outliers": 0},
    }


_SNAPSHOT_TEST = """
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_case(number, snapshot):
    values = {{f"process {{index}}": {{"log_ratio": -0.5 + number * 1e-4, "variance": 1e-6}} for index in range(10)}}
    assert values == snapshot
"""


def fill_syrupy(folder: Path, cases: int) -> None:
    """Write tests with a snapshot for each case."""
    folder.mkdir(parents=True)
    for number in range(cases // _TESTS_OF_A_FILE):
        text = _SNAPSHOT_TEST.format(count=_TESTS_OF_A_FILE)
        (folder / f"test_{number}.py").write_text(text, encoding="utf-8")


def change_one_snapshot(folder: Path) -> None:
    """Let one case have another value."""
    path = folder / "test_0.py"
    text = path.read_text(encoding="utf-8").replace("number * 1e-4", "number * 1e-4 + (number == 7)")
    path.write_text(text, encoding="utf-8")


def time_gate(root: Path, cases: int) -> dict[str, tuple[float, float, int]]:
    """Read and compare all baselines; return wall and CPU seconds from the start of reading, and the peak of memory."""
    from pytest_nnopt.session.gate import open_gate

    ids = [case_id(number) for number in range(cases)]
    evidence = make_evidence(random.Random(2), processes=2)
    gate = open_gate(root, {}, "compare")
    start = _now()
    gate.prepare({test_id: {} for test_id in ids})
    read = _now()
    assert len(_changes(gate.store, ids, evidence)) == cases
    compared = _now()
    _judge(gate, ids, evidence)
    judged = _now()
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    reading, comparing, judging = _since(start, read), _since(read, compared), _since(compared, judged)
    return {
        "read": (*reading, peak_bytes),
        "compared": (reading[0] + comparing[0], reading[1] + comparing[1], peak_bytes),
        "judged": (reading[0] + judging[0], reading[1] + judging[1], peak_bytes),
    }


def _changes(store: BaselineStore, ids: Sequence[str], evidence: Evidence) -> list[float]:
    now, changes = speedup_of(evidence.timing), []
    assert now is not None
    for test_id in ids:
        baseline = store.read(HERE.name, test_id)
        level = level_of(() if baseline is None else baseline.recordings)
        before = None if level is None else speedup_of(level.timing)
        assert before is not None
        changes.append(now / before - 1)
    return changes


def _judge(gate: Gate, ids: Sequence[str], evidence: Evidence) -> None:
    from pytest_nnopt.verdict import Observed, judge

    compiled = CompileFacts(
        CompileStatus.COMPILED,
        (CompileAttempt("default mode"),),
        graphs=1,
        graph_breaks=(),
        recompiles=(),
        eager_frames=0,
    )
    observed = Observed(compiled, timing=evidence.timing, memory=evidence.memory)
    for test_id in ids:
        assert judge(gate.question(test_id, test_id, HERE), observed).checks


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return end[0] - start[0], end[1] - start[1]


if __name__ == "__main__":
    print(json.dumps(time_gate(Path(sys.argv[2]), int(sys.argv[3]))))
