"""What ends an update in the middle, and what it leaves: each baseline is the old one or the new one, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.errors import BaselineError
from tests.builders import CASE_ID, make_baseline, make_environment, make_evidence

HERE = make_environment()
ROOT = Path(__file__).parents[2]

UPDATE = """
import sys
from pathlib import Path
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.session.recording import commit
from tests.builders import make_check, make_environment, make_evidence, make_message, make_result
store = BaselineStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    result = make_result(make_check(), evidence=make_evidence(count=1))
    commit(store, make_message(result, make_environment(), recording="append"), revision=sys.argv[3])
"""

FULL_DISK = """
import sys
from pathlib import Path
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.errors import OutputError
from pytest_nnopt.files import write_text
from tests.builders import make_baseline, make_environment
store, here, written = BaselineStore(Path(sys.argv[1], "baselines")), make_environment(), 0
try:
    for number in range(1000):
        store.write(here, make_baseline(here, case=f"test_a.py::test_{number}"))
        written += 1
except OutputError as error:
    print(error)
found = BaselineStore(store.root)
found.verify()
assert 0 < written == len(list(found.read_all(here.name))) < 1000
assert not [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".json"]
for name in ("results.json", "report.html", "summary.md"):
    try:
        write_text(Path(sys.argv[1], name), "x" * 10**6)
    except OutputError as error:
        print(error)
    assert not Path(sys.argv[1], name).exists()
"""


def in_memory(tmp_path: Path) -> Path:
    """Return a folder that need not wait for a disk, where there is one."""
    return tmp_path if not os.access("/dev/shm", os.W_OK) else Path("/dev/shm") / f"nnopt-{os.getpid()}-{tmp_path.name}"


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=ROOT, text=True, capture_output=True, timeout=300, check=False, **options
    )


@pytest.mark.parametrize(
    ("kind", "stride", "end", "said"),
    [
        ("killed", 29, "SIGKILL", ""),
        ("cut", 97, "SIGXFSZ", ""),
        ("full", 97, "refused", "File too large; free space there or choose another place, then run again"),
        ("read-only", 1, "refused", "Permission denied; make its directory writable or choose another"),
    ],
)
def test_an_update_that_a_fault_ends_loses_nothing(tmp_path: Path, kind: str, stride: int, end: str, said: str) -> None:
    folder = in_memory(tmp_path)
    try:
        done = run(sys.executable, "-m", "tests.faulty_updates", kind, folder, stride)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
    finally:
        run("rm", "-rf", folder)
    assert found["wrong"] == []
    assert found["ends"].pop("whole", 0) <= 1
    assert set(found["ends"]) == {end}
    assert found["said"].endswith(said)


def test_every_beginning_of_a_baseline_is_refused_by_name(tmp_path: Path) -> None:
    path = BaselineStore(tmp_path).write(HERE, make_baseline(HERE, make_evidence(count=2)))
    whole = path.read_bytes()
    for length in range(len(whole) - 1):  # the last byte is the end of the line
        path.write_bytes(whole[:length])
        with pytest.raises(
            BaselineError, match=r"cannot be read: .*; restore it from version control or record it anew"
        ):
            BaselineStore(tmp_path).read(HERE.name, CASE_ID)


def test_updates_at_once_lose_nothing_wherever_they_keep_temporary_files(tmp_path: Path) -> None:
    writers = [start_update(tmp_path, number) for number in range(4)]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    baseline = BaselineStore(tmp_path / "baselines").read(HERE.name, CASE_ID)
    assert baseline is not None
    assert sorted(str(recording.revision) for recording in baseline.recordings) == sorted(["r0", "r1", "r2", "r3"] * 4)
    moments = [recording.recorded for recording in baseline.recordings]
    assert moments == sorted(set(moments))


def start_update(folder: Path, number: int) -> subprocess.Popen[str]:
    """Start a process that makes four recordings once it is told to."""
    place = folder / f"tmp{number}"
    place.mkdir()
    writer = subprocess.Popen(
        [sys.executable, "-c", UPDATE, str(folder / "baselines"), "4", f"r{number}"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    return writer


def test_a_full_disk_keeps_what_was_written_and_names_the_remedy(tmp_path: Path) -> None:
    inside = f'mount -t tmpfs -o size=128k none "{tmp_path}" && exec "$0" -c "$1" "{tmp_path}"'
    command = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    try:
        is_allowed = run(*command, f'mount -t tmpfs none "{tmp_path}"').returncode == 0
    except FileNotFoundError:
        is_allowed = False
    if not is_allowed:
        pytest.skip("needs a file system of its own, and this machine lets no user mount one")
    done = run(*command, inside, sys.executable, FULL_DISK)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.endswith("No space left on device; free space there or choose another place, then run again")
