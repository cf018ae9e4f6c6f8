from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from pytest_nnopt.report.html.svg import Ink, in_own_style, take_style_apart, to_svg


@in_own_style
def draw(text: str = "label", name: str = "a") -> str:
    figure = Figure(figsize=(2, 1), facecolor="none")
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8), facecolor="none")
    axes.plot([0, 1], [0, 1], color=Ink.HEAD.value)
    axes.text(0, 0, text, color=Ink.TEXT.value)
    return to_svg(figure, name=name, label='a "line" & more')


def test_colours_are_the_pages() -> None:
    svg = draw()
    assert 'stroke="var(--head)"' in svg
    assert 'fill="currentColor"' in svg
    assert not [ink for ink in Ink if ink.value in svg]


def test_nothing_needs_an_inline_style_or_comes_from_outside() -> None:
    svg = draw()
    assert "style" not in svg
    assert "metadata" not in svg
    assert set(re.findall(r"https?://[^\"]+", svg)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_picture_says_what_it_shows() -> None:
    assert 'role="img" aria-label="a &quot;line&quot; &amp; more"' in draw()


def test_texts_stay_texts_and_are_no_formulas() -> None:
    svg = draw("$<b>$")
    assert ">$&lt;b&gt;$</text>" in svg
    assert 'font-size="10px"' in svg


def test_two_pictures_share_no_name_and_one_is_the_same_every_time() -> None:
    first, second = (set(re.findall(r' id="([^"]+)"', draw(name=name))) for name in "ab")
    assert first
    assert not first & second
    assert draw() == draw()


def test_nobodys_settings_change_it() -> None:
    plain = draw()
    with mpl.rc_context({"lines.linewidth": 9.0, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert draw() == plain


@pytest.mark.parametrize(("font", "size"), [("bold 9.5px 'DejaVu Sans', sans-serif", "9.5px"), ("caption", "10px")])
def test_a_font_is_its_size(font: str, size: str) -> None:
    element = ElementTree.Element("text", {"style": f"font: {font}; fill: {Ink.LIMIT.value}; direction: rtl"})
    take_style_apart(element)
    assert element.attrib == {"font-size": size, "fill": "var(--limit)"}
