from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_nnopt.model import CheckName, Interval, Outcome
from pytest_nnopt.report.html.figures import worst_leaves
from pytest_nnopt.report.html.pictures import Picture, draw_pictures
from tests.builders import make_check, make_process, make_result
from tests.samples import make_case, make_context, make_leaf, sample_run

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult


def pictures_of(case: CaseResult) -> dict[str, Picture]:
    """The pictures of a case by their titles."""
    leaves = worst_leaves(case.context.leaves) if case.context else ()
    return {picture.title: picture for picture in draw_pictures(case, leaves, name="case")}


def sample(name: str) -> CaseResult:
    (case,) = (case for case in sample_run().cases if name in case.id)
    return case


def test_a_compared_case_has_every_picture_but_the_gpus() -> None:
    pictures = pictures_of(sample("test_policy_value_net"))
    assert list(pictures) == [
        "Time against the baseline",
        "Every process",
        "History over recordings",
        "Numerics by leaf",
    ]
    assert pictures["Time against the baseline"].caption == (
        "baseline 0.5 [0.49, 0.51]; this run 0.6 [0.582, 0.618]; limit +5.00 % at 0.525. Bars are 95 % intervals."
    )
    assert pictures["Every process"].caption.startswith("Processes: 10 of the baseline and 4 of this run")
    assert pictures["History over recordings"].caption == "3 recordings from 2026-01-02, and this run."
    assert ">2 Jan</text>" in pictures["History over recordings"].svg


def test_kernels_times_are_in_microseconds() -> None:
    picture = pictures_of(sample("test_decoder"))["Kernel time"]
    assert picture.caption.startswith("Kernels' own time per call: baseline 300 µs, this run 240 µs.")
    assert ">limit</text>" in picture.svg


def test_kernels_without_a_limit_are_drawn_without_one() -> None:
    case = sample("test_decoder")
    (check,) = case.checks
    picture = pictures_of(case.model_copy(update={"checks": (check.model_copy(update={"limit": None}),)}))[
        "Kernel time"
    ]
    assert ">limit</text>" not in picture.svg


def test_a_declared_speedup_is_a_limit_of_time() -> None:
    case = sample("test_quantised_encoder")
    pictures = pictures_of(case)
    assert "wanted 1.15x at 0.87" in pictures["Time against eager"].caption
    assert "History over recordings" not in pictures
    assert pictures["Every process"].caption.startswith("Processes: 2 of this run")


def test_a_case_without_anything_has_no_picture() -> None:
    assert pictures_of(make_result(make_check())) == {}


def test_a_case_of_an_older_file_still_shows_its_processes() -> None:
    case = make_case("test_a", make_check(CheckName.LATENCY, limit=0.05), timing=(make_process(math.log(0.5)),))
    assert list(pictures_of(case)) == ["Every process"]


def test_one_recording_is_one() -> None:
    context = make_context()
    case = make_case("test_a", context=context.model_copy(update={"history": context.history[:1]}))
    assert pictures_of(case)["History over recordings"].caption.startswith("1 recording from")


def test_the_error_closer_to_its_limit_is_drawn() -> None:
    unlimited = make_leaf("output", 0.5, limit_nrmse=0.0, reference_max=None)
    unmeasured = make_leaf("mask", 0.0, candidate_nrmse=None, candidate_max=None)
    picture = pictures_of(make_case("test_a", context=make_context(leaves=(unlimited, unmeasured))))["Numerics by leaf"]
    assert ">#1</text>" in picture.svg
    assert ">#2</text>" not in picture.svg


def test_an_unanswered_device_time_is_not_drawn() -> None:
    check = make_check(CheckName.DEVICE_TIME, Outcome.NO_BASELINE, limit=0.02)
    assert pictures_of(make_case("test_a", check)) == {}
    answered = make_check(CheckName.DEVICE_TIME, value=0.1, interval=Interval(0.0, 0.2, 0.99))
    assert pictures_of(make_case("test_a", answered)) == {}
