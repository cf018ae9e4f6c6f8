"""The documentation site: every link leads somewhere, nothing is lost, and it can be read on a telephone."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Generator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs", reason="needs the extra docs")


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site in strict mode."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_of_the_repository_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    results = {Path("measurements", path.stem + ".html") for path in (ROOT / "benchmarks" / "results").glob("*.md")}
    assert len(results) > 3
    missing = [str(page) for page in {*pages, *results, Path("project/changelog.html")} if not (site / page).is_file()]
    assert missing == []


def test_links_to_files_of_the_repository_lead_to_their_pages_or_name_them(site: Path) -> None:
    statistics = (site / "statistics.html").read_text("utf-8")
    assert 'href="measurements/decision_simulation.html"' in statistics
    architecture = (site / "architecture.html").read_text("utf-8")
    assert "<code>pytest_nnopt/model.py</code>" in architecture
    assert "../pytest_nnopt/" not in architecture


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:[^"]*)"', page.read_text("utf-8"))
        assert loaded == [], page


def test_what_python_may_import_is_described(site: Path) -> None:
    page = (site / "api.html").read_text("utf-8")
    for name in ("compile_model", "CompileResult", "ModelPair", "to_metadata", "Observer"):
        assert name in page


class _Quietly(SimpleHTTPRequestHandler):
    """Serves files and keeps no log."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        return


@pytest.fixture(scope="module")
def address(site: Path) -> Generator[str, None, None]:
    """Serve the site to this machine alone: its search needs a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quietly, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def telephone(browser: Browser) -> Generator[Page, None, None]:
    """Open a narrow tab that must see no error."""
    context = browser.new_context(viewport={"width": 360, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["index", "tutorial", "statistics", "reference", "peers"])
def test_a_telephone_need_not_scroll_sideways(name: str, address: str, telephone: Page) -> None:
    telephone.goto(f"{address}/{name}.html")
    assert telephone.evaluate("document.documentElement.scrollWidth") == 360
    broken = "[...document.images].filter((one) => one.complete && one.naturalWidth === 0).map((one) => one.src)"
    assert telephone.evaluate(broken) == []


@pytest.mark.browser
def test_words_are_found(address: str, telephone: Page) -> None:
    telephone.goto(f"{address}/index.html?q=recompile")
    telephone.locator(".md-search-result__item a").first.wait_for(timeout=20_000)
