"""Updates of a baseline that a fault ends, at every step in turn; run as a program, because a fork wants no threads.

``python -m tests.faulty_updates KIND FOLDER [STRIDE]`` prints as JSON how many updates ended how, and what was wrong
afterwards; with a stride only every so manieth step is tried.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.errors import NnoptError
from pytest_nnopt.model import Outcome
from pytest_nnopt.session.recording import commit
from tests.builders import (
    CASE_ID,
    make_baseline,
    make_check,
    make_environment,
    make_evidence,
    make_message,
    make_result,
)

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseMessage

_OLD, _NEW = make_environment(), make_environment(threads=1)
"""The update comes from another environment of the same name, so that it writes two files."""

_OTHER = "tests/test_model.py::test_other"
_TRACED = ("files.py", "store.py", "lock.py", "recording.py", "tempfile.py", "_api.py", "_unix.py")
_KILLED = 137
_NOBODY = 65534

Fault = Callable[[int], None]


def main() -> None:
    """Try every step of a kind of fault."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    for case in (CASE_ID, _OTHER):
        BaselineStore(folder / "before").write(_OLD, make_baseline(_OLD, case=case))
    shutil.copytree(folder / "before", folder / "first")
    commit(BaselineStore(folder / "first"), _message(0.5))  # imports what the first update does; a fault may forbid it
    fault, last = FAULTS[kind]
    stride = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    for step in range(0, last, stride):
        end, text = _update_with(folder, fault, step)
        ends[end] += 1
        wrong += [f"{kind} {step}: {problem}" for problem in _look(folder, end, text)]
        if end == "whole" and kind != "full":
            break
    print(json.dumps({"ends": ends, "wrong": wrong, "said": text}))  # noqa: T201  its only output


def _message(ratio: float, environment: Any = _NEW, case_id: str = CASE_ID) -> CaseMessage:
    result = make_result(make_check(outcome=Outcome.PASSED), case_id=case_id, evidence=make_evidence(ratio, count=3))
    return make_message(result, environment, recording="append")


def _update_with(folder: Path, fault: Fault, step: int) -> tuple[str, str]:
    """Update a store of two baselines in a process that meets a fault; say how it ended and what it said."""
    store = BaselineStore(folder / "baselines")
    shutil.rmtree(store.root, ignore_errors=True)
    shutil.copytree(folder / "before", store.root)
    said = folder / "said"
    child = os.fork()
    if child == 0:
        _fail_at(store, fault, step, said)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name, ""
    return {0: "whole", 4: "refused"}.get(os.waitstatus_to_exitcode(status), "crashed"), said.read_text()


def _fail_at(store: BaselineStore, fault: Fault, step: int, said: Path) -> None:
    """Commit an update in this process, and end it."""
    output = said.open("w")
    try:
        fault(step)
        commit(store, _message(0.5))
        sys.settrace(None)
        status = 0
    except NnoptError as error:
        sys.settrace(None)
        output.write(str(error))
        status = 4
    except BaseException as error:
        sys.settrace(None)
        output.write(repr(error))
        status = 5
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    output.close()
    os._exit(status)


def _look(folder: Path, end: str, said: str) -> Iterable[str]:
    """Say what is wrong with a store after an update ended: each baseline is the old one or the new one, whole."""
    if end == "crashed":
        yield f"no error of ours: {said}"
    store = BaselineStore(folder / "baselines")
    try:
        store.verify()
        found, other = store.read(_OLD.name, CASE_ID), store.read(_OLD.name, _OTHER)
        if other is None or len(other.recordings) != 1:
            yield "another baseline is not what it was"
        if found is None or len(found.recordings) not in (1, 2) or found.recordings[0].environment != _OLD.digest:
            yield "the baseline is neither the old one nor the new one"
        elif len(found.recordings) == 1 and end == "whole":
            yield "the new recording is lost"
        elif len(found.recordings) == 2 and store.fingerprint(_NEW.name, _NEW.digest) != _NEW:
            yield "the fingerprint of the new recording is lost"
        commit(store, _message(0.25))
    except NnoptError as error:
        yield f"afterwards: {error}"
    leftovers = [str(path) for path in (folder / "baselines").rglob("*") if path.is_file() and path.suffix != ".json"]
    if leftovers:
        yield f"left behind: {leftovers}"


def _kill_at_line(step: int) -> None:
    """Kill this process as -9 does before the line of the package's or a library's writing code of this number."""
    lines = iter(range(step, -1, -1))

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(_TRACED) or frame.f_code.co_name == "_rounded":
            return None
        if event == "line" and next(lines) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def _kill_at_byte(step: int) -> None:
    """Have the kernel kill this process in the middle of the first file that grows beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    _limit_files(step)


def _limit_files(step: int) -> None:
    """Let no file grow beyond so many bytes: what is written beyond fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (step, resource.RLIM_INFINITY))


def _take_rights(step: int) -> None:
    """Let nobody write below the baseline directory: root gives its rights up, anybody else takes the modes away."""
    del step
    root = Path(sys.argv[2]) / "baselines"
    if os.getuid() == 0:
        os.chdir("/")
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        return
    for path in (root, *root.rglob("*")):
        path.chmod(0o555)


FAULTS: dict[str, tuple[Fault, int]] = {
    "killed": (_kill_at_line, 100_000),
    "cut": (_kill_at_byte, 100_000),
    "full": (_limit_files, 6000),
    "read-only": (_take_rights, 1),
}

if __name__ == "__main__":
    main()
