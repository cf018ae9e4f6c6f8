"""A test that runs in ranks is reported like any other: judged, skipped, or failed by a rank that died."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.config import CaseConfig, RanksConfig, load_settings
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.model import Outcome
from pytest_nnopt.results import CaseMessage
from pytest_nnopt.session import shell as module
from pytest_nnopt.session.gate import Gate, Purpose
from pytest_nnopt.session.processes import Launch
from pytest_nnopt.session.protocol import Concluded
from pytest_nnopt.session.shell import Shell
from pytest_nnopt.session.teams import Orders, TeamError
from tests.builders import CASE_ID, make_check, make_message, make_result

FAILED = make_message(make_result(make_check(outcome=Outcome.FAILED, reason="off by one")))


class FakeTeam:
    """A team that concludes, or fails, as it is told; it keeps its orders."""

    answer: Concluded | MeasurementError
    orders: Orders

    def __init__(self, launch: Launch, test_id: str, orders: Orders) -> None:
        assert launch.ranks is not None
        FakeTeam.orders = orders

    def conclude(self) -> Concluded:
        if isinstance(FakeTeam.answer, MeasurementError):
            raise FakeTeam.answer
        return FakeTeam.answer

    def stop(self) -> None:
        pass


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(module, "ConcludingTeam", FakeTeam)
    config = CaseConfig(ranks=RanksConfig(count=2, backend="gloo", timeout=60.0))
    store = BaselineStore(tmp_path)
    return Gate(load_settings({}, {}), store, Purpose.CHECK, launch=Launch((), tmp_path), configs={CASE_ID: config})


def test_what_the_ranks_conclude_is_the_tests_own(gate: Gate) -> None:
    FakeTeam.answer = Concluded(cases=(FAILED,))
    shell = Shell(CASE_ID, gate)
    assert shell.run() is None
    assert "off by one" in str(shell.conclude())
    assert [CaseMessage.model_validate_json(text) for text in shell.messages()] == [FAILED]
    assert shell.properties()
    assert FakeTeam.orders == Orders(count=2, backend="gloo", timeout_seconds=60.0, suite_size=1)


def test_a_rerun_tells_the_ranks_of_earlier_attempts_at_this_test(gate: Gate) -> None:
    gate.earlier["another"] = make_result(case_id="another")
    FakeTeam.answer = Concluded(cases=(FAILED,))
    Shell(CASE_ID, gate).run()
    Shell(CASE_ID, gate).run()
    assert FakeTeam.orders.earlier == (FAILED.result,)


def test_a_test_that_all_ranks_skip_is_skipped(gate: Gate) -> None:
    FakeTeam.answer = Concluded(skipped="no such device")
    shell = Shell(CASE_ID, gate)
    assert shell.run() == "no such device"
    assert shell.conclude() is None


def test_a_dead_rank_leaves_a_failed_case(gate: Gate) -> None:
    FakeTeam.answer = TeamError("rank 1 was ended by SIGKILL\n  last words", has_died=True)
    shell = Shell(CASE_ID, gate)
    with pytest.raises(TeamError):
        shell.run()
    (message,) = [CaseMessage.model_validate_json(text) for text in shell.messages()]
    assert message.result.outcome is Outcome.FAILED
    assert message.result.checks[0].reason == "rank 1 was ended by SIGKILL"
    assert message.result.checks[0].details == ("  last words",)


def test_an_assertion_of_the_tests_own_leaves_no_case(gate: Gate) -> None:
    FakeTeam.answer = TeamError("rank 0 failed\n  assert 1 == 2", has_died=False)
    shell = Shell(CASE_ID, gate)
    with pytest.raises(TeamError, match="assert 1 == 2"):
        shell.run()
    assert shell.messages() == []


def test_without_a_way_to_start_processes_nothing_passes(gate: Gate) -> None:
    gate.launch = None
    with pytest.raises(MeasurementError, match="no process can be started here"):
        Shell(CASE_ID, gate).run()
