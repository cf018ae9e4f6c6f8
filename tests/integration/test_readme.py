"""The README's example works as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

README = Path(__file__).parents[2] / "README.md"


def example() -> str:
    """Return the README's first Python block, compiled by a backend that needs no C++ compiler."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return str(blocks[0]).replace("dynamic=False", 'dynamic=False, backend="aot_eager"')


def test_the_example_passes_and_its_broken_version_names_the_line(project: Project) -> None:
    project.write_tests(example(), prelude="", name="test_net")
    project.run("--nnopt-only=compile,numerics", "--nnopt-update").assert_outcomes(passed=1)
    project.run("--nnopt-only=compile,numerics", "--nnopt-baseline").assert_outcomes(passed=1)
    broken = example().replace("        return self.norm(y)", "        print(y.mean())\n        return self.norm(y)")
    project.write_tests(broken, prelude="", name="test_net")
    result = project.run("--nnopt-only=compile,numerics", "--nnopt-baseline")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 graph break, the limit is 0*", "*test_net.py:*", "*print(y.mean())*"])


def test_every_option_of_the_readme_exists(project: Project) -> None:
    known = project.run("--help").stdout.str()
    for option in set(re.findall(r"--nnopt-[a-z-]+", README.read_text(encoding="utf-8"))):
        assert option in known, option
