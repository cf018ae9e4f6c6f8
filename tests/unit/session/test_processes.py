from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_nnopt import affinity
from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session.processes import Deadlines, Launch, MeasuringProcess, measure_in_turns, without_paths
from pytest_nnopt.torch_backend import isolation
from tests.builders import make_process

SAMPLE = make_process(0.1)
SHORT = Deadlines(ready_seconds=0.5, sample_seconds=0.5)
LONG = Deadlines(ready_seconds=20, sample_seconds=20)

HERE = Environment({"device": "cpu", "threads": 2})
PREAMBLE = """\
import json, os, socket, subprocess, sys, time
print("hello from the worker", flush=True)
line = socket.socket(fileno=int(sys.argv[1]))
lines = line.makefile("rb")
def say(**message):
    line.sendall(json.dumps(message).encode() + b"\\n")
def hear():
    text = lines.readline()
    return json.loads(text) if text else None
"""
READY = 'say(type="ready", environment={"device": "cpu", "threads": 2})\n'
ANSWER = f"""\
while (message := hear()) is not None and message["type"] == "measure":
    print("seed", message["seed"], flush=True)
    say(type="sample", process={SAMPLE.model_dump(mode="json")!r})
"""
WORK_IN_TURNS = f"""\
assert hear() == {{"type": "measure", "seed": 7, "takes_turns": True}}
say(type="turn")
for block in range(BLOCKS):
    hear()
    with open("order", "a") as order:
        order.write(NAME)
    if block + 1 < BLOCKS:
        say(type="turn")
say(type="sample", process={SAMPLE.model_dump(mode="json")!r})
hear()
"""
WAIT = "hear()\n"
CLOSE = "lines.close(); line.close()\n"
HANG = "time.sleep(60)\n"


@dataclass(frozen=True)
class StandIn(Launch):
    """Starts a small script in place of a pytest run."""

    script: str = ""

    def command(self, test_id: str, descriptor: int) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", PREAMBLE + self.script, str(descriptor)]


@dataclass
class Starter:
    """Starts stand-ins and remembers their process ids."""

    directory: Path
    running: list[MeasuringProcess]
    pids: list[int]

    def __call__(self, *script: str, deadlines: Deadlines = LONG) -> MeasuringProcess:
        process = MeasuringProcess(StandIn((), self.directory, script="".join(script)), "test", deadlines=deadlines)
        self.running.append(process)
        return process


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starter]:
    """Start stand-ins, and see in the end that none stays behind."""
    starter = Starter(tmp_path, [], [])
    popen = subprocess.Popen

    def remembering(*args: object, **kwargs: object) -> object:
        process = popen(*args, **kwargs)  # type: ignore[call-overload]  # handed through as they are
        starter.pids.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", remembering)
    yield starter
    for process in starter.running:
        process.stop()
    assert starter.pids
    assert not [pid for pid in starter.pids if is_running(pid, patience_seconds=1.0)]


def is_running(pid: int, *, patience_seconds: float = 0.0) -> bool:
    """Whether a process is alive; one that was killed may need a moment to go."""
    deadline = time.monotonic() + patience_seconds
    while is_alive(pid):
        if time.monotonic() >= deadline:
            return True
        time.sleep(0.01)
    return False


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_worker_measures_on_command(start: Starter) -> None:
    process = start(READY, ANSWER)
    process.wait_until_ready(HERE)
    assert [process.measure(seed) for seed in (1, 2)] == [SAMPLE, SAMPLE]


def test_a_worker_enters_its_test_once(start: Starter) -> None:
    process = start("assert hear() == {'type': 'enter', 'case_id': 'test#a'}\n", READY, ANSWER)
    for _ in range(2):
        process.enter("test#a")
    process.wait_until_ready(HERE)
    assert process.measure(1) == SAMPLE


def test_a_worker_that_has_ended_is_not_alive_and_tells_why_when_it_is_awaited(start: Starter) -> None:
    process = start("hear()\nsys.exit(3)\n", deadlines=LONG)
    assert process.is_alive
    process.enter("test")
    with pytest.raises(MeasurementError, match="ended with status 3"):
        process.wait_until_ready(HERE)
    assert not process.is_alive
    process.enter("test")


def test_an_interrupt_does_not_wait_for_what_a_worker_does(start: Starter) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), start(HANG):
        raise KeyboardInterrupt
    assert time.monotonic() - began < LONG.stop_seconds


