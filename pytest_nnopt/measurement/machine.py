"""Whether the host is fit for timing: what runs beside the measurement, and what slows the cores down.

Two readings around a measurement are compared. What cannot be read on a machine is None and raises no concern. The load
average is not used: it lags by a minute and counts this process's own compile workers.

Sources: proc(5), ``Documentation/admin-guide/cgroup-v2.rst`` and ``cpu-freq`` of the Linux kernel.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from pytest_nnopt.affinity import usable_cores
from pytest_nnopt.units import format_count, format_percent, format_seconds

FOREIGN_LOAD_LIMIT = 0.1
"""Busy share of the usable cores, by others, above which timings suffer."""

STOLEN_LIMIT = 0.02
"""Share of the usable cores' time taken by the hypervisor above which timings suffer."""

SHORTEST_SPAN_SECONDS = 0.2
"""The kernel counts processor time in hundredths of a second; over less than this the load cannot be told."""


class ConcernKind(str, Enum):
    """What can make a machine unfit for timing. A record holds one sentence of each kind."""

    LOAD = "load"
    STOLEN = "stolen"
    FREQUENCY = "frequency"
    SWAP = "swap"
    THERMAL = "thermal"
    CORES = "cores"
    QUOTA = "quota"
    GPU_FREQUENCY = "gpu_frequency"
    GPU_THERMAL = "gpu_thermal"
    GPU_SHARED = "gpu_shared"
    GPU_HELD = "gpu_held"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MachineConcern:
    """One reason to trust timings less: the text names the thing, its value and the remedy."""

    kind: ConcernKind
    text: str


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """Processor time since boot, summed over some cores, in seconds.

    Attributes:
        busy: spent working, for any process.
        stolen: taken by the hypervisor for other guests.
    """

    busy: float
    stolen: float


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host at one moment. None means unknown.

    Attributes:
        at_seconds: monotone time of the reading.
        own_seconds: processor time this process has used.
        usable_cores: cores this process may run on.
        cpu: processor time on the usable cores.
        quota_cores: cores' worth of time the container may use; None where it is not limited.
        quota_stops: how often the container was stopped for having used its quota.
        governors: frequency governors of the usable cores.
        swapped_pages: pages moved from or to swap since boot.
        thermal_stops: how often cores slowed down because of heat.
    """

    at_seconds: float
    own_seconds: float
    usable_cores: int
    cpu: CpuSeconds | None = None
    quota_cores: float | None = None
    quota_stops: int | None = None
    governors: frozenset[str] = frozenset()
    swapped_pages: int | None = None
    thermal_stops: int | None = None


def find_concerns(before: HostReading, after: HostReading, threads: int) -> list[MachineConcern]:
    """Compare the readings around a measurement with ``threads`` threads and return all that speaks against it."""
    concerns = (
        _check_load(before, after),
        _check_stolen(before, after),
        _check_frequency(after),
        _check_swap(before, after),
        _check_thermal(before, after),
        _check_cores(after, threads),
        _check_quota(before, after),
    )
    return [concern for concern in concerns if concern is not None]


def _check_load(before: HostReading, after: HostReading) -> MachineConcern | None:
    span = after.at_seconds - before.at_seconds
    if before.cpu is None or after.cpu is None or span < SHORTEST_SPAN_SECONDS:
        return None
    foreign_seconds = after.cpu.busy - before.cpu.busy - (after.own_seconds - before.own_seconds)
    share = foreign_seconds / (span * after.usable_cores)
    if share <= FOREIGN_LOAD_LIMIT:
        return None
    return MachineConcern(
        ConcernKind.LOAD,
        f"other processes kept {format_percent(share)} of the {after.usable_cores} usable cores busy "
        f"over {format_seconds(span)}; stop them or measure on cores of your own",
    )


def _check_stolen(before: HostReading, after: HostReading) -> MachineConcern | None:
    span = after.at_seconds - before.at_seconds
    if before.cpu is None or after.cpu is None or span < SHORTEST_SPAN_SECONDS:
        return None
    share = (after.cpu.stolen - before.cpu.stolen) / (span * after.usable_cores)
    if share <= STOLEN_LIMIT:
        return None
    return MachineConcern(
        ConcernKind.STOLEN,
        f"the hypervisor gave {format_percent(share)} of the processor time to other guests; "
        "use a machine with cores of its own",
    )


def _check_frequency(reading: HostReading) -> MachineConcern | None:
    varying = sorted(reading.governors - {"performance"})
    if not varying:
        return None
    return MachineConcern(
        ConcernKind.FREQUENCY,
        f"the frequency governor is {' and '.join(varying)}, so clocks follow the load; "
        "set it with 'cpupower frequency-set -g performance'",
    )


def _check_swap(before: HostReading, after: HostReading) -> MachineConcern | None:
    pages = _difference(before.swapped_pages, after.swapped_pages)
    if pages <= 0:
        return None
    return MachineConcern(
        ConcernKind.SWAP, f"{pages} memory pages were swapped while measuring; free memory or switch swap off"
    )


def _check_thermal(before: HostReading, after: HostReading) -> MachineConcern | None:
    stops = _difference(before.thermal_stops, after.thermal_stops)
    if stops <= 0:
        return None
    return MachineConcern(
        ConcernKind.THERMAL, f"cores slowed down {stops} times because of heat; let the machine cool or cap its clocks"
    )


def _check_cores(reading: HostReading, threads: int) -> MachineConcern | None:
    cores = min(reading.usable_cores, reading.quota_cores or reading.usable_cores)
    if threads <= cores:
        return None
    fewer = f"set threads = {int(cores)} in [tool.nnopt] or " if cores >= 1 else ""
    return MachineConcern(
        ConcernKind.CORES,
        f"{format_count(threads, 'thread')} for {cores:g} usable {'core' if cores == 1 else 'cores'}; "
        f"{fewer}allow more cores",
    )


def _check_quota(before: HostReading, after: HostReading) -> MachineConcern | None:
    stops = _difference(before.quota_stops, after.quota_stops)
    if stops <= 0:
        return None
    quota = "its quota" if after.quota_cores is None else f"its quota of {after.quota_cores:g} cores"
    return MachineConcern(
        ConcernKind.QUOTA,
        f"the container was stopped {stops} times for having used {quota}; raise it or use fewer threads",
    )


@dataclass(frozen=True, slots=True)
class DisturbanceCounts:
    """Counters that stand still in an undisturbed block."""

    quota_stops: int | None
    thermal_stops: int | None
    disk_waits: int


class HostProbe:
    """Reads the host's state; finds the files once.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._cores = usable_cores()
        folders = [root / f"sys/devices/system/cpu/cpu{core}" for core in sorted(self._cores)]
        self._governor_files = [folder / "cpufreq/scaling_governor" for folder in folders]
        packages = {_read_text(folder / "topology/physical_package_id").strip(): folder for folder in folders}
        counts = [folder / "thermal_throttle/core_throttle_count" for folder in folders]
        counts += [folder / "thermal_throttle/package_throttle_count" for folder in packages.values()]  # all cores' one
        self._thermal_files = [path for path in counts if path.exists()]
        membership = _read_text(root / "proc/self/cgroup")
        self._quota_folders = [root / "sys/fs/cgroup" / path for path in parse_cgroup_folders(membership)]

    def read(self) -> HostReading:
        """Return the host's state now."""
        stat = _read_text(self._root / "proc/stat")
        quotas = [_read_quota(folder) for folder in self._quota_folders]
        governors = [_read_text(path).strip() for path in self._governor_files]
        return HostReading(
            at_seconds=time.monotonic(),
            own_seconds=time.process_time(),
            usable_cores=len(self._cores),
            cpu=parse_cpu_seconds(stat, self._cores, os.sysconf("SC_CLK_TCK")),
            quota_cores=min((quota for quota in quotas if quota is not None), default=None),
            quota_stops=self._count_quota_stops(),
            governors=frozenset(filter(None, governors)),
            swapped_pages=parse_swapped_pages(_read_text(self._root / "proc/vmstat")),
            thermal_stops=self._count_thermal_stops(),
        )

    def count_disturbances(self) -> DisturbanceCounts:
        """Return the few counters that are cheap enough to read around every block."""
        return DisturbanceCounts(
            quota_stops=self._count_quota_stops(),
            thermal_stops=self._count_thermal_stops(),
            disk_waits=resource.getrusage(resource.RUSAGE_SELF).ru_majflt,
        )

    def _count_quota_stops(self) -> int | None:
        return _sum_known(parse_quota_stops(_read_text(folder / "cpu.stat")) for folder in self._quota_folders)

    def _count_thermal_stops(self) -> int | None:
        return _sum_known(parse_count(_read_text(path)) for path in self._thermal_files)


