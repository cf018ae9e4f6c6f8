from __future__ import annotations

import os
from pathlib import Path

from pytest_nnopt.measurement.surroundings import Neighbour, Surroundings, look_around

TICKS = os.sysconf("SC_CLK_TCK")


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_process(root: Path, pid: int, name: str, seconds: float) -> None:
    write(root, f"proc/{pid}/stat", f"{pid} ({name}) R 1 1 1 0 -1 0 0 0 0 0 {int(seconds * TICKS)} 0 0 0 20 0 1 0\n")


def test_others_at_work_are_named_busiest_first(tmp_path: Path) -> None:
    def pass_time(_: float) -> None:
        write_process(tmp_path, 8, "busy (one)", 1000.0)
        write_process(tmp_path, 9, "busier", 2000.0)
        write_process(tmp_path, 10, "new", 5.0)

    for pid, name in ((7, "idle"), (8, "busy (one)"), (9, "busier"), (os.getpid(), "this")):
        write_process(tmp_path, pid, name, 1.0)
    write(tmp_path, "proc/11/stat", "it has ended")
    seen = look_around(tmp_path, sleep=pass_time).neighbours
    assert [(one.pid, one.name) for one in seen] == [(9, "busier"), (8, "busy (one)")]


def test_clocks_and_heat_are_read(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "cpu MHz\t\t: 1200.5\nmodel name: x\ncpu MHz : 3700\n")
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "4000000\n")
    for zone, text in enumerate(("41000\n", "65000\n", "no number")):
        write(tmp_path, f"sys/class/thermal/thermal_zone{zone}/temp", text)
    told = look_around(tmp_path, sleep=lambda _: None).describe()
    assert told["clocks"] == "1200 to 3700 of 4000 MHz"
    assert told["temperature"] == "65 °C at most"


def test_what_the_system_does_not_tell_is_unknown(tmp_path: Path) -> None:
    told = look_around(tmp_path, sleep=lambda _: None).describe()
    assert {value.partition(":")[0] for value in told.values()} == {"unknown"}


def test_the_load_is_said_with_the_three_busiest() -> None:
    neighbours = tuple(Neighbour(pid, "python", 1 / pid) for pid in (1, 2, 4, 5))
    told = Surroundings(2, (3000.0, 3000.0), None, None, 0.25, neighbours).describe()
    assert told["clocks"] == "3000 MHz"
    assert told["other load"] == (
        "25.0 % of the 2 usable cores; of one core: python (1) 100 %, python (2) 50.0 %, python (4) 25.0 %"
    )
    assert Surroundings(2, None, None, None, 0.0, ()).describe()["other load"] == "0.00 % of the 2 usable cores"


def test_this_host_is_looked_at() -> None:
    seen = look_around(sleep=lambda _: None)
    assert seen.usable_cores >= 1
    assert os.getpid() not in [one.pid for one in seen.neighbours]
