"""What the host is like right now: its clocks, its heat and who else is at work, for a person who wants to know.

Nothing here decides anything; what speaks against a measurement is found around the measurement itself, in ``machine``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_nnopt.measurement.machine import HostProbe
from pytest_nnopt.units import format_percent

_LEAST_SHARE = 0.01
_SHOWN = 3
_SPAN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another process that used processor time while it was looked at.

    Attributes:
        pid: its id.
        name: what the kernel calls it.
        share: processor time by time passed; 1 is one whole core.
    """

    pid: int
    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The host while it was looked at. None is what the system does not tell.

    Attributes:
        usable_cores: cores this process may run on.
        clock_mhz: lowest and highest clock of a core.
        highest_mhz: the highest clock that the hardware allows.
        celsius: the hottest sensor.
        busy: share of the usable cores that others kept busy.
        neighbours: other processes at work, the busiest first; those of another container are not seen.
    """

    usable_cores: int
    clock_mhz: tuple[float, float] | None
    highest_mhz: float | None
    celsius: float | None
    busy: float | None
    neighbours: tuple[Neighbour, ...]

    def describe(self) -> dict[str, str]:
        """Say it in words, by name."""
        return {
            "clocks": self._describe_clocks(),
            "temperature": "unknown: there is no sensor" if self.celsius is None else f"{self.celsius:.0f} °C at most",
            "other load": self._describe_load(),
        }

    def _describe_clocks(self) -> str:
        if self.clock_mhz is None:
            return "unknown: the kernel does not tell"
        low, high = (f"{value:.0f}" for value in self.clock_mhz)
        most = "" if self.highest_mhz is None else f" of {self.highest_mhz:.0f}"
        return f"{low}{most} MHz" if low == high else f"{low} to {high}{most} MHz"

    def _describe_load(self) -> str:
        if self.busy is None:
            return "unknown: the kernel does not tell"
        told = f"{format_percent(self.busy)} of the {self.usable_cores} usable cores"
        shown = [f"{one.name} ({one.pid}) {format_percent(one.share)}" for one in self.neighbours[:_SHOWN]]
        return f"{told}; of one core: {', '.join(shown)}" if shown else told


def look_around(root: Path = Path("/"), *, sleep: Callable[[float], None] = time.sleep) -> Surroundings:
    """Look at the host for a second.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
        sleep: lets time pass.
    """
    probe = HostProbe(root)
    before, times_before = probe.read(), _processor_seconds(root)
    sleep(_SPAN_SECONDS)
    after, times_after = probe.read(), _processor_seconds(root)
    span = max(after.at_seconds - before.at_seconds, 1e-9)
    busy = None
    if before.cpu is not None and after.cpu is not None:
        foreign = after.cpu.busy - before.cpu.busy - (after.own_seconds - before.own_seconds)
        busy = max(0.0, foreign / (span * after.usable_cores))
    shares = [
        Neighbour(pid, name, (seconds - times_before[pid][1]) / span)
        for pid, (name, seconds) in times_after.items()
        if pid in times_before and pid != os.getpid()
    ]
    return Surroundings(
        usable_cores=after.usable_cores,
        clock_mhz=_clocks(root),
        highest_mhz=_highest_clock(root),
        celsius=_hottest(root),
        busy=busy,
        neighbours=tuple(sorted((one for one in shares if one.share >= _LEAST_SHARE), key=lambda one: -one.share)),
    )


def _processor_seconds(root: Path) -> dict[int, tuple[str, float]]:
    """Return name and processor time of each process by its id; see proc_pid_stat(5)."""
    found = {}
    for path in root.glob("proc/[0-9]*/stat"):
        head, _, rest = _read(path).rpartition(")")
        fields = rest.split()
        if len(fields) > 12:
            ticks = int(fields[11]) + int(fields[12])
            found[int(path.parent.name)] = (head.partition("(")[2], ticks / os.sysconf("SC_CLK_TCK"))
    return found


def _clocks(root: Path) -> tuple[float, float] | None:
    lines = _read(root / "proc/cpuinfo").splitlines()
    values = [value for line in lines if line.startswith("cpu MHz") for value in _numbers(line.partition(":")[2])]
    return (min(values), max(values)) if values else None


def _highest_clock(root: Path) -> float | None:
    values = _numbers(_read(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"))
    return values[0] / 1000 if values else None


def _hottest(root: Path) -> float | None:
    """Return the hottest sensor; the kernel counts in thousandths of a degree."""
    zones = root.glob("sys/class/thermal/thermal_zone*/temp")
    values = [value / 1000 for zone in zones for value in _numbers(_read(zone))]
    return max(values, default=None)


def _numbers(text: str) -> list[float]:
    try:
        return [float(text)]
    except ValueError:
        return []


def _read(path: Path) -> str:
    """Return a file of the kernel's, empty where it cannot be read: processes end, and sensors refuse."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
