from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.model import (
    CheckName,
)
from tests.builders import (
    make_config,
    make_question,
)


def only(*names: CheckName) -> frozenset[CheckName]:
    return frozenset(names)


@pytest.mark.parametrize(
    ("config", "fields", "wants"),
    [
        ({}, {}, False),
        ({"min_speedup": 1.1}, {}, True),
        ({"min_speedup": 1.1}, {"asked": only(CheckName.LATENCY)}, False),
        ({}, {"is_comparing": True}, True),
        ({}, {"is_updating": True}, True),
        ({}, {"is_updating": True, "asked": only(CheckName.COMPILE, CheckName.NUMERICS)}, False),
    ],
)
def test_times_are_wanted_for_a_minimum_a_comparison_or_a_recording(
    config: dict[str, Any], fields: dict[str, Any], wants: bool
) -> None:
    assert make_question(make_config(**config), **fields).wants_timing is wants


def test_memory_is_wanted_for_a_comparison_or_a_recording() -> None:
    assert make_question(is_comparing=True).wants_memory
    assert make_question(is_updating=True).wants_memory
    assert not make_question().wants_memory
