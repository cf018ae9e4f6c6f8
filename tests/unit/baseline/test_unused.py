from __future__ import annotations

import pytest

from pytest_nnopt.baseline.unused import Coverage, unused_cases

TEST = "tests/test_a.py::test"


def coverage(**fields: list[str]) -> Coverage:
    usual = {"places": ["tests"], "tests": [TEST], "completed": [TEST], "cases": [TEST]}
    return Coverage(**{**usual, **fields})


@pytest.mark.parametrize(
    ("case_id", "fields", "is_unused"),
    [
        (TEST, {}, False),
        ("tests/test_a.py::test_gone", {}, True),
        ("tests/test_gone.py::test", {}, True),
        ("elsewhere/test_gone.py::test", {}, False),
        ("tests_too/test_gone.py::test", {}, False),
        ("elsewhere/test_gone.py::test", {"places": ["."]}, True),
        ("tests/test_a.py::test_gone", {"places": ["tests/test_a.py"]}, True),
        ("tests/test_b.py::test_gone", {"places": ["tests/test_a.py"]}, False),
        ("tests/test_b.py::test_gone", {"skipped": ["tests/test_b.py"]}, False),
        (f"{TEST}#old", {}, True),
        (f"{TEST}#first", {"cases": [f"{TEST}#first"]}, False),
        (f"{TEST}#old", {"completed": []}, False),
        ("tests/test_a.py::test[a#b]", {"tests": ["tests/test_a.py::test[a#b]"], "completed": []}, False),
        ("tests/test_a.py::test[3]", {}, True),
        (TEST, {"places": []}, False),
    ],
)
def test_a_baseline_is_unused_where_all_tests_were_collected_and_none_asks_for_it(
    case_id: str, fields: dict[str, list[str]], is_unused: bool
) -> None:
    assert unused_cases([case_id, case_id], coverage(**fields)) == ([case_id] if is_unused else [])
