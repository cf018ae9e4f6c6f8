"""What the site adds to the pages in ``docs/``: further files of the repository, and links that work from both.

Pages are written to be read in the repository, too. So links lead to files as they lie there; the site holds some of
those as pages of its own, and names the others without a link.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
_SOURCES = {
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "examples/README.md": "project/examples.md",
    "examples/ci/README.md": "project/ci.md",
}
"""Files of the repository that are pages of the site, and what they are there."""

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Put what no page of the navigation names behind it, so that a new page is never lost."""
    named = set(_named(config.nav))
    docs = Path(config.docs_dir)
    others = sorted(path.name for path in docs.glob("*.md") if path.name not in named)
    config.nav += [
        *([{"More": [{_title(docs / name): name} for name in others]}] if others else []),
        {"Decisions": [{_title(path): f"decisions/{path.name}"} for path in sorted((docs / "decisions").glob("*.md"))]},
        {"Measurements": [{_title(path): page} for path, page in _measurements()]},
        {"Project": [{_title(ROOT / source): page} for source, page in _SOURCES.items()]},
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the files of the repository that are pages here."""
    for source, page in [*_SOURCES.items(), *((_relative(path), page) for path, page in _measurements())]:
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to files of the repository to their pages, or name what has none."""
    source = _relative(Path(page.file.abs_src_path))
    return _LINK.sub(lambda link: _relink(link, source, page.file.src_uri), markdown)


def _relink(link: re.Match[str], source: str, page: str) -> str:
    """Return a link of a file of the repository as its page has it; what leads nowhere stays, and fails the build."""
    mark, text, target = link.groups()
    if re.match(r"[a-z]+:|#|/", target):
        return link[0]
    path, hash_mark, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    pages = {**_SOURCES, **{_relative(file): page for file, page in _measurements()}}
    there = pages.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if there is not None and not (ROOT / "docs" / there).is_dir():
        return f"{mark}[{text}]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{hash_mark}{anchor})"
    return (text if text.startswith("`") else f"`{path}`") if (ROOT / path).exists() else link[0]


def _measurements() -> Iterator[tuple[Path, str]]:
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.md")):
        yield path, f"measurements/{path.name}"


def _named(nav: Any) -> Iterator[str]:
    for entry in nav:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from _named(value)


def _title(path: Path) -> str:
    """Return a page's own heading, or its name where it has none."""
    heading = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return heading[1] if heading else path.stem.replace("_", " ").capitalize()


def _relative(path: Path) -> str:
    return Path(os.path.relpath(path, ROOT)).as_posix()
