"""An observer that writes a run's facts to MLflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_nnopt.observers import Observer
from pytest_nnopt.observers.figures import compile_figures, measured_figures, verdict_figures

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import CompileRecord, Evidence
    from pytest_nnopt.results import CaseResult


class MlflowObserver(Observer):
    """Logs each case's figures as metrics ``<case>/<figure>``, and its outcome and reasons as tags.

    MLflow allows few characters in a name; any other in a case's id becomes an underscore.

    Args:
        run_id: the run to write to. Without one it is the active run, which MLflow starts where there is none.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self._run_id = run_id

    def on_compile(self, case_id: str, compilation: CompileRecord) -> None:
        """Log the counters."""
        self._log(case_id, compile_figures(compilation))

    def on_measure(self, case_id: str, evidence: Evidence) -> None:
        """Log times and memory."""
        self._log(case_id, measured_figures(evidence))

    def on_verdict(self, result: CaseResult) -> None:
        """Log the checks' values, and set the outcome and the reason of each check as tags."""
        from mlflow import MlflowClient

        self._log(result.id, verdict_figures(result))
        words = {check.name.value: f"{check.outcome.value}: {check.reason}" for check in result.checks}
        client, run_id = MlflowClient(), self._opened()
        for name, text in {"outcome": result.outcome.value, **words}.items():
            client.set_tag(run_id, _allowed(f"{result.id}/{name}"), text)

    def _log(self, case_id: str, figures: dict[str, float]) -> None:
        import mlflow

        if figures:
            metrics = {_allowed(f"{case_id}/{name}"): value for name, value in figures.items()}
            mlflow.log_metrics(metrics, run_id=self._opened())

    def _opened(self) -> str:
        """Return the run's id; a run started elsewhere and ended since is still written to."""
        if self._run_id is None:
            import mlflow

            run = mlflow.active_run() or mlflow.start_run()
            self._run_id = run.info.run_id
        return self._run_id


def _allowed(name: str) -> str:
    return re.sub(r"[^\w./ -]", "_", name, flags=re.ASCII)
