from __future__ import annotations

from typing import Any

import pytest

from pytest_nnopt.model import CheckName
from pytest_nnopt.verdict.counters import Figure
from tests.builders import make_question


@pytest.mark.parametrize(
    ("now", "before", "has_grown", "has_fallen"),
    [(2, 1, True, False), (1, 2, False, True), (1, 1, False, False), (None, 1, False, False), (1, None, False, False)],
)
def test_what_is_unknown_neither_grew_nor_fell(
    now: int | None, before: int | None, has_grown: bool, has_fallen: bool
) -> None:
    figure = Figure("recompiles", now, before)
    assert (figure.has_grown, figure.has_fallen) == (has_grown, has_fallen)


def test_an_unknown_figure_is_called_so() -> None:
    assert Figure("recompiles", None, 2).change == "recompiles 2 → unknown"


@pytest.mark.parametrize(
    ("purpose", "is_wanted"), [({}, False), ({"is_comparing": True}, True), ({"is_updating": True}, True)]
)
def test_compiling_is_timed_where_it_is_compared_or_recorded(purpose: dict[str, Any], is_wanted: bool) -> None:
    assert make_question(**purpose).wants_compile_time is is_wanted
    assert not make_question(asked=frozenset({CheckName.COMPILE}), **purpose).wants_compile_time
