"""Figures as SVG that takes its colours from the page and needs no style, script or identifier of its own."""

from __future__ import annotations

import io
import re
from enum import Enum
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib import style
from matplotlib.backends.backend_svg import FigureCanvasSVG

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"
_NUMBERS = ("d", "x", "y", "width", "height", "transform", "points")
_PRESENTATION = (
    "fill",
    "fill-opacity",
    "font-size",
    "opacity",
    "stroke",
    "stroke-dasharray",
    "stroke-dashoffset",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-opacity",
    "stroke-width",
    "text-anchor",
)

ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _LINK)


class Ink(str, Enum):
    """What a colour means; the value stands for it while a figure is drawn."""

    TEXT = "#000001"
    MUTED = "#000002"
    LINE = "#000003"
    HEAD = "#000004"
    BASELINE = "#000005"
    LIMIT = "#000006"
    BEYOND = "#000007"
    PAPER = "#000008"


_PAGE_COLOURS = {
    Ink.TEXT.value: "currentColor",
    Ink.MUTED.value: "var(--muted)",
    Ink.LINE.value: "var(--line)",
    Ink.HEAD.value: "var(--head)",
    Ink.BASELINE.value: "var(--baseline)",
    Ink.LIMIT.value: "var(--limit)",
    Ink.BEYOND.value: "var(--beyond)",
    Ink.PAPER.value: "var(--panel)",
}

in_own_style = style.context(["default", {"svg.fonttype": "none", "text.parse_math": False}])
"""Decorates what draws, so that nobody's matplotlibrc changes it, and no text is taken for a formula."""


def to_svg(figure: Figure, *, name: str, label: str) -> str:
    """Draw a figure.

    Args:
        figure: what to draw, in the colours of ``Ink``.
        name: unique on the page; what parts of the drawing refer to each other by is made from it.
        label: what the picture shows, for those who do not see it.
    """
    with mpl.rc_context({"svg.hashsalt": name}):
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]  # untyped there
    root = ElementTree.fromstring(buffer.getvalue())
    _keep_drawing_alone(root)
    for element in root.iter():
        take_style_apart(element)
    _drop_unused_names(root)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode"))


def _keep_drawing_alone(root: ElementTree.Element) -> None:
    """Remove metadata and style sheets."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)


def take_style_apart(element: ElementTree.Element) -> None:
    """Turn a style into attributes, which a page that allows no inline style shows, in the page's colours.

    A font is its size alone, since the family is the page's; matplotlib before 3.11 writes all of it as one property.
    """
    style = element.attrib.pop("style", "")
    for declaration in filter(None, map(str.strip, style.split(";"))):
        name, _, value = declaration.partition(":")
        name, value = name.strip(), value.strip()
        if name == "font":
            size = re.search(r"[\d.]+px", value)
            name, value = "font-size", size[0] if size else "10px"
        if name in _PRESENTATION:
            element.set(name, _PAGE_COLOURS.get(value, value))
    for name in _NUMBERS:
        if name in element.attrib:
            element.set(name, re.sub(r"(\.\d\d)\d+", r"\1", element.attrib[name]))


def _drop_unused_names(root: ElementTree.Element) -> None:
    """Remove every id that nothing refers to, since each figure has the same ones."""
    text = " ".join(value for element in root.iter() for key, value in element.attrib.items() if key != "id")
    used = set(re.findall(r"#([\w-]+)", text))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
