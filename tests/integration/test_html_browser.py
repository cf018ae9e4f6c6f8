"""The HTML report in a real browser: what a reviewer sees, at the widths of a telephone and of a desk."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_nnopt.report.html.page import render_html
from tests.samples import sample_run
from tests.unit.report.html.test_page import hostile_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

pytestmark = pytest.mark.browser

WIDTHS = (360, 1280)

OVERLAPS = """() => {
  const looked = 'summary > *, .checks > li > *, .pictures > *, .diff > li > *, td, th, .chip, button, input, svg text';
  const boxes = [...document.querySelectorAll(looked)]
    .filter((one) => one.checkVisibility() && one.textContent.trim() !== '')
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0 && box.height > 0);
  const text = (one) => one.textContent.trim().slice(0, 60);
  const found = [];
  for (const [index, [one, a]] of boxes.entries()) for (const [other, b] of boxes.slice(index + 1)) {
    if (one.contains(other) || other.contains(one)) continue;
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (width > 2 && height > 3) found.push(`${text(one)} | ${text(other)}`);
  }
  return found;
}"""

OUTSIDE = """() => [...document.querySelectorAll('body *')]
  .filter((one) => one.checkVisibility() && !one.closest('svg') && one.getBoundingClientRect().right > innerWidth + 0.5)
  .map((one) => one.tagName + ' ' + one.className)"""


@dataclass
class Report:
    """A report opened in the browser, with everything that the browser complained about."""

    browser: Browser
    path: Path
    complaints: list[str] = field(default_factory=list)

    def open(self, width: int = 1280, scheme: Literal["light", "dark"] = "light", anchor: str = "", **how: Any) -> Page:
        """Open the page as from a folder of artifacts, with no network to reach."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, **how
        )
        page = context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._complain_of)
        page.goto(f"{self.path.as_uri()}{anchor}")
        return page

    def _complain_of(self, dialog: Dialog) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(scope="module")
def sample_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "nnopt.html"
    path.write_text(render_html(sample_run()), encoding="utf-8")
    return path


@pytest.fixture
def report(browser: Browser, sample_path: Path) -> Generator[Report, None, None]:
    """Open the sample's report in tabs that are closed again."""
    report = Report(browser, sample_path)
    yield report
    for context in browser.contexts:
        context.close()


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


def visible_names(page: Page) -> list[str]:
    return page.locator(".case:visible h2").all_inner_texts()


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_fits_and_nothing_overlaps(report: Report, width: int) -> None:
    page = report.open(width)
    open_all(page)
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(OVERLAPS) == []
    assert page.locator("figure svg").count() >= 15
    assert report.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_the_page_is_accessible(report: Report, width: int, scheme: Literal["light", "dark"]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = report.open(width, scheme)
    open_all(page)
    found = axe.Axe().run(page)
    assert found.response["passes"]
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found.response["violations"]] == []


def test_failures_are_seen_first_with_their_reasons(report: Report) -> None:
    page = report.open(360)
    assert page.locator("h1").inner_text() == "3 of 9 cases failed"
    first = page.locator(".case").first.bounding_box()
    assert first is not None
    assert first["y"] + first["height"] < 900
    assert page.locator(".case").first.locator("strong").first.inner_text() == "compile"


def test_cases_are_filtered_by_outcome_and_text(report: Report) -> None:
    page = report.open()
    assert len(visible_names(page)) == 9
    page.get_by_role("button", name="passed 3").click()
    assert visible_names(page) == ["test_family[resnet]", "test_family[unet]", "test_family[vit]"]
    assert page.get_by_role("status").inner_text() == "3 of 9 shown"
    page.get_by_role("searchbox").fill("VIT test_zoo")
    assert visible_names(page) == ["test_family[vit]"]
    page.get_by_role("searchbox").fill("no such case")
    assert visible_names(page) == []
    assert page.get_by_text("No case fits this filter.").is_visible()
    page.get_by_role("button", name="All 9").click()
    page.get_by_role("searchbox").fill("graph break")
    assert visible_names(page) == ["test_policy_value_net[batch=64-width=128]"]
    assert report.complaints == []


def test_all_cases_open_and_close_at_once(report: Report) -> None:
    page = report.open()
    page.get_by_role("button", name="failed 2").click()
    page.get_by_role("button", name="Open all").click()
    assert page.locator(".case[open]").count() == 2
    page.get_by_role("button", name="Close all").click()
    assert page.locator(".case[open]").count() == 0


def test_the_theme_follows_the_system_until_it_is_chosen(report: Report) -> None:
    page = report.open(scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    line = "getComputedStyle(document.querySelector('.case figure svg path[stroke]')).stroke"
    open_all(page)
    dark, dark_line = page.evaluate(background), page.evaluate(line)
    button = page.get_by_role("button", name="Theme")
    button.click()
    assert button.inner_text() == "Theme: light"
    assert page.evaluate(background) != dark
    assert page.evaluate(line) != dark_line
    page.reload()
    assert button.inner_text() == "Theme: light"
    button.click()
    assert page.evaluate(background) == dark


def test_a_link_to_a_case_opens_it(report: Report) -> None:
    anchor = report.open().locator(".case").nth(4).get_attribute("id")
    page = report.open(anchor=f"#{anchor}")
    assert page.locator(".case[open]").count() == 1
    assert page.locator(f"#{anchor} .body").is_visible()


def test_the_page_can_be_used_by_keyboard_and_without_scripts(report: Report) -> None:
    page = report.open(java_script_enabled=False)
    assert not page.locator("#tools").is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator(".case").first.locator(".body").is_visible()


def test_hostile_texts_do_nothing(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(render_html(hostile_run()), encoding="utf-8")
    report = Report(browser, path)
    page = report.open(360)
    open_all(page)
    assert page.locator("h2").inner_text().startswith("<script>alert(1)</script>")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert report.complaints == []


def test_a_script_that_slipped_in_would_be_refused(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "slipped.html"
    page_text = render_html(hostile_run()).replace("</main>", "<script>document.title = 'taken'</script></main>")
    path.write_text(page_text, encoding="utf-8")
    report = Report(browser, path)
    assert report.open().title() == "1 of 1 case failed · nnopt"
    assert any("Content Security Policy" in complaint for complaint in report.complaints)
