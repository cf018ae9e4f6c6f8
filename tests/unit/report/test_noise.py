from __future__ import annotations

import pytest

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.report.noise import describe_case_noise, describe_noise, noise_of
from tests.builders import make_result, make_timing
from tests.unit.report.samples import disturbed


def test_scatter_is_told_apart_by_where_it_comes_from() -> None:
    noise = noise_of(make_timing(count=3))
    assert noise is not None
    assert (noise.processes, noise.blocks, noise.dropped, noise.unsteady) == (3, 120, 0, 0)
    assert noise.between == pytest.approx(0.003)
    assert noise.within == pytest.approx(0.001)


def test_without_times_there_is_no_noise() -> None:
    assert noise_of(()) is None
    assert describe_noise([make_result()]) is None


def test_a_single_process_shows_no_variation_between_processes() -> None:
    noise = noise_of(make_timing(count=1))
    assert noise is not None
    assert describe_case_noise(noise) == "1 process, 40 blocks, 0.10 % within one"
    result = make_result(evidence=Evidence(timing=make_timing(count=1)))
    assert describe_noise([result]) == (
        "1 process a case, one process shows no variation between processes, 0.10 % within one"
    )


def test_what_was_lost_is_counted() -> None:
    timing = tuple(disturbed(process) for process in make_timing(count=2))
    noise = noise_of(timing)
    assert noise is not None
    assert describe_case_noise(noise).endswith(", 6 of 86 blocks dropped, 2 not settled")


@pytest.mark.parametrize(
    ("disturbances", "why"),
    [
        ([{"GPU clock changed": 3}, {"GPU clock changed": 3}], " (GPU clock changed)"),
        (
            [{"GPU clock changed": 3}, {"slowed down because of heat": 4}],
            " (4 slowed down because of heat, 3 GPU clock changed)",
        ),
        ([{}, {}], ""),
    ],
)
def test_the_reasons_for_dropping_are_named(disturbances: list[dict[str, int]], why: str) -> None:
    timing = tuple(
        disturbed(process).model_copy(update={"disturbances": counts})
        for process, counts in zip(make_timing(count=2), disturbances, strict=True)
    )
    noise = noise_of(timing)
    assert noise is not None
    assert f", 6 of 86 blocks dropped{why}, 2 not settled" in describe_case_noise(noise)
    assert f"blocks dropped{why}, 2" in str(describe_noise([make_result(evidence=Evidence(timing=timing))]))


def test_a_run_tells_the_range_over_its_cases() -> None:
    results = [make_result(case_id=str(count), evidence=Evidence(timing=make_timing(count=count))) for count in (2, 3)]
    assert describe_noise(results) == (
        "2 to 3 processes a case, 0.21 % to 0.30 % from process to process, 0.10 % within one"
    )
    assert str(describe_noise(results[:1])).startswith("2 processes a case, 0.21 % from")
