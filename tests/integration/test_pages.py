"""The code of the how-to pages works as they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

DOCS = Path(__file__).parents[2] / "docs"
QUICKLY = ("--nnopt-only=compile,numerics", "-Wignore")


def test_the_candidates_pass_and_the_quantised_one_needs_its_tolerance(project: Project) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "candidates.md").read_text(encoding="utf-8"), re.DOTALL)
    project.write_tests(code, prelude="")
    project.run(*QUICKLY).assert_outcomes(passed=2)
    project.write_tests(re.sub(r"@pytest\.mark\.nnopt_tolerance.*\n", "", code), prelude="")
    project.run(*QUICKLY).assert_outcomes(passed=1, failed=1)
