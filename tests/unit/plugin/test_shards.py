"""A run knows which part of the whole it is: by its own option, another plugin's, or the CI system."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_nnopt.plugin.shards import Shard, left_out, parse_shard, shard_of


def config(**options: Any) -> Any:
    return SimpleNamespace(option=SimpleNamespace(**{"nnopt_shard": None, **options}))


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ({}, {}, None),
        ({"nnopt_shard": "2/3"}, {"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "3"}, Shard(2, 3, is_ours=True)),
        ({"splits": 4, "group": 4}, {}, Shard(4, 4)),
        ({"splits": None, "group": None}, {}, None),
        ({"num_shards": 4, "shard_id": 0}, {}, Shard(1, 4)),
        ({"num_shards": 1, "shard_id": 0}, {}, None),
        ({}, {"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "3"}, Shard(2, 3)),
        ({}, {"CI_NODE_TOTAL": "1"}, None),
        ({}, {"CIRCLE_NODE_INDEX": "0", "CIRCLE_NODE_TOTAL": "2"}, Shard(1, 2)),
        ({}, {"CIRCLE_NODE_INDEX": "0", "CIRCLE_NODE_TOTAL": "1"}, None),
        ({}, {"BUILDKITE_PARALLEL_JOB": "1", "BUILDKITE_PARALLEL_JOB_COUNT": "2"}, Shard(2, 2)),
        ({}, {"CI_NODE_INDEX": "7", "CI_NODE_TOTAL": "3"}, None),
    ],
)
def test_the_shard_of_a_run(options: dict[str, Any], variables: dict[str, str], expected: Shard | None) -> None:
    assert shard_of(config(**options), variables) == expected


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "a/b", "-1/3", "1/3/5", "1/3 "])
def test_what_is_no_shard_is_a_usage_error(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="write the first of three as 1/3"):
        parse_shard(text)


def test_two_plugins_do_not_select_at_once() -> None:
    with pytest.raises(pytest.UsageError, match="--nnopt-shard and pytest-split both select"):
        shard_of(config(nnopt_shard="1/2", splits=2, group=1), {})


def test_shards_share_all_cases_whatever_the_order() -> None:
    ids = [f"t.py::test_{index}" for index in range(7)]
    kept = [set(ids) - left_out(Shard(index, 3), ids) for index in (1, 2, 3)]
    assert sorted(case_id for shard in kept for case_id in shard) == ids
    assert kept[1] == set(ids) - left_out(Shard(2, 3), ids[::-1])
    assert [len(shard) for shard in kept] == [3, 2, 2]
