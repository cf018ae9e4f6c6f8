from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from pytest_nnopt.baseline.schema import CaseBaseline, EnvironmentFile, Evidence, LeafRecord, RatioRecord
from tests.builders import make_baseline, make_environment


def values() -> dict[str, Any]:
    """A valid file as it is read."""
    return make_baseline(make_environment()).model_dump(mode="json", by_alias=True)


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """A valid file with one value changed."""
    whole: Any = values()
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return dict(whole)


def test_a_written_file_is_valid() -> None:
    assert CaseBaseline.model_validate(values()) == make_baseline(make_environment())


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf, "nan", 1e300, None, "fast"])
@pytest.mark.parametrize("key", ["log_ratio", "variance"])
def test_a_figure_is_finite_and_its_exponential_too(key: str, figure: object) -> None:
    ratio = ("recordings", 0, "evidence", "timing", 0, "candidate_to_reference", key)
    with pytest.raises(ValidationError):
        CaseBaseline.model_validate(changed(*ratio, to=figure))


@pytest.mark.parametrize("key", ["schema", "case", "recordings"])
def test_an_unknown_key_is_refused(key: str) -> None:
    whole = values()
    del whole[key]
    with pytest.raises(ValidationError, match="surprise"):
        CaseBaseline.model_validate({**whole, "surprise": 1})


@pytest.mark.parametrize(
    "wrong",
    [
        changed("recordings", to=[]),
        changed("recordings", 0, "environment", to="ABCDEF01"),
        changed("recordings", 0, "environment", to="abc"),
        changed("recordings", 0, "recorded", to="2026-01-02T03:04:05"),
        changed("recordings", 0, "evidence", "timing", 0, "seconds", "candidate", to=0),
        changed("recordings", 0, "evidence", "timing", 0, "candidate_to_reference", "blocks", to=0),
        changed("recordings", 0, "evidence", "timing", 0, "warmup_seconds", to=-1),
        changed("recordings", 0, "evidence", "compile", "graphs", to=-1),
        changed("recordings", 0, "recorded", to="1999-12-31T23:59:59Z"),
        changed("recordings", 0, "recorded", to="2200-01-01T00:00:00Z"),
        changed("recordings", 0, "recorded", to=10**300),
        changed("recordings", 0, "evidence", "timing", 0, "seconds", "candidate", to=1e300),
        changed("recordings", 0, "evidence", "compile", "counters", to={"x": 2**64}),
        changed("recordings", 0, "evidence", "compile", "cold_seconds", to=1e300),
        changed("case", to="x" * 4097),
        changed("schema", to=2),
        changed("schema", to="1"),
    ],
)
def test_an_impossible_value_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CaseBaseline.model_validate(wrong)


def test_records_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RatioRecord(log_ratio=0.0, variance=0.0, blocks=1).blocks = 2


def test_what_was_not_measured_is_absent_and_not_zero() -> None:
    assert Evidence() == Evidence(timing=(), numerics={}, compile=None, memory=None)
    assert LeafRecord(dtype="float32", shape=(2,)).candidate_nrmse is None


@pytest.mark.parametrize("digest", ["", "abc", "zzzzzzzz", "../../etc"])
def test_a_fingerprint_is_filed_under_a_digest(digest: str) -> None:
    with pytest.raises(ValidationError):
        EnvironmentFile(fingerprints={digest: {}})
