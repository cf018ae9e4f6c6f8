from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from pytest_nnopt.host import allocator, cpu_family, host_facts, name_cores

LIBC = "7f00-7f01 r-xp 00000000 fe:00 123  /usr/lib/x86_64-linux-gnu/libc.so.6\n"


def test_the_model_name_is_read(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_bytes(b"processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC \xff \nmodel name\t: other\n")
    assert host_facts(cpuinfo=cpuinfo)["cpu"] == "AMD EPYC \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("text", ["CPU implementer : 0x41\n", None])
def test_the_platform_is_asked_where_no_model_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if text is not None:
        cpuinfo.write_text(text)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert host_facts(cpuinfo=cpuinfo)["cpu"] == "aarch64"


def test_usable_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert host_facts()["cores"] == 3
    assert host_facts()["affinity"] == "3,5,7"


@pytest.mark.parametrize(("cores", "name"), [([0], "0"), ([0, 1, 2, 3, 6], "0-3,6"), ([1, 4, 5], "1,4-5"), ([], "")])
def test_cores_are_named_by_ranges(cores: list[int], name: str) -> None:
    assert name_cores(cores) == name


def test_all_cores_are_counted_where_none_are_set_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert host_facts()["cores"] == 64
    assert host_facts()["affinity"] is None


def test_a_governor_is_told_where_there_is_one(tmp_path: Path) -> None:
    assert host_facts(frequencies=tmp_path)["governor"] is None
    (tmp_path / "scaling_governor").write_text("performance\n")
    assert host_facts(frequencies=tmp_path)["governor"] == "performance"


@pytest.mark.parametrize(
    ("cpuinfo", "family"),
    [
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n", "AuthenticAMD 25-17"),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t: 85\nstepping\t: 7\n", "GenuineIntel 6-85-7"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd40\n", "0x41 0xd40"),
        ("vendor_id\t: AuthenticAMD\ncpu family\t: \nmodel\t: 17\n", None),
        ("CPU implementer\t: 0x41\n", None),
        ("", None),
    ],
)
def test_generations_are_told_apart_by_family_and_model(cpuinfo: str, family: str | None) -> None:
    assert cpu_family(cpuinfo) == family


@pytest.mark.parametrize(
    ("maps", "name"),
    [
        (LIBC, "glibc"),
        (LIBC + "7f02-7f03 r-xp 0 fe:00 9  /usr/lib/libjemalloc.so.2\n", "jemalloc"),
        (LIBC + "7f02-7f03 r-xp 0 fe:00 9  /opt/lib/libtcmalloc_minimal.so.4.5.9\n" * 2, "tcmalloc"),
        (LIBC + "7f02-7f03 r-xp 0 fe:00 9  /x/libmimalloc.so\n7f r 0 0:0 0  /x/libjemalloc.so\n", "jemalloc+mimalloc"),
        ("7f02-7f03 r-xp 0 fe:00 9  /lib/ld-musl-x86_64.so.1\n", "musl"),
        ("7f02-7f03 r-xp 0 fe:00 9  /home/me/libjemalloc/notes.txt\n", None),
        ("", None),
    ],
)
def test_the_allocator_is_the_one_that_is_preloaded_else_the_c_librarys(maps: str, name: str | None) -> None:
    assert allocator(maps) == name


def test_this_process_has_an_allocator() -> None:
    assert host_facts()["allocator"] is not None
