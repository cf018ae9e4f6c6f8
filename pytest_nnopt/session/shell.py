"""What a run knows of a test whose body runs in ranks: the team it starts, and what came of it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.host import host_facts
from pytest_nnopt.model import Check, CheckName, Outcome, Verdict
from pytest_nnopt.report.failure import describe_failures
from pytest_nnopt.report.junit import junit_properties
from pytest_nnopt.results import CaseMessage, CaseResult
from pytest_nnopt.session.processes import Ranks
from pytest_nnopt.session.teams import ConcludingTeam, Orders, TeamError

if TYPE_CHECKING:
    from pytest_nnopt.session.gate import Gate
    from pytest_nnopt.session.protocol import Concluded


class Shell:
    """Stands for a test in the run that reports it.

    Args:
        test_id: node id of the test.
        gate: the run's gate.
    """

    def __init__(self, test_id: str, gate: Gate) -> None:
        self._test_id = test_id
        self._gate = gate
        self._cases: tuple[CaseMessage, ...] = ()

    def run(self) -> str | None:
        """Run the test in its ranks, and return why all of them skip it, or None.

        Raises:
            MeasurementError: a rank died, or failed by itself.
        """
        try:
            concluded = self._conclude()
        except TeamError as error:
            if error.has_died:
                self._cases = (self._died(str(error)),)
            raise
        self._cases = concluded.cases
        self._gate.earlier.update({message.result.id: message.result for message in concluded.cases})
        return concluded.skipped

    def conclude(self) -> str | None:
        """Return why the test fails, or None."""
        return describe_failures(message.result.verdict for message in self._cases)

    def messages(self) -> list[str]:
        """Return what is known of each case, as JSON text."""
        return [message.model_dump_json() for message in self._cases]

    def properties(self) -> list[tuple[str, str]]:
        """Return short figures of each case for JUnit's properties."""
        return [item for message in self._cases for item in junit_properties(message.result)]

    def _conclude(self) -> Concluded:
        gate, config = self._gate, self._gate.configs[self._test_id].ranks
        assert config.count is not None
        if gate.launch is None:
            raise MeasurementError("no process can be started here, and the test needs several")
        ranks = Ranks(config.count, config.backend, config.timeout)
        orders = Orders(
            count=ranks.count,
            backend=ranks.backend,
            timeout_seconds=ranks.timeout_seconds,
            suite_size=max(gate.suite_size, len(gate.configs)),
            earlier=tuple(result for case_id, result in gate.earlier.items() if self._is_of_this_test(case_id)),
        )
        team = ConcludingTeam(replace(gate.launch, ranks=ranks), self._test_id, orders)
        try:
            return team.conclude()
        finally:
            team.stop()

    def _is_of_this_test(self, case_id: str) -> bool:
        return case_id == self._test_id or case_id.startswith(f"{self._test_id}#")

    def _died(self, text: str) -> CaseMessage:
        """Return the case of a rank that was ended from outside: it could not be looked at, and that is no pass."""
        summary, *details = text.splitlines()
        check = Check(CheckName.NUMERICS, Outcome.FAILED, summary, details=tuple(details))
        device = (self._gate.settings.device or "cpu").partition(":")[0]
        environment = {**host_facts(), "device": device, "torch": importlib.metadata.version("torch")}
        result = CaseResult.of(Verdict(self._test_id, (check,)), Evidence())
        return CaseMessage(result=result, environment=environment)
