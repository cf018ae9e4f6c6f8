"""The pytest side of a test that runs in several ranks: its shell in the run, and the hooks of a rank."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_nnopt.errors import MeasurementError

if TYPE_CHECKING:
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.session.shell import Shell
    from pytest_nnopt.session.teams import TeamChannel


def put_into_shell(item: pytest.Item, gate: Gate, keep: Callable[[Shell | None], None]) -> None:
    """Let a test's ranks set up its fixtures and run its body; here it is but reported, like any other test.

    Args:
        item: the test.
        gate: the run's gate.
        keep: takes what stands for the test's ``model_pair``, before and (None) after it runs.
    """
    from pytest_nnopt.session.shell import Shell

    def setup() -> None:
        keep(Shell(item.nodeid, gate))

    def run() -> None:
        shell = Shell(item.nodeid, gate)
        keep(shell)
        try:
            skipped = shell.run()
        except MeasurementError as error:
            pytest.fail(str(error), pytrace=False)
        if skipped is not None:
            pytest.skip(skipped)

    item.setup = setup  # type: ignore[method-assign]
    item.runtest = run  # type: ignore[method-assign]
    item.teardown = lambda: keep(None)  # type: ignore[method-assign]


class Rank:
    """Hooks of a rank.

    Args:
        config: the rank's pytest.
    """

    def __init__(self, config: pytest.Config) -> None:
        from pytest_nnopt.session.teams import TeamChannel, read_orders
        from pytest_nnopt.torch_backend.team import join_team

        place = Path(config.option.nnopt_team)
        self.orders = read_orders(place)
        self.team = join_team(self.orders.backend, self.orders.timeout_seconds)
        self.channel: TeamChannel = TeamChannel(self.team, place)
        self._config = config
        self._has_failed = False
        self._skipped: str | None = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of a file that cannot be imported."""
        if report.failed:
            self._fail(str(report.longrepr))

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell of a failure, and send what the test came to once its body has passed."""
        from pytest_nnopt.session.protocol import Concluded

        if report.failed:
            if not self._is_done:
                self._fail(report.longreprtext)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._tell(Concluded(skipped=reason.removeprefix("Skipped: ")))
        elif report.when == "call" and self.orders.case_id is None:
            texts = getattr(report, "nnopt_cases", ())
            self._tell(Concluded.model_validate({"cases": [_parsed(text) for text in texts]}))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Leave at once: the launcher sees to the other ranks, and nobody waits for this one's garbage."""
        sys.stdout.flush()
        sys.stderr.flush()
        is_well = self._is_done or (not self._has_failed and exitstatus == pytest.ExitCode.OK)
        os._exit(0 if is_well else max(1, int(exitstatus)))

    @property
    def _is_done(self) -> bool:
        """Whether this is a measuring team that was told to stop, which ends the test's body by an exception."""
        from pytest_nnopt.plugin.run import gate_of

        worker = gate_of(self._config).worker
        return worker is not None and worker.is_done

    def _fail(self, text: str) -> None:
        from pytest_nnopt.torch_backend.team import report_failure

        self._has_failed = True
        report_failure(text)

    def _tell(self, message: Any) -> None:
        if self.team.is_lead and self.orders.case_id is None:
            self.channel.send(message)


def _parsed(text: str) -> Any:
    from pytest_nnopt.results import CaseMessage

    return CaseMessage.model_validate_json(text)
