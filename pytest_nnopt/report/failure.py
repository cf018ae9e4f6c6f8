"""Why a case fails its test, in a few lines that a person understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome, Verdict

if TYPE_CHECKING:
    from pytest_nnopt.results import CheckRecord

_REMEDIES = {
    CheckName.NUMERICS: "if the difference is intended, allow it with @pytest.mark.nnopt_tolerance(rtol=..., atol=...)",
    CheckName.SPEEDUP: "compile differently, lower @pytest.mark.nnopt_speedup(min=...), or find what made it slower",
    CheckName.LATENCY: "if the new level is intended, allow it with @pytest.mark.nnopt_limits(latency=...), or accept "
    "it with pytest --nnopt-update",
    CheckName.MEMORY: "if the new level is intended, allow it with @pytest.mark.nnopt_limits(memory=...), or accept it "
    "with pytest --nnopt-update",
    CheckName.COMPILE_TIME: "if the new level is intended, accept it with pytest --nnopt-update",
}


def describe_failure(verdict: Verdict) -> str:
    """Say what failed first, then what else is known about the case, one line a check, and what to do.

    The first line stands alone, since pytest's summary shows only that.
    """
    failing = [check for check in verdict.checks if check.outcome.is_failure]
    others = [check for check in verdict.checks if not check.outcome.is_failure]
    lines = [f"{verdict.case_id}: {failing[0].reason}"]
    for check in failing:
        lines += _describe(check, is_first=check is failing[0])
    lines += [f"  {check.name.value} {check.outcome.value}: {check.reason}" for check in others]
    return "\n".join(lines)


def _describe(check: Check, *, is_first: bool) -> list[str]:
    head = [] if is_first else [f"  {check.name.value} {check.outcome.value}: {check.reason}"]
    details = [f"    {line}" for detail in check.details for line in detail.splitlines()]
    remedy = remedy_for(check)
    advice = [] if remedy is None else [f"    what to do: {remedy}"]
    return head + details + advice


def remedy_for(check: Check | CheckRecord) -> str | None:
    """Say what to do about a check that failed; None where it did not, or its reason says it."""
    return check.remedy or _REMEDIES.get(check.name) if check.outcome is Outcome.FAILED else None
