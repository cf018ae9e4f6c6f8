from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from html.parser import HTMLParser

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.report.html.page import render_html
from pytest_nnopt.results import RunResults
from tests.builders import make_check
from tests.samples import make_case, make_context, make_leaf, sample_run

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@cache
def sample_page() -> str:
    """The page of the sample, drawn once."""
    return render_html(sample_run())


class Elements(HTMLParser):
    """Gathers each element's name and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def hostile_run() -> RunResults:
    """A run in which every text wants to be more than text."""
    case = make_case(
        HOSTILE,
        make_check(CheckName.NUMERICS, Outcome.FAILED, HOSTILE, details=(HOSTILE,)),
        context=make_context(
            environment={HOSTILE: HOSTILE},
            baseline_environment={"cpu": HOSTILE},
            leaves=(make_leaf(HOSTILE, note=HOSTILE),),
        ),
    )
    return RunResults(environment={"cpu": HOSTILE}, cases=(case,))


def test_hostile_texts_stay_texts() -> None:
    page = render_html(hostile_run())
    elements = Elements(page).found
    assert [tag for tag, _ in elements].count("script") == 1
    assert not [tag for tag, _ in elements if tag in ("img", "iframe", "object", "embed", "base", "form")]
    assert not [attributes for _, attributes in elements if any(name.startswith("on") for name in attributes)]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_policy_allows_only_the_pages_own_script_and_style() -> None:
    page = sample_page()
    (policy,) = (
        attributes["content"] or ""
        for tag, attributes in Elements(page).found
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_nothing_is_loaded_from_anywhere() -> None:
    page = sample_page()
    addresses = [
        value
        for _, attributes in Elements(page).found
        for name, value in attributes.items()
        if name in ("href", "src", "xlink:href") and value
    ]
    assert addresses
    assert {address[0] for address in addresses if address != "data:,"} == {"#"}
    assert "@import" not in page
    assert "url(http" not in page


def test_no_element_carries_a_style_of_its_own_and_no_name_is_there_twice() -> None:
    elements = Elements(sample_page()).found
    assert not [tag for tag, attributes in elements if "style" in attributes]
    names = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(names) == len(set(names))


def test_the_same_results_make_the_same_page() -> None:
    assert render_html(sample_run()) == sample_page()


def test_a_run_without_cases_says_so() -> None:
    page = render_html(RunResults(environment={}, cases=()))
    assert "<title>No case was measured · nnopt</title>" in page
    assert "The results file holds no case." in page


def test_a_single_failure_is_open() -> None:
    failed = make_case("test_a", make_check(outcome=Outcome.FAILED))
    passed = make_case("test_b", make_check())
    page = render_html(RunResults(environment={}, cases=(passed, failed)))
    opened = ["open" in attributes for tag, attributes in Elements(page).found if tag == "details"]
    assert opened == [True, False]
