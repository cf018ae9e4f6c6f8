from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.measurement import machine
from pytest_nnopt.measurement.machine import (
    ConcernKind,
    CpuSeconds,
    DisturbanceCounts,
    HostProbe,
    HostReading,
    HostWatch,
    find_concerns,
)

STAT = """\
cpu  300 10 60 1000 5 2 3 40 7 0
cpu0 100 10 20 500 5 1 2 30 7 0
cpu1 200 0 40 500 0 1 1 10 0 0
intr 5 0
"""

QUIET_CPU = CpuSeconds(busy=100.0, stolen=3.0)
QUIET = HostReading(
    at_seconds=10.0,
    own_seconds=5.0,
    usable_cores=2,
    cpu=QUIET_CPU,
    quota_cores=None,
    quota_stops=4,
    governors=frozenset({"performance"}),
    swapped_pages=20,
    thermal_stops=9,
)


def later(
    seconds: float = 10.0, *, own: float = 9.0, busy: float = 9.0, stolen: float = 0.0, **changes: Any
) -> HostReading:
    after = dataclasses.replace(
        QUIET,
        at_seconds=QUIET.at_seconds + seconds,
        own_seconds=QUIET.own_seconds + own,
        cpu=CpuSeconds(busy=QUIET_CPU.busy + busy, stolen=QUIET_CPU.stolen + stolen),
    )
    return dataclasses.replace(after, **changes)


def texts(after: HostReading, *, before: HostReading = QUIET, threads: int = 1) -> dict[ConcernKind, str]:
    return {concern.kind: concern.text for concern in find_concerns(before, after, threads)}


def test_quiet_machine_raises_no_concern() -> None:
    assert texts(later(busy=10.9)) == {}


def test_foreign_load_is_told_from_the_process_own() -> None:
    assert texts(later(busy=14.0)) == {
        ConcernKind.LOAD: "other processes kept 25.0 % of the 2 usable cores busy over 10 s; "
        "stop them or measure on cores of your own"
    }


def test_stolen_time_is_a_concern() -> None:
    assert texts(later(stolen=1.0))[ConcernKind.STOLEN].startswith(
        "the hypervisor gave 5.00 % of the processor time to other guests"
    )


def test_load_over_a_short_span_is_unknown() -> None:
    assert texts(later(0.1, own=0.0, busy=0.2, stolen=0.2)) == {}


def test_load_is_unknown_without_its_counters() -> None:
    assert texts(later(busy=20.0, stolen=5.0), before=dataclasses.replace(QUIET, cpu=None)) == {}
    assert texts(later(cpu=None)) == {}


def test_varying_frequency_is_a_concern() -> None:
    assert texts(later(governors=frozenset({"schedutil", "performance"})))[ConcernKind.FREQUENCY] == (
        "the frequency governor is schedutil, so clocks follow the load; "
        "set it with 'cpupower frequency-set -g performance'"
    )


def test_swapping_is_a_concern() -> None:
    assert texts(later(swapped_pages=332))[ConcernKind.SWAP].startswith("312 memory pages were swapped")


def test_heat_is_a_concern() -> None:
    assert texts(later(thermal_stops=11))[ConcernKind.THERMAL].startswith("cores slowed down 2 times because of heat")


@pytest.mark.parametrize(
    ("quota", "threads", "words"),
    [
        (None, 4, "4 threads for 2 usable cores; set threads = 2 in [tool.nnopt] or allow more cores"),
        (1.5, 4, "4 threads for 1.5 usable cores; set threads = 1 in [tool.nnopt] or allow more cores"),
        (1.0, 2, "2 threads for 1 usable core; set threads = 1 in [tool.nnopt] or allow more cores"),
        (0.5, 1, "1 thread for 0.5 usable cores; allow more cores"),
        (8.0, 4, "4 threads for 2 usable cores; set threads = 2 in [tool.nnopt] or allow more cores"),
    ],
)
def test_more_threads_than_cores_is_a_concern(quota: float | None, threads: int, words: str) -> None:
    assert texts(later(quota_cores=quota), threads=threads)[ConcernKind.CORES] == words


@pytest.mark.parametrize(("quota", "words"), [(None, "its quota;"), (1.5, "its quota of 1.5 cores;")])
def test_quota_stops_are_a_concern(quota: float | None, words: str) -> None:
    assert words in texts(later(quota_cores=quota, quota_stops=16))[ConcernKind.QUOTA]


def test_unknown_counters_raise_no_concern() -> None:
    unknown = HostReading(at_seconds=0.0, own_seconds=0.0, usable_cores=2)
    assert find_concerns(unknown, dataclasses.replace(unknown, at_seconds=5.0), threads=2) == []


def test_cpu_seconds_are_read_for_the_named_cores() -> None:
    assert machine.parse_cpu_seconds(STAT, {0}, 100) == CpuSeconds(busy=1.33, stolen=0.3)
    assert machine.parse_cpu_seconds(STAT, {0, 1}, 100) == CpuSeconds(busy=3.75, stolen=0.4)
    assert machine.parse_cpu_seconds(STAT, {1, 7}, 100) == CpuSeconds(busy=2.42, stolen=0.1)


def test_cpu_seconds_of_an_old_kernel_lack_the_stolen_column() -> None:
    assert machine.parse_cpu_seconds("cpu0 100 0 50 500 5 0 0", {0}, 100) == CpuSeconds(busy=1.5, stolen=0.0)


