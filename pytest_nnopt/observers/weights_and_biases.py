"""An observer that writes a run's facts to Weights & Biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_nnopt.observers import Observer
from pytest_nnopt.observers.figures import compile_figures, measured_figures, verdict_figures

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, Evidence
    from pytest_nnopt.results import CaseResult


class WandbObserver(Observer):
    """Logs each case's figures as metrics ``<case>/<figure>``, and its outcome and reasons to the summary.

    Args:
        run: the run to write to. Without one, the first fact starts one, and wandb finishes it as the process ends.
        init: arguments of ``wandb.init`` for that.
    """

    def __init__(self, run: Any = None, **init: Any) -> None:
        self._run = run
        self._init = init

    def on_compile(self, case_id: str, compilation: CompileRecord) -> None:
        """Log the counters."""
        self._log(case_id, compile_figures(compilation))

    def on_measure(self, case_id: str, evidence: Evidence) -> None:
        """Log times and memory."""
        self._log(case_id, measured_figures(evidence))

    def on_verdict(self, result: CaseResult) -> None:
        """Log the checks' values, and put the outcome with the reason of each check into the summary."""
        self._log(result.id, verdict_figures(result))
        words = {f"{result.id}/{check.name.value}": f"{check.outcome.value}: {check.reason}" for check in result.checks}
        self._opened().summary.update({f"{result.id}/outcome": result.outcome.value, **words})

    def _log(self, case_id: str, figures: dict[str, float]) -> None:
        if figures:
            self._opened().log({f"{case_id}/{name}": value for name, value in figures.items()})

    def _opened(self) -> Any:
        if self._run is None:
            import wandb

            self._run = wandb.init(**self._init)
        return self._run
