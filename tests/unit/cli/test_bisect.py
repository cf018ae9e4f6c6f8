"""``nnopt bisect`` on a real repository, with a pytest that only says what the commit at hand is."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.against.bisection import BAD, CANNOT_RUN, GOOD
from pytest_nnopt.cli.bisect import judge_trial
from pytest_nnopt.model import Outcome
from pytest_nnopt.results import CaseResult

if TYPE_CHECKING:
    from conftest import Nnopt  # type: ignore[import-not-found]

PYTEST = """
import json, pathlib, sys
number = int(pathlib.Path("number").read_text())
options = dict(a.split("=", 1) for a in sys.argv if a.startswith("--") and "=" in a)
base = options.get("--nnopt-against")
with open("calls", "a") as calls:
    calls.write(" ".join([str(number), *sys.argv[1:]]) + "\\n")
if number in BROKEN:
    print("no module named gone")
    sys.exit(2)
is_slow = base is not None and number >= 3 and (not base.endswith("^") or number == 3)
outcome = "failed" if is_slow else "passed"
check = {"name": "latency", "outcome": outcome, "reason": f"latency of {number} is so", "details": ["eager did not"]}
wrong = {"name": "numerics", "outcome": "failed" if WRONG else "passed", "reason": "the numbers"}
case = {"id": "t.py::t", "outcome": "failed" if WRONG else outcome, "checks": [check, wrong]}
results = {"schema": 1, "environment": {}, "cases": [case]}
pathlib.Path(options["--nnopt-json"]).write_text(json.dumps(results))
sys.exit(int(is_slow))
"""


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def make_history(*, broken: Sequence[int] = (), is_wrong: bool = False) -> None:
    """Make commits 0 to 5, of which the third made it slower, beside a pytest of our own."""
    git("init", "-q", "-b", "main")
    for number in range(6):
        Path("number").write_text(str(number))
        git("add", "number")
        git("commit", "-qm", f"number {number}")
    Path("pytest.py").write_text(f"BROKEN, WRONG = {tuple(broken)}, {is_wrong}\n{PYTEST}")


def test_it_names_the_commit_and_shows_the_evidence(nnopt: Nnopt) -> None:
    make_history(broken=[1])
    said = nnopt("bisect", "HEAD~5", "main", "t.py::t", "--nnopt-effect=5%")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0] == "first bad commit:"
    assert lines[1].endswith(" a: number 3")
    assert "  t.py::t: latency of 3 is so" in lines
    assert "    eager did not" in [line[2:] for line in lines]
    assert lines[-1] == "against its parent: latency of 3 is so"
    assert git("symbolic-ref", "--short", "HEAD") == "main"
    calls = Path("calls").read_text().splitlines()
    assert calls[0].startswith("5 --nnopt-effect=5% --nnopt-against=")
    assert all("--nnopt-only=latency" in call for call in calls[1:]), "later steps look at what failed alone"


def test_commits_that_cannot_run_are_named_together(nnopt: Nnopt, tmp_path: Path) -> None:
    make_history(broken=[2, 3])
    said = nnopt("bisect", "HEAD~5", "HEAD", "t.py::t", "--json", f"--keep={tmp_path / 'kept'}")
    assert said.status == 1
    found = said.json()
    assert [suspect["subject"] for suspect in found["suspects"]] == ["number 4", "number 3", "number 2"]
    assert found["evidence"]["reason"] == "latency of 4 is so"
    assert found["against_parent"] is None
    assert any("no module named gone" in path.read_text() for path in (tmp_path / "kept").glob("*.trial"))


def test_without_a_regression_there_is_nothing_to_search(nnopt: Nnopt) -> None:
    make_history()
    said = nnopt("bisect", "HEAD~5", "HEAD~3", "t.py::t")
    assert said.status == 4
    assert "shows no regression against" in said.err
    assert "latency of 2 is so" in said.err


def test_what_fails_in_the_good_commit_is_no_regression(nnopt: Nnopt) -> None:
    make_history(is_wrong=True)
    said = nnopt("bisect", "HEAD~5", "HEAD~4", "t.py::t")
    assert said.status == 4
    assert "the case fails in " in said.err
    assert git("symbolic-ref", "--short", "HEAD") == "main"


@pytest.mark.parametrize(
    ("outcomes", "answer"),
    [
        ({"latency": "passed", "memory": "failed"}, GOOD),
        ({"latency": "improved"}, GOOD),
        ({"latency": "failed"}, BAD),
        ({"latency": "inconclusive"}, CANNOT_RUN),
        ({"latency": "skipped"}, CANNOT_RUN),
        ({"memory": "passed"}, CANNOT_RUN),
    ],
)
def test_a_commit_is_judged_by_what_was_asked(outcomes: dict[str, Any], answer: int) -> None:
    checks = [{"name": name, "outcome": outcome, "reason": "so"} for name, outcome in outcomes.items()]
    worst = max(map(Outcome, outcomes.values()), key=lambda outcome: outcome.severity)
    case = CaseResult.model_validate({"id": "t", "outcome": worst, "checks": checks})
    assert judge_trial("abc", [case], ["latency"]).answer == answer