def test_swapped_pages_are_those_of_both_directions() -> None:
    assert machine.parse_swapped_pages("nr_free_pages 7\npswpin 3\npswpout 4\n") == 7
    assert machine.parse_swapped_pages("nr_free_pages 7\n") is None


def test_quota_stops_are_read_from_both_versions() -> None:
    assert machine.parse_quota_stops("nr_periods 8\nnr_throttled 5\nthrottled_time 100\n") == 5
    assert machine.parse_quota_stops("usage_usec 8\n") is None


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("", None), ("50000", None)]
)
def test_version_2_quota_is_read_in_cores(text: str, cores: float | None) -> None:
    assert machine.parse_cpu_max(text) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1\n", None), ("50000\n", 0.5), ("", None)])
def test_version_1_quota_is_read_in_cores(quota: str, cores: float | None) -> None:
    assert machine.parse_cfs_quota(quota, "100000\n") == cores


@pytest.mark.parametrize(("text", "count"), [("12\n", 12), ("", None), ("N/A", None)])
def test_single_counts_are_read(text: str, count: int | None) -> None:
    assert machine.parse_count(text) == count


def test_groups_are_named_with_their_parents() -> None:
    assert machine.parse_cgroup_folders("0::/a/b\n") == ["a/b", "a", "."]
    assert machine.parse_cgroup_folders("4:memory:/x\n3:cpu,cpuacct:/a\n0::/\n") == [
        "cpu,cpuacct/a",
        "cpu,cpuacct",
        ".",
    ]
    assert machine.parse_cgroup_folders("") == []


@given(st.text())
def test_parsers_of_counters_never_raise(text: str) -> None:
    machine.parse_swapped_pages(text)
    machine.parse_quota_stops(text)
    machine.parse_cpu_max(text)
    machine.parse_count(text)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1}, raising=False)


@pytest.mark.usefixtures("one_core")
def test_probe_reads_the_files_of_a_host(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu1"
    write(
        tmp_path,
        {
            "proc/stat": STAT,
            "proc/vmstat": "pswpin 1\npswpout 2\n",
            "proc/self/cgroup": "0::/a/b\n",
            f"{cpu}/cpufreq/scaling_governor": "powersave\n",
            f"{cpu}/thermal_throttle/core_throttle_count": "4\n",
            f"{cpu}/thermal_throttle/package_throttle_count": "5\n",
            "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/a/cpu.stat": "nr_throttled 2\n",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            "sys/fs/cgroup/a/b/cpu.stat": "nr_throttled 3\n",
        },
    )
    probe = HostProbe(tmp_path)
    reading = probe.read()
    assert reading == HostReading(
        at_seconds=reading.at_seconds,
        own_seconds=reading.own_seconds,
        usable_cores=1,
        cpu=machine.parse_cpu_seconds(STAT, {1}, os.sysconf("SC_CLK_TCK")),
        quota_cores=0.5,
        quota_stops=5,
        governors=frozenset({"powersave"}),
        swapped_pages=3,
        thermal_stops=9,
    )
    counts = probe.count_disturbances()
    assert (counts.quota_stops, counts.thermal_stops) == (5, 9)


@pytest.mark.usefixtures("one_core")
def test_probe_reads_version_1_quotas(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/cpu,cpuacct"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/\n",
            f"{group}/cpu.cfs_quota_us": "150000\n",
            f"{group}/cpu.cfs_period_us": "100000\n",
        },
    )
    assert HostProbe(tmp_path).read().quota_cores == 1.5


def test_probe_of_a_host_that_tells_nothing(tmp_path: Path) -> None:
    reading = HostProbe(tmp_path).read()
    assert (reading.cpu, reading.quota_cores, reading.quota_stops, reading.swapped_pages, reading.thermal_stops) == (
        (None,) * 5
    )
    assert reading.governors == frozenset()


def test_probe_without_affinity_counts_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert HostProbe(tmp_path).read().usable_cores == 6


def test_unreadable_text_counts_as_absent(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_bytes(b"\xff\xfe")
    assert HostProbe(tmp_path).read().cpu is None


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (DisturbanceCounts(1, 1, 1), None),
        (DisturbanceCounts(2, 1, 1), "stopped by the container's processor quota"),
        (DisturbanceCounts(1, 2, 1), "slowed down because of heat"),
        (DisturbanceCounts(1, 1, 2), "waited for memory pages from disk"),
        (DisturbanceCounts(None, None, 1), None),
    ],
)
def test_host_watch_objects_to_counters_that_move(after: DisturbanceCounts, reason: str | None) -> None:
    readings = iter([DisturbanceCounts(0, 0, 0), DisturbanceCounts(1, 1, 1), after])
    watch = HostWatch(lambda: next(readings))
    watch.before()
    assert watch.after() == reason


def test_host_watch_reads_this_host() -> None:
    watch = HostWatch()
    watch.before()
    assert watch.after() is None or isinstance(watch.after(), str)


def test_heat_of_a_package_counts_once_however_many_cores_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: frozenset({0, 1, 2}))
    for core, package in ((0, 0), (1, 0), (2, 1)):
        folder = f"sys/devices/system/cpu/cpu{core}"
        counts = {"core_throttle_count": "1\n", "package_throttle_count": f"{10 * (package + 1)}\n"}
        files = {f"{folder}/thermal_throttle/{name}": text for name, text in counts.items()}
        write(tmp_path, {**files, f"{folder}/topology/physical_package_id": f"{package}\n"})
    assert HostProbe(tmp_path).count_disturbances().thermal_stops == 3 + 10 + 20