class HostWatch:
    """A machine watch for the host: objects to stops by a quota, slowing down by heat and waits for the disk.

    Args:
        count: reads the counters; ``HostProbe().count_disturbances`` where none is given.
    """

    def __init__(self, count: Callable[[], DisturbanceCounts] | None = None) -> None:
        self._count = count or HostProbe().count_disturbances
        self._before = self._count()

    def before(self) -> None:
        """Note the counters."""
        self._before = self._count()

    def after(self) -> str | None:
        """Return the first counter that moved since ``before``, in words."""
        before, after = self._before, self._count()
        if _difference(before.quota_stops, after.quota_stops) > 0:
            return "stopped by the container's processor quota"
        if _difference(before.thermal_stops, after.thermal_stops) > 0:
            return "slowed down because of heat"
        if after.disk_waits > before.disk_waits:
            return "waited for memory pages from disk"
        return None


def parse_cpu_seconds(stat: str, cores: Collection[int], ticks_per_second: int) -> CpuSeconds | None:
    """Read ``/proc/stat``: the time of ``cores``, None where no line of theirs is there.

    The columns are user, nice, system, idle, iowait, irq, softirq and steal; guest time is part of user.
    """
    wanted = {f"cpu{core}" for core in cores}
    rows = [[int(ticks) for ticks in line.split()[1:9]] for line in stat.splitlines() if line.split(" ")[0] in wanted]
    if not rows:
        return None
    busy = sum(sum(row[0:3]) + sum(row[5:7]) for row in rows)
    stolen = sum(sum(row[7:8]) for row in rows)
    return CpuSeconds(busy=busy / ticks_per_second, stolen=stolen / ticks_per_second)


