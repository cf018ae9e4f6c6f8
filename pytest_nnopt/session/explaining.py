"""What is done once numbers were wrong: find the cause, and write down what shows it again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.errors import OutputError
from pytest_nnopt.files import short_path
from pytest_nnopt.model import CheckName, Verdict
from pytest_nnopt.numerics.diagnosis import describe_diagnosis
from pytest_nnopt.session.repro import ReproRecord, describe_config, repro_folder, write_repro
from pytest_nnopt.torch_backend.compile_errors import describe_error
from pytest_nnopt.torch_backend.diagnosis import Trouble, diagnose
from pytest_nnopt.torch_backend.quiet import torch_kept_quiet

if TYPE_CHECKING:
    from pytest_nnopt.numerics import NumericsComparison
    from pytest_nnopt.session.case import CaseRun
    from pytest_nnopt.session.gate import Gate


def explain_numbers(
    verdict: Verdict, comparison: NumericsComparison | None, run: CaseRun, gate: Gate, test_id: str
) -> Verdict:
    """Add to a verdict where its wrong numbers come from and how to see them again; others are returned as they are.

    The verdict stands whatever this comes to: what cannot be found out or written is said. Of a model on several ranks
    nothing is looked for: what to try next depends on numbers that differ between them.
    """
    if comparison is None or comparison.is_within or run.is_shared:
        return verdict
    trouble = run.trouble(comparison)
    lines = _cause(trouble) if gate.settings.diagnose == "fail" else []
    reason = verdict[CheckName.NUMERICS].reason
    lines += _repro(trouble, run, gate, verdict.case_id, test_id, reason)
    checks = tuple(
        replace(check, details=(*check.details, *lines)) if check.name is CheckName.NUMERICS else check
        for check in verdict.checks
    )
    return Verdict(verdict.case_id, checks)


def _cause(trouble: Trouble) -> list[str]:
    try:
        with torch_kept_quiet():
            return describe_diagnosis(diagnose(trouble))
    except Exception as error:  # compilers and models may raise anything, and the verdict is made
        return [f"introduced by: unknown; looking for it raised {describe_error(error)}"]


def _repro(trouble: Trouble, run: CaseRun, gate: Gate, case_id: str, test_id: str, reason: str) -> list[str]:
    if gate.root is None or gate.replay is not None:
        return []
    record = ReproRecord(
        case=case_id,
        test=test_id,
        inputs=trouble.inputs_name,
        seed=trouble.seed,
        reason=reason,
        config=describe_config(gate.configs[test_id]),
        environment=dict(run.environment.fields),
    )
    folder = repro_folder(gate.root, case_id)
    try:
        script = write_repro(folder, gate.root, record, trouble, device=gate.settings.device)
    except OutputError as error:
        return [f"to see it again: {error}"]
    return [f"to see it again: python {short_path(str(script))!r}  (seed {trouble.seed})"]
