"""The page itself: the view in a template that escapes everything, under a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pytest_nnopt import __version__
from pytest_nnopt.report.html.view import view_run

if TYPE_CHECKING:
    from pytest_nnopt.results import RunResults

_FILES = resources.files("pytest_nnopt.report.html") / "templates"


def render_html(results: RunResults) -> str:
    """Return a page that shows a run: complete in itself, loading nothing, working without scripts, too.

    Every text of the results is escaped. The page's content policy lets only its own script and style work, by their
    hashes, so that even a text that slipped through would do nothing.
    """
    style, script = _read("page.css"), _read("page.js")
    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        page=view_run(results),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        drawing=Markup,
        version=__version__,
    )


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")
