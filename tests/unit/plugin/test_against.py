"""What a run of the base's test says where it hands over no case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.plugin.against import BaseTest

if TYPE_CHECKING:
    from pytest_nnopt.session.protocol import Absence


class Role:
    """Keeps what is reported."""

    test: Any = None

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def report_absence(self, absence: Absence) -> None:
        self.kinds.append(absence.kind)


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        (pytest.ExitCode.USAGE_ERROR, ["missing"]),
        (pytest.ExitCode.NO_TESTS_COLLECTED, ["missing"]),
        (pytest.ExitCode.OK, []),
        (pytest.ExitCode.INTERNAL_ERROR, []),
    ],
)
def test_a_test_is_new_only_where_pytest_has_not_found_it(status: int, kinds: list[str]) -> None:
    role = Role()
    BaseTest(role).pytest_sessionfinish(status)  # type: ignore[arg-type]  # all that it needs of a role
    assert role.kinds == kinds


def test_a_test_that_passes_does_not_use_the_fixture(request: pytest.FixtureRequest) -> None:
    role = Role()
    run = BaseTest(role)  # type: ignore[arg-type]  # all that it needs of a role
    run.pytest_runtest_setup(request.node)
    run.pytest_sessionfinish(pytest.ExitCode.OK)
    assert role.kinds == ["unused"]
    assert role.test is test_a_test_that_passes_does_not_use_the_fixture
