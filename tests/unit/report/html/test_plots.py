from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_nnopt.report.html.plots import (
    Estimate,
    LeafShare,
    Mark,
    Series,
    plot_history,
    plot_intervals,
    plot_leaves,
    plot_processes,
)
from pytest_nnopt.report.html.svg import Ink

SIDES = [Estimate("baseline", 0.5, 0.49, 0.51, Ink.BASELINE), Estimate("this run", 0.6, 0.58, 0.62, Ink.HEAD)]
LIMIT = Mark("limit +5 %", 0.525, Ink.LIMIT, is_limit=True)
EAGER = Mark("eager", 1.0, Ink.MUTED, is_optional=True)
SERIES = [Series("baseline", (0.5, 0.51), (0.01, 0.01), Ink.BASELINE), Series("this run", (0.6,), (0.01,), Ink.HEAD)]
HOW: dict[str, Any] = {"unit": "time", "name": "a", "label": "what it shows"}


def texts_of(svg: str | None) -> list[str]:
    assert svg is not None
    return re.findall(r">([^<>]+)</text>", svg)


def test_intervals_are_named_and_held_against_the_limit() -> None:
    svg = plot_intervals(SIDES, [LIMIT], **HOW)
    assert {"baseline", "this run", "limit +5 %", "time"} <= set(texts_of(svg))
    assert svg is not None
    assert 'fill="var(--beyond)"' in svg


@pytest.mark.parametrize(("ratio", "is_shown"), [(0.9, True), (0.1, False)])
def test_a_far_mark_does_not_squeeze_the_rest(ratio: float, is_shown: bool) -> None:
    sides = [Estimate("this run", ratio, ratio * 0.8, ratio * 1.2, Ink.HEAD)]
    assert ("eager" in texts_of(plot_intervals(sides, [EAGER], **HOW))) is is_shown


def test_an_interval_of_no_width_has_an_axis() -> None:
    assert "this run" in texts_of(plot_intervals([Estimate("this run", 0.5, 0.5, 0.5, Ink.HEAD)], [], **HOW))


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300])
def test_what_no_axis_can_show_is_not_drawn(value: float) -> None:
    side = Estimate("this run", value, value, value, Ink.HEAD)
    assert plot_intervals([side], [], **HOW) is None
    assert plot_processes([Series("this run", (value,), (0.0,), Ink.HEAD)], [], **HOW) is None
    assert plot_history([side], [], **HOW) is None


def test_a_limit_that_no_axis_can_show_is_left_out() -> None:
    assert "limit" not in texts_of(plot_intervals(SIDES, [Mark("limit", 1e300, Ink.LIMIT, is_limit=True)], **HOW))


def test_nothing_makes_no_picture() -> None:
    assert plot_intervals([], [], **HOW) is None
    assert plot_processes([], [], **HOW) is None
    assert plot_history([], [], **HOW) is None
    assert plot_leaves([], name="a", label="b") is None


def test_each_process_is_a_dot() -> None:
    svg = plot_processes(SERIES, [LIMIT], **HOW)
    assert {"baseline", "this run"} <= set(texts_of(svg))
    assert svg is not None
    assert len(re.findall(r'<use [^>]*fill="var\(--(head|baseline)\)"', svg)) == 3


def test_history_names_a_few_moments_and_always_the_last() -> None:
    points = [Estimate(f"day {index}", 0.5, 0.49, 0.51, Ink.BASELINE) for index in range(29)]
    unlimited = Mark("elsewhere", 0.4, Ink.MUTED)
    texts = texts_of(plot_history([*points, SIDES[1]], [LIMIT, unlimited], **HOW))
    named = [text for text in texts if text.startswith("day")]
    assert named == ["day 5", "day 11", "day 17", "day 23"]
    assert {"this run", "limit +5 %", "elsewhere"} <= set(texts)


def test_leaves_are_drawn_however_far_off_they_are() -> None:
    leaves = [LeafShare("#1", 1e30, 0.0), LeafShare("#2", 0.5, None), LeafShare("#3", None, None)]
    assert {"#1", "#2", "#3", "limit"} <= set(texts_of(plot_leaves(leaves, name="a", label="b")))


def test_marks_beside_each_other_are_labelled_on_lines_of_their_own() -> None:
    marks = [Mark(f"mark {index}", 0.5 + index / 100, Ink.MUTED) for index in range(3)]
    svg = plot_intervals(SIDES, marks, **HOW)
    assert svg is not None
    heights = re.findall(r'<text x="[^"]+" y="([^"]+)"[^>]*>mark', svg)
    assert len(set(heights)) == 3
