"""A run spread over jobs: each runs its share of the cases, and says in its results file which it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project  # type: ignore[import-not-found]

THREE = """
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_model(model_pair, name):
    model_pair(Model(), x)

def test_plain():
    pass
"""


def test_shards_run_all_cases_once_and_say_which_they_are(project: Project) -> None:
    project.write_tests(THREE)
    found = []
    for index in (1, 2):
        result = project.run(f"--nnopt-shard={index}/2", f"--nnopt-json=shard-{index}.json", "--nnopt-only=compile")
        assert result.ret == 0
        result.assert_outcomes(passed=1 + (2 if index == 1 else 1), deselected=index)
        written = project.results(f"shard-{index}.json")
        assert written["shard"] == {"index": index, "count": 2}
        found += [case["id"] for case in written["cases"]]
    assert sorted(found) == [f"test_model.py::test_model[{name}]" for name in "abc"]


def test_an_impossible_shard_is_a_usage_error(project: Project) -> None:
    project.write_tests(THREE)
    result = project.run("--nnopt-shard=3/2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--nnopt-shard=3/2 is no shard; write the first of three as 1/3*"])


def test_a_measuring_process_runs_what_it_is_told(project: Project) -> None:
    project.write_tests("@pytest.mark.nnopt_speedup(min=1.5)" + THREE)
    result = project.run_apart("--nnopt-shard=2/3", "--nnopt-only=speedup")
    result.assert_outcomes(passed=2, deselected=2)


def test_a_whole_run_has_no_shard(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI_NODE_INDEX", "CIRCLE_NODE_INDEX", "BUILDKITE_PARALLEL_JOB"):
        monkeypatch.delenv(name, raising=False)
    project.write_tests(THREE)
    project.run("--nnopt-only=compile", "--nnopt-json=results.json")
    assert not {"shard", "parts", "conflicts"} & project.results().keys()
