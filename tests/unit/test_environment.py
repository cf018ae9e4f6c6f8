from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.environment import DECISIVE_FIELDS, Environment, FieldValue, host_facts
from tests.builders import make_environment

values = st.none() | st.booleans() | st.integers() | st.text()


@pytest.mark.parametrize(
    ("cpu", "name"),
    [
        ("AMD EPYC 9B14", "cpu-amd-epyc-9b14-2c-torch2.13"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "cpu-intel-xeon-2.20ghz-2c-torch2.13"),
        ("AMD Ryzen 9 5950X 16-Core Processor", "cpu-amd-ryzen-9-5950x-16-core-2c-torch2.13"),
        ("AMD EPYC 7763 64-Core Processor", "cpu-amd-epyc-7763-64-core-2c-torch2.13"),
        ("../../etc", "cpu-..-..-etc-2c-torch2.13"),
    ],
)
def test_a_cpu_is_named_for_people(cpu: str, name: str) -> None:
    assert make_environment(cpu=cpu, torch="2.13.0+cpu").name == name


def test_a_gpu_is_named_for_people() -> None:
    environment = Environment({"device": "cuda", "gpu": "NVIDIA H200", "torch": "2.11.1+cu130"})
    assert environment.name == "nvidia-h200-torch2.11"


@given(cpu=values, torch=values)
def test_a_name_is_one_harmless_path_component(cpu: FieldValue, torch: FieldValue) -> None:
    name = make_environment(cpu=cpu, torch=torch).name
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)
    assert name.endswith(".") is False


@given(st.dictionaries(st.sampled_from([*DECISIVE_FIELDS, "python", "cudnn"]), values))
def test_a_digest_is_eight_hexadecimal_digits_and_repeats(fields: dict[str, FieldValue]) -> None:
    digest = Environment(fields).digest
    assert re.fullmatch(r"[0-9a-f]{8}", digest)
    assert Environment(dict(reversed(fields.items()))).digest == digest


@pytest.mark.parametrize("field", DECISIVE_FIELDS)
def test_every_decisive_field_changes_the_digest_and_is_named(field: str) -> None:
    here, there = make_environment(**{field: "9.1"}), make_environment(**{field: "9.2"})
    assert here.digest != there.digest
    assert here.differences(there) == [f"{field}: 9.2 → 9.1"]


def test_other_fields_do_not_matter() -> None:
    here, there = make_environment(python="3.11.7"), make_environment(python="3.12.1")
    assert here.digest == there.digest
    assert here.differences(there) == []


def test_versions_matter_up_to_their_minor_part() -> None:
    here = make_environment(torch="2.13.0+cpu")
    assert here.digest == make_environment(torch="2.13.1").digest
    assert here.differences(make_environment(torch="2.12.1")) == ["torch: 2.12 → 2.13"]
    assert here.differences(make_environment(torch="nightly")) == ["torch: nightly → 2.13"]


def test_an_unknown_field_equals_a_missing_one_and_differs_from_a_known_one() -> None:
    assert make_environment(triton=None).digest == make_environment().digest
    assert make_environment(triton="3.2.0").differences(make_environment()) == ["triton: None → 3.2"]


class TestHostFacts:
    def test_reads_the_model_name(self, tmp_path: Path) -> None:
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_bytes(b"processor\t: 0\nmodel name\t: AMD EPYC \xff \nmodel name\t: other\n")
        assert host_facts(cpuinfo=cpuinfo)["cpu"] == "AMD EPYC \N{REPLACEMENT CHARACTER}"

    @pytest.mark.parametrize("text", ["CPU implementer : 0x41\n", None])
    def test_asks_the_platform_where_no_model_name_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
    ) -> None:
        cpuinfo = tmp_path / "cpuinfo"
        if text is not None:
            cpuinfo.write_text(text)
        monkeypatch.setattr(platform, "processor", lambda: "")
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        assert host_facts(cpuinfo=cpuinfo)["cpu"] == "aarch64"

    def test_counts_usable_cores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
        assert host_facts()["cores"] == 3

    def test_counts_all_cores_where_none_are_set_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        assert host_facts()["cores"] == 64