def parse_swapped_pages(vmstat: str) -> int | None:
    """Read ``/proc/vmstat``: pages moved from and to swap since boot."""
    counts = _parse_pairs(vmstat)
    return _sum_known(counts.get(name) for name in ("pswpin", "pswpout"))


def parse_quota_stops(cpu_stat: str) -> int | None:
    """Read a control group's ``cpu.stat``: in how many periods it was stopped."""
    return _parse_pairs(cpu_stat).get("nr_throttled")


def parse_cpu_max(cpu_max: str) -> float | None:
    """Read a version 2 control group's ``cpu.max``, quota and period in microseconds: cores, None where unlimited."""
    quota, _, period = cpu_max.strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def parse_cfs_quota(quota: str, period: str) -> float | None:
    """Read a version 1 control group's ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``; -1 means unlimited."""
    return parse_cpu_max(f"{quota.strip()} {period.strip()}")


def parse_count(text: str) -> int | None:
    """Read a file that holds one count."""
    return int(text) if text.strip().isdigit() else None


def parse_cgroup_folders(membership: str) -> list[str]:
    """Read ``/proc/self/cgroup``: the folders below ``sys/fs/cgroup`` whose quotas bind this process, innermost first.

    A quota binds all groups below it, so each parent is named too. Version 2 has one unnamed hierarchy; version 1 has
    one for the processor in a folder named after its controllers.
    """
    folders = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            group = PurePosixPath(controllers) / path.lstrip("/")
            folders += [str(folder) for folder in (group, *group.parents) if folder.is_relative_to(controllers)]
    return folders


def _parse_pairs(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _read_quota(folder: Path) -> float | None:
    """Return the folder's quota in cores, whichever version of control groups it is of."""
    limit = parse_cpu_max(_read_text(folder / "cpu.max"))
    if limit is not None:
        return limit
    return parse_cfs_quota(_read_text(folder / "cpu.cfs_quota_us"), _read_text(folder / "cpu.cfs_period_us"))


def _read_text(path: Path) -> str:
    """Return the file's text, empty where it cannot be read: kernels and containers differ in what they show."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _difference(before: int | None, after: int | None) -> int:
    """Return how far a counter moved; an unknown counter did not."""
    return 0 if before is None or after is None else after - before


def _sum_known(counts: Iterable[int | None]) -> int | None:
    """Return the sum of the known counts, None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
