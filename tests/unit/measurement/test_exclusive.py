from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement.exclusive import exclusive

HOLD = """\
import sys
from pathlib import Path
from pytest_nnopt.measurement.exclusive import exclusive
with exclusive(sys.argv[1], directory=Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_device_is_free_again_afterwards_even_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), exclusive("cpu", directory=tmp_path, wait_seconds=0.1):
            raise ZeroDivisionError


def test_another_process_keeps_a_device_for_itself_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, "cpu", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        expected = rf"another process has been timing on 'cpu' for 0 s \(it holds {tmp_path}/cpu\.lock\); wait for it"
        with pytest.raises(MeasurementError, match=expected), exclusive("cpu", directory=tmp_path, wait_seconds=0.05):
            pass
        with exclusive("GPU-1234", directory=tmp_path, wait_seconds=0.05):
            pass
        other.kill()
    with exclusive("cpu", directory=tmp_path, wait_seconds=0.05):
        pass


@pytest.mark.parametrize("device", ["cuda:0", "../../etc/passwd", "GPU-a/b", "\0"])
def test_a_devices_name_never_leaves_the_directory(tmp_path: Path, device: str) -> None:
    directory = tmp_path / "locks"
    directory.mkdir()
    with exclusive(device, directory=directory):
        assert [path.suffix for path in directory.iterdir()] == [".lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_without_a_directory_all_of_the_users_processes_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    for _ in range(2):
        with exclusive("cpu"):
            assert len(list(tmp_path.glob("pytest-nnopt-*/cpu.lock"))) == 1


def test_a_place_where_no_directory_can_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("in the way")
    monkeypatch.setattr(tempfile, "tempdir", str(in_the_way))
    with (
        pytest.raises(MeasurementError, match=r"there is no place for lock files: .*Not a directory.*; set TMPDIR"),
        exclusive("cpu"),
    ):
        pass