def test_two_workers_measure_in_turn(start: Starter) -> None:
    first, second = (
        start(f"NAME, BLOCKS = {name!r}, {blocks}\n", WORK_IN_TURNS) for name, blocks in (("a", 2), ("b", 4))
    )
    assert measure_in_turns((first, second), 7) == (SAMPLE, SAMPLE)
    assert (start.directory / "order").read_text() == "ababbb"


def test_a_worker_that_dies_in_its_turn_is_named(start: Starter) -> None:
    process = start("hear()\nsay(type='turn')\nhear()\nsys.exit(6)")
    with pytest.raises(MeasurementError, match="ended with status 6 while measuring"):
        measure_in_turns([process], 7)


def test_a_paused_worker_does_nothing_until_it_goes_on(start: Starter) -> None:
    process = start(WAIT + READY + ANSWER)
    process.pause()
    process.build(Path("cache"))
    wait_for_state(start.pids[0], "T")
    process.resume()
    process.wait_until_ready(HERE)
    assert process.measure(7) == SAMPLE


def wait_for_state(pid: int, state: str) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        time.sleep(0.01)


def test_a_worker_that_has_died_cannot_be_paused_and_harms_nothing(start: Starter) -> None:
    process = start("")
    wait_for_state(start.pids[0], "Z")
    process.pause()
    process.resume()


def test_a_worker_in_another_environment_is_refused(start: Starter) -> None:
    process = start(READY, ANSWER)
    with pytest.raises(MeasurementError, match=r"sees another environment than this run \(threads: 1 → 2\)"):
        process.wait_until_ready(Environment({"device": "cpu", "threads": 1}))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('print("trouble"); sys.exit(3)', "a measuring process ended with status 3 while getting ready"),
        ("os.abort()", "a measuring process was killed by SIGABRT while getting ready"),
        ('say(type="refused", reason="no such case")\n' + WAIT, "a measuring process refused: no such case"),
        ('say(type="stop")\n' + WAIT, "a measuring process answered 'stop' while getting ready"),
        ('say(type="dance")\n' + WAIT, "a measuring process hung while getting ready: not a message"),
    ],
)
def test_a_worker_that_does_not_get_ready_is_an_error_with_its_output(
    start: Starter, script: str, message: str
) -> None:
    with pytest.raises(MeasurementError) as caught:
        start(script).wait_until_ready(HERE)
    assert str(caught.value).startswith(message)
    assert "its last output:\nhello from the worker" in str(caught.value)


def test_a_worker_that_dies_is_noticed_although_what_it_started_holds_the_line(start: Starter) -> None:
    script = "child = os.fork()\nif not child:\n    time.sleep(60)\nos.kill(os.getpid(), 9)\n"
    began = time.monotonic()
    with pytest.raises(MeasurementError, match="was killed by SIGKILL"):
        start(script).wait_until_ready(HERE)
    assert time.monotonic() - began < 30


def test_a_worker_whose_test_hands_over_no_case_is_said_to(start: Starter) -> None:
    with pytest.raises(MeasurementError, match="ended with status 0 while getting ready, before its test handed over"):
        start("sys.exit(0)").wait_until_ready(HERE)


def test_one_that_ends_in_the_midst_of_measuring_is_not_said_to_have_no_case(start: Starter) -> None:
    process = start(READY, "hear()\nsys.exit(0)\n")
    process.wait_until_ready(HERE)
    with pytest.raises(MeasurementError, match="ended with status 0 while measuring; its last output"):
        process.measure(seed=1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind threads")
def test_a_worker_may_run_on_all_cores_also_where_openmp_has_bound_the_thread_that_starts_it(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere = os.sched_getaffinity(0)
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    monkeypatch.setattr(affinity, "_AT_FIRST", frozenset(everywhere))
    os.sched_setaffinity(0, {min(everywhere)})
    try:
        process = start("say(type='refused', reason=str(len(os.sched_getaffinity(0))))\n", WAIT)
        assert os.sched_getaffinity(0) == {min(everywhere)}
    finally:
        os.sched_setaffinity(0, everywhere)
    with pytest.raises(MeasurementError, match=f"refused: {len(everywhere)}"):
        process.wait_until_ready(HERE)


def test_of_a_line_without_end_its_beginning_is_shown(start: Starter) -> None:
    with pytest.raises(MeasurementError) as caught:
        start('print("x" * 1_000_000); sys.exit(1)').wait_until_ready(HERE)
    assert str(caught.value).splitlines()[-1] == "x" * 500 + "…"


def test_a_worker_that_hangs_before_it_is_ready_is_ended(start: Starter) -> None:
    with pytest.raises(MeasurementError, match="a measuring process hung while getting ready: no answer within"):
        start(HANG, deadlines=SHORT).wait_until_ready(HERE)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("hear()\nsys.exit(5)", "ended with status 5 while measuring"),
        ('hear()\nline.sendall(b\'{"type": "sam\')\nsys.exit(6)', "ended with status 6 while measuring"),
        ('hear()\nsay(type="refused", reason="out of memory")\n' + WAIT, "refused: out of memory"),
        (
            'hear()\nsay(type="ready", environment={"device": "cpu", "threads": 2})\n' + WAIT,
            "answered 'ready' while measuring",
        ),
    ],
)
def test_a_worker_that_fails_to_measure_is_an_error_with_its_output(start: Starter, script: str, message: str) -> None:
    process = start(READY, script)
    process.wait_until_ready(HERE)
    with pytest.raises(MeasurementError, match=f"a measuring process {message}; its last output:\nhello from the"):
        process.measure(seed=1)


