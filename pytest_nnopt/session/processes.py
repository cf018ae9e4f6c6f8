"""Fresh measuring processes: each runs the same test in a pytest of its own and measures one case on command."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from pytest_nnopt.affinity import inherited
from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import MeasurementError, SeparationError
from pytest_nnopt.measurement.family import family_variables
from pytest_nnopt.session.protocol import (
    Build,
    Channel,
    Enter,
    Inspect,
    Inspected,
    Measure,
    Ready,
    Refused,
    Sample,
    Stop,
    Turn,
)

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord

_MessageT = TypeVar("_MessageT", Ready, Sample, Inspected, Turn)

_GETTING_READY = "getting ready"

WORKER_OPTION = "--nnopt-worker"
TEST_OPTION = "--nnopt-worker-test"
_SHOWN_OUTPUT_LINES, _SHOWN_CHARACTERS = 15, 500
_READ_OUTPUT_BYTES = 2**16

_PLACES = "--deselect", "--ignore", "--ignore-glob", "--rootdir", "--confcutdir", "--basetemp"
_TAKE_A_VALUE = "-k", "-m", "-p", "-c", "-o", "-n", "-r", "-W", *_PLACES
"""Options whose value stands in the next word, and may well be equal to a path."""


class ProcessEndedError(MeasurementError):
    """A measuring process ended by itself.

    Args:
        message: what it was doing, and its last output.
        status: its exit status, negative for a signal.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Ranks:
    """How a model is spread over processes.

    Attributes:
        count: how many ranks there are.
        backend: of ``torch.distributed``; None is that of each device.
        timeout_seconds: how long a rank may wait for another one.
    """

    count: int
    backend: str | None = None
    timeout_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a pytest that runs one test as this one would.

    Attributes:
        arguments: this run's command-line arguments without its test paths.
        directory: directory this run was started in.
        program: what Python runs.
        prefix: what stands before a test's id to make it an argument.
        ranks: how many processes run the test together; None for one that is no rank.
        scratch: where each process has a directory of its own for temporary files, in place of this run's, which pytest
            empties; None where pytest finds one.
    """

    arguments: tuple[str, ...]
    directory: Path
    program: tuple[str, ...] = ("-m", "pytest")
    prefix: str = ""
    ranks: Ranks | None = None
    scratch: Path | None = None

    def command(self, test_id: str, descriptor: int) -> list[str]:
        """Return the command of a worker; later arguments override this run's."""
        own = ["--capture=no", f"{WORKER_OPTION}={descriptor}"]
        return [sys.executable, *self.program, *self.arguments, *own, *self.selecting(test_id)]

    def selecting(self, test_id: str) -> list[str]:
        """Return the last arguments of a process: the one test that it runs, whatever paths its settings add."""
        own = [f"{TEST_OPTION}={test_id}"]
        if self.scratch is not None:
            own.append(f"--basetemp={self.scratch / uuid.uuid4().hex}")
        test = self.prefix + test_id
        return [*own, "--", f"./{test}" if test.startswith("@") else test]  # "@..." would be a file of arguments


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a worker may take, in seconds: to build and compile its case, to measure one sample, and to end."""

    ready_seconds: float = 1800.0  # the compiler may try many kernels
    sample_seconds: float = 1800.0  # others may measure on the device before
    stop_seconds: float = 20.0


class MeasuringProcess:
    """One worker from start to stop: it imports and collects by itself, the rest it does when told to.

    Args:
        launch: how to start it.
        test_id: node id of the test to run.
        variables: its environment; None gives it this process's.
        deadlines: how long it may take.

    Raises:
        MeasurementError: it cannot be started. From every method, when the worker dies, hangs or refuses; the message
            holds its last output.
        SeparationError: the worker cannot run a base beside the head.
    """

    def __init__(
        self,
        launch: Launch,
        test_id: str,
        *,
        variables: Mapping[str, str] | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._variables = variables
        self._deadlines = deadlines or Deadlines()
        with contextlib.ExitStack() as opened:
            try:
                self._output = opened.enter_context(tempfile.TemporaryFile())
                self._process, self._channel = self._open(launch, test_id, opened)
            except OSError as error:
                raise MeasurementError(f"a measuring process cannot be started: {error}") from None
            self._opened = opened.pop_all()  # closed in stop
        self._has_entered = self._is_stopped = False

    def _open(
        self, launch: Launch, test_id: str, opened: contextlib.ExitStack
    ) -> tuple[subprocess.Popen[bytes], Channel]:
        """Start the process, and return it with this end of the line; ``opened`` closes what was opened for it."""
        ours, theirs = socket.socketpair()
        opened.enter_context(ours)
        with theirs:
            command = launch.command(test_id, theirs.fileno())
            return start(command, launch.directory, theirs, self._output, self._variables), Channel(ours)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended by itself."""
        return not (self._is_stopped or self.has_ended())

    def has_ended(self) -> bool:
        """Return whether it is no more, although its end of the line may live on in what it has started."""
        return self._process.poll() is not None

    def enter(self, case_id: str) -> None:
        """Have it run its test until that hands over a case; once. Whoever awaits one that has ended learns how."""
        if not self._has_entered:
            self._has_entered = True
            with contextlib.suppress(MeasurementError):
                self._channel.send(Enter(case_id=case_id))

    def build(self, cache_dir: Path) -> None:
        """Have the case built and compiled, with compiled code kept in ``cache_dir``; does not wait for it."""
        from pytest_nnopt.torch_backend.isolation import known_instruction_sets

        message = Build(cache_dir=str(cache_dir), instruction_sets=known_instruction_sets())
        self._tell(message, _GETTING_READY)

    def wait_until_ready(self, environment: Environment) -> None:
        """Wait until the case is built and compiled, in the same environment as this run's."""
        ready = self._expect(Ready, self._deadlines.ready_seconds, _GETTING_READY)
        differences = Environment(ready.environment).differences(environment)
        if differences:
            raise self._failure(f"sees another environment than this run ({'; '.join(differences)})")

    def measure(self, seed: int) -> ProcessRecord:
        """Take one sample."""
        self._tell(Measure(seed=seed), "measuring")
        return self._expect(Sample, self._deadlines.sample_seconds, "measuring").process

    def begin(self, seed: int) -> None:
        """Have one sample taken in turns, and wait until it asks for the first."""
        self._tell(Measure(seed=seed, takes_turns=True), "measuring")
        self._expect(Turn, self._deadlines.sample_seconds, "measuring")

    def take_turn(self) -> ProcessRecord | None:
        """Let it work until its turn is over, and return the sample where that was the last one."""
        self._tell(Turn(), "measuring")
        answer = self._receive(self._deadlines.sample_seconds, "measuring")
        if isinstance(answer, Sample):
            return answer.process
        self._checked(answer, Turn, "measuring")
        return None

    def inspect(self, cache_dir: Path) -> Inspected:
        """Have everything of the case looked at but its times, or learn why its test does not hand it over."""
        with contextlib.suppress(MeasurementError):  # a worker that has said why it ended need not be alive
            self._channel.send(Inspect(cache_dir=str(cache_dir)))
        return self._expect(Inspected, self._deadlines.ready_seconds, "inspecting")

    def pause(self) -> None:
        """Have it and what it has started rest until ``resume``, whatever they do; not once it is stopped."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> MeasuringProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the process; whoever interrupts a run does not wait for what it is doing."""
        self.stop(at_once=kind is not None)

    def stop(self, *, at_once: bool = False) -> None:
        """End the process, by force if it does not end by itself or is not asked to, and what it has started.

        Once: its number may be another process's afterwards.
        """
        if self._is_stopped:
            return
        self._is_stopped = True
        with contextlib.suppress(MeasurementError):
            self._channel.send(Stop())
        self._channel.close()
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._deadlines.stop_seconds)
        self._kill()
        self._opened.close()

    def _tell(self, message: Build | Measure | Turn, doing: str) -> None:
        try:
            self._channel.send(message)
        except MeasurementError:
            raise self._ended(doing) from None

    def _expect(self, kind: type[_MessageT], timeout_seconds: float, doing: str) -> _MessageT:
        return self._checked(self._receive(timeout_seconds, doing), kind, doing)

    def _receive(self, timeout_seconds: float, doing: str) -> Any:
        try:
            return self._channel.receive(timeout_seconds=timeout_seconds, is_gone=self.has_ended)
        except MeasurementError as error:
            raise self._failure(f"hung while {doing}: {error}") from None

    def _checked(self, message: Any, kind: type[_MessageT], doing: str) -> _MessageT:
        """Return a message of the kind that must come now; the error says what came instead."""
        if isinstance(message, kind):
            return message
        if isinstance(message, Refused) and message.needs_separation:
            raise SeparationError(message.reason)
        if isinstance(message, Refused):
            raise self._failure(f"refused: {message.reason}")
        if message is None:
            raise self._ended(doing)
        raise self._failure(f"answered {message.type!r} while {doing}")

    def _ended(self, doing: str) -> MeasurementError:
        """Return the error of a worker that has closed its end of the line."""
        try:
            status = self._process.wait(self._deadlines.stop_seconds)
        except subprocess.TimeoutExpired:
            return self._failure(f"closed its end of the line while {doing}, but stayed alive")
        is_early = status == 0 and doing == _GETTING_READY
        why = ", before its test handed over the case: does it skip, or end, there?" if is_early else ""
        failure = self._failure(f"{_describe_end(status)} while {doing}{why}")
        return ProcessEndedError(str(failure), status)

    def _failure(self, what: str) -> MeasurementError:
        self._kill()
        output = self._last_output()
        said = "; its last output:" if output else "; it printed nothing"
        return MeasurementError("\n".join([f"a measuring process {what}{said}", *output]))

    def _last_output(self) -> list[str]:
        end = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, end - _READ_OUTPUT_BYTES))
        lines = self._output.read().decode(errors="replace").splitlines()[-_SHOWN_OUTPUT_LINES:]
        return [f"{line[:_SHOWN_CHARACTERS]}…" if len(line) > _SHOWN_CHARACTERS else line for line in lines]

    def _kill(self) -> None:
        """End the worker and everything it has started."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def measure_in_turns(processes: Sequence[MeasuringProcess], seed: int) -> tuple[ProcessRecord, ...]:
    """Take one sample of each process, block by block in turn; in the order given, the first has the first turn.

    Raises:
        MeasurementError: one of them dies, hangs or refuses.
    """
    for process in processes:
        process.begin(seed)
    records: dict[int, ProcessRecord] = {}
    while len(records) < len(processes):
        for place, process in enumerate(processes):
            record = None if place in records else process.take_turn()
            if record is not None:
                records[place] = record
    return tuple(records[place] for place in range(len(processes)))


def _describe_end(status: int) -> str:
    """Say how a process ended, by its exit status."""
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    memory = ", as the system does when memory runs out," if -status == signal.SIGKILL else ""
    return f"was killed by {name}{memory}"


def start(
    command: Sequence[str],
    directory: Path,
    line: socket.socket,
    output: IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a worker that inherits its end of the line.

    Raises:
        OSError: it cannot be started.
    """
    os.set_inheritable(line.fileno(), True)
    with inherited():
        return subprocess.Popen(
            command,
            cwd=directory,
            env=family_variables(os.environ if environment is None else environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(line.fileno(),),
            start_new_session=True,
        )


def without_paths(arguments: Sequence[str], paths: Sequence[str], directory: Path) -> tuple[str, ...]:
    """Return command-line arguments without the test paths among them, so that options can be added behind them.

    Args:
        arguments: of a run of pytest, which may name files of further arguments, ``@file``.
        paths: what pytest took for paths of tests.
        directory: where the run was started.
    """
    words = list(_read_arguments(arguments, paths, directory))
    end = words.index("--") if "--" in words else len(words)
    left = list(paths)
    for path in words[end + 1 :]:  # what stands there can be nothing but a path, and so would our options be
        if path in left:
            left.remove(path)
    kept = words[:end]
    for path in filter(kept.__contains__, left):  # settings may name others
        del kept[_place_of(path, kept)]
    return tuple(kept)


def _place_of(path: str, words: Sequence[str]) -> int:
    """Return where a path stands among words, of which an option's value may be equal to it.

    It is the last that follows no option, else the last that follows one which need not take a value, else the last.
    """

    def doubt(place: int) -> int:
        before = words[place - 1] if place else ""
        return 2 if before in _TAKE_A_VALUE else int(before.startswith("-") and "=" not in before)

    return min((place for place, word in enumerate(words) if word == path), key=lambda place: (doubt(place), -place))


def _read_arguments(arguments: Sequence[str], paths: Sequence[str], directory: Path) -> Iterator[str]:
    """Yield arguments, and what is in the files of arguments among them as pytest reads these: one in a line."""
    for argument in arguments:
        if argument.startswith("@") and argument not in paths and (directory / argument[1:]).is_file():
            yield from (directory / argument[1:]).read_text(encoding="utf-8").splitlines()
        else:
            yield argument
