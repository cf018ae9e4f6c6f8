from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.environment import DECISIVE_FIELDS, Environment, FieldValue, Match, fields_to_match
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
        ("x" * 9999, f"cpu-{'x' * 116}"),
        (f"{'x' * 115}-{'x' * 9}", f"cpu-{'x' * 115}"),
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


def test_a_field_that_fingerprints_once_lacked_keeps_what_was_recorded_comparable() -> None:
    here = make_environment()
    assert here.digest == "ae63e2dc"
    assert make_environment(backend_flags=None).digest == here.digest
    assert make_environment(cold_cache=None).digest == here.digest
    assert make_environment(backend_flags="cudnn.benchmark=True").digest != here.digest
    assert make_environment(warm_calls=True).digest != here.digest


def test_versions_matter_up_to_their_minor_part() -> None:
    here = make_environment(torch="2.13.0+cpu")
    assert here.digest == make_environment(torch="2.13.1").digest
    assert here.differences(make_environment(torch="2.12.1")) == ["torch: 2.12 → 2.13"]
    assert here.differences(make_environment(torch="nightly")) == ["torch: nightly → 2.13"]


def test_an_unknown_field_equals_a_missing_one_and_differs_from_a_known_one() -> None:
    assert make_environment(triton=None).digest == make_environment().digest
    assert make_environment(triton="3.2.0").differences(make_environment()) == ["triton: None → 3.2"]


@pytest.mark.parametrize(
    ("cpu", "family", "name"),
    [
        ("AMD EPYC", "AuthenticAMD 25-17", "cpu-amd-epyc-zen4-2c-torch2.13"),
        ("AMD EPYC", "AuthenticAMD 25-1", "cpu-amd-epyc-zen3-2c-torch2.13"),
        ("AMD EPYC", "AuthenticAMD 99-1", "cpu-amd-epyc-99-1-2c-torch2.13"),
        ("AMD EPYC", "AuthenticAMD", "cpu-amd-epyc-authenticamd-2c-torch2.13"),
        ("Intel(R) Xeon(R) Processor @ 2.20GHz", "GenuineIntel 6-85-7", "cpu-intel-xeon-2.20ghz-6-85-7-2c-torch2.13"),
        ("AMD EPYC 9B14", "AuthenticAMD 25-17", "cpu-amd-epyc-9b14-2c-torch2.13"),
        ("aarch64", None, "cpu-aarch64-2c-torch2.13"),
    ],
)
def test_a_bare_name_of_a_cpu_is_told_apart_by_its_generation(cpu: str, family: str | None, name: str) -> None:
    assert make_environment(cpu=cpu, cpu_family=family).name == name


class TestFieldsToMatch:
    def test_exact_takes_every_decisive_field_and_any_the_device_alone(self) -> None:
        for kind in ("times", "memory", "numerics", "compile"):
            assert fields_to_match(kind, Match.EXACT, "cpu") == DECISIVE_FIELDS
            assert fields_to_match(kind, Match.ANY, "cpu") == ("device",)

    def test_compatible_times_may_differ_in_what_changes_both_sides_alike(self) -> None:
        fields = fields_to_match("times", Match.COMPATIBLE, "cuda")
        assert set(DECISIVE_FIELDS) - set(fields) == {"cores", "governor", "power_limit_watts", "application_clocks"}

    def test_numerics_and_counters_travel_further_than_memory_and_memory_further_than_times(self) -> None:
        compatible = {
            kind: set(fields_to_match(kind, Match.COMPATIBLE, "cpu"))
            for kind in ("numerics", "compile", "memory", "times")
        }
        assert compatible["numerics"] == compatible["compile"] < compatible["memory"] < compatible["times"]
