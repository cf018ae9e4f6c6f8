"""Which shard of a run that is spread over several jobs this one is, and which cases belong to it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

_SPLITTERS = (("pytest-split", "group", "splits", 0), ("pytest-shard", "shard_id", "num_shards", 1))
"""Plugins that select a shard's tests: their options for its number and for how many there are, and what to add."""

_CI_VARIABLES = (
    ("CI_NODE_INDEX", "CI_NODE_TOTAL", 0),  # GitLab
    ("CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL", 1),
    ("BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT", 1),
)
"""What CI systems call the number of a parallel job and how many there are, and what to add to count from 1."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a run.

    Attributes:
        index: its number, counted from 1.
        count: how many there are.
        is_ours: whether its cases are to be selected here; else another plugin or the job's own command does it.
    """

    index: int
    count: int
    is_ours: bool = False


def shard_of(config: pytest.Config, variables: Mapping[str, str] = os.environ) -> Shard | None:
    """Return which shard a run is: as ``--nnopt-shard``, another plugin or the CI system says; None of a whole run.

    Raises:
        pytest.UsageError: the option is no shard, or another plugin selects a shard, too.
    """
    by_plugin = _of_plugins(config)
    text = config.option.nnopt_shard
    if text is None:
        return by_plugin[1] if by_plugin is not None else _of_variables(variables)
    if by_plugin is not None:
        raise pytest.UsageError(f"--nnopt-shard and {by_plugin[0]} both select a shard; give one of them")
    return parse_shard(text)


def parse_shard(text: str) -> Shard:
    """Read ``I/N``.

    Raises:
        pytest.UsageError: it is something else.
    """
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise pytest.UsageError(f"--nnopt-shard={text} is no shard; write the first of three as 1/3")
    return Shard(int(match[1]), int(match[2]), is_ours=True)


def left_out(shard: Shard, test_ids: Sequence[str]) -> set[str]:
    """Return the tests of the other shards; the order in which tests were collected does not matter."""
    return {test_id for index, test_id in enumerate(sorted(test_ids)) if index % shard.count != shard.index - 1}


def _of_plugins(config: pytest.Config) -> tuple[str, Shard] | None:
    for name, index, count, offset in _SPLITTERS:
        total, number = getattr(config.option, count, None), getattr(config.option, index, None)
        if isinstance(total, int) and isinstance(number, int) and total > 1:
            return name, Shard(number + offset, total)
    return None


def _of_variables(variables: Mapping[str, str]) -> Shard | None:
    for index, count, offset in _CI_VARIABLES:
        number, total = variables.get(index, ""), variables.get(count, "")
        if number.isdecimal() and total.isdecimal() and 1 <= int(number) + offset <= int(total) and int(total) > 1:
            return Shard(int(number) + offset, int(total))
    return None