def test_a_worker_that_hangs_while_measuring_is_ended(start: Starter) -> None:
    process = start(READY, HANG, deadlines=Deadlines(ready_seconds=20, sample_seconds=0.2))
    process.wait_until_ready(HERE)
    with pytest.raises(MeasurementError, match="a measuring process hung while measuring"):
        process.measure(seed=1)


def test_a_worker_that_has_died_cannot_be_asked(start: Starter) -> None:
    process = start(READY, "sys.exit(4)")
    process.wait_until_ready(HERE)
    assert not is_running(start.pids[0], patience_seconds=20)
    message = "a measuring process ended with status 4 while measuring; its last output:\nhello from the worker"
    with pytest.raises(MeasurementError, match=message):
        process.measure(seed=1)


@pytest.mark.parametrize("script", [CLOSE + HANG, READY + CLOSE + HANG], ids=["before it is ready", "when measuring"])
def test_a_worker_that_closes_its_line_and_stays_alive_is_ended(start: Starter, script: str) -> None:
    process = start(script, deadlines=Deadlines(ready_seconds=20, sample_seconds=20, stop_seconds=0.2))

    def use() -> None:
        process.wait_until_ready(HERE)
        process.measure(seed=1)

    with pytest.raises(MeasurementError, match=r"closed its end of the line while .*, but stayed alive") as caught:
        use()
    assert str(caught.value).endswith("its last output:\nhello from the worker")
    assert not is_running(start.pids[0])


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_worker_that_cannot_be_started_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(MeasurementError, match=r"a measuring process cannot be started: .*No such file or directory"):
        MeasuringProcess(StandIn((), tmp_path / "missing"), "test")
    assert open_files() <= before


def test_only_the_end_of_the_output_is_shown(start: Starter) -> None:
    script = 'print(*range(1000), sep="\\n"); sys.stderr.write("last\\n"); sys.exit(1)'
    with pytest.raises(MeasurementError) as caught:
        start(script).wait_until_ready(HERE)
    lines = str(caught.value).splitlines()
    assert len(lines) == 16
    assert "999" in lines
    assert "0" not in lines


def test_output_that_is_no_text_is_shown_as_far_as_it_is(start: Starter) -> None:
    with pytest.raises(MeasurementError, match="caf\N{REPLACEMENT CHARACTER}"):
        start(r'os.write(1, b"caf\xff\n"); sys.exit(1)').wait_until_ready(HERE)


def test_what_a_failing_worker_has_started_ends_with_it(start: Starter) -> None:
    script = 'child = subprocess.Popen(["sleep", "60"])\nsay(type="refused", reason=str(child.pid))\n'
    with pytest.raises(MeasurementError, match="refused: ") as caught:
        start(script, HANG).wait_until_ready(HERE)
    start.pids.append(int(str(caught.value).partition("refused: ")[2].partition(";")[0]))


def test_stopping_ends_a_worker_that_waits(start: Starter) -> None:
    process = start(READY, ANSWER)
    process.wait_until_ready(HERE)
    process.stop()
    assert not is_running(start.pids[0])


def test_stopping_ends_what_a_worker_has_left_behind(start: Starter, tmp_path: Path) -> None:
    child = 'child = subprocess.Popen(["sleep", "60"])\nopen("child", "w").write(str(child.pid))\n'
    process = start(child, READY, ANSWER)
    process.wait_until_ready(HERE)
    start.pids.append(int((tmp_path / "child").read_text()))
    assert is_running(start.pids[-1])
    process.stop()
    assert not is_running(start.pids[-1], patience_seconds=1.0)


def test_a_worker_that_does_not_end_when_told_to_is_ended(start: Starter) -> None:
    process = start(READY, HANG, deadlines=Deadlines(ready_seconds=20, stop_seconds=0.2))
    process.wait_until_ready(HERE)
    process.stop()
    assert not is_running(start.pids[0])


def test_a_worker_builds_where_it_is_told_to(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "known_instruction_sets", lambda: ("avx2",))
    told = {"type": "build", "cache_dir": "/cache", "instruction_sets": ["avx2"]}
    process = start(f"assert hear() == {told}\n", READY, ANSWER)
    process.build(Path("/cache"))
    process.wait_until_ready(HERE)


def test_a_worker_that_died_before_it_was_told_to_build_says_what_it_last_said(start: Starter) -> None:
    process = start("sys.exit(3)")
    with pytest.raises(MeasurementError, match=r"ended with status 3 while getting ready; its last output:\nhello"):
        build_until_it_fails(process)


def build_until_it_fails(process: MeasuringProcess) -> None:
    for _ in range(1000):
        process.build(Path("/cache"))
        time.sleep(0.01)


def test_a_command_runs_one_test_alone_with_this_runs_options(tmp_path: Path) -> None:
    launch = Launch(("-q", "--rootdir=/project"), tmp_path)
    command = launch.command("test_a.py::test[-x]", 7)
    assert command[:5] == [sys.executable, "-m", "pytest", "-q", "--rootdir=/project"]
    assert command[-4:] == [
        "--nnopt-worker=7",
        "--nnopt-worker-test=test_a.py::test[-x]",
        "--",
        "test_a.py::test[-x]",
    ]


def test_each_process_has_temporary_files_of_its_own(tmp_path: Path) -> None:
    launch = Launch((), tmp_path, prefix="/project/", scratch=tmp_path)
    (first, *_), (second, *_) = ([one for one in launch.selecting("a.py::t") if "basetemp" in one] for _ in range(2))
    assert first != second
    assert first.startswith(f"--basetemp={tmp_path}/")
    assert launch.selecting("a.py::t")[-1] == "/project/a.py::t"


def test_a_file_whose_name_pytest_would_open_for_arguments_is_named_by_its_folder(tmp_path: Path) -> None:
    assert Launch((), tmp_path).command("@a.py::test", 7)[-1] == "./@a.py::test"


@pytest.mark.parametrize(
    ("arguments", "paths", "left"),
    [
        (["-q", "tests", "-x"], ["tests"], ("-q", "-x")),
        (["tests", "-k", "tests"], ["tests"], ("-k", "tests")),
        (["-k", "a.py", "--lf", "a.py"], ["a.py"], ("-k", "a.py", "--lf")),
        (["-q", "a.py", "-k", "a.py"], ["a.py"], ("-q", "-k", "a.py")),
        (["--tb=short", "a.py", "-m", "a.py"], ["a.py"], ("--tb=short", "-m", "a.py")),
        (["-v", "a.py", "-k", "a.py", "b.py"], ["a.py", "b.py"], ("-v", "-k", "a.py")),
        (["-k", "a.py", "b.py", "a.py"], ["b.py", "a.py"], ("-k", "a.py")),
        (["-k", "a.py", "--", "a.py"], ["a.py"], ("-k", "a.py")),
        (["a.py", "a.py"], ["a.py", "a.py"], ()),
        (["-q"], [], ("-q",)),
        (["-q"], ["testpaths"], ("-q",)),
        (["-q", "--", "a.py", "-x"], ["a.py", "-x"], ("-q",)),
        (["@more.txt", "-v"], ["a.py"], ("-q", "-x", "-v")),
        (["@more.txt"], ["@more.txt"], ()),
        (["-k", "@property"], [], ("-k", "@property")),
    ],
)
def test_test_paths_are_taken_out_of_a_command_line(
    arguments: list[str], paths: list[str], left: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "more.txt").write_text("-q\na.py\n-x\n")
    assert without_paths(arguments, paths, tmp_path) == left
