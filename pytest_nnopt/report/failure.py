"""Why a case fails its test, in a few lines that a person understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome, Verdict
from pytest_nnopt.plain import plain_text
from pytest_nnopt.report.rows import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_nnopt.results import CheckRecord

_REMEDIES = {
    CheckName.NUMERICS: "if the difference is intended, allow it with @pytest.mark.nnopt_tolerance(rtol=..., atol=...)",
    CheckName.SPEEDUP: "compile differently, lower @pytest.mark.nnopt_speedup(min=...), or find what made it slower",
    CheckName.LATENCY: "if the new level is intended, allow it with @pytest.mark.nnopt_limits(latency=...), or accept "
    "it with pytest --nnopt-update --nnopt-reason TEXT",
    CheckName.MEMORY: "if the new level is intended, allow it with @pytest.mark.nnopt_limits(memory=...), or accept it "
    "with pytest --nnopt-update --nnopt-reason TEXT",
    CheckName.COMPILE_TIME: "if the new level is intended, accept it with pytest --nnopt-update --nnopt-reason TEXT",
}


def describe_failure(verdict: Verdict) -> str:
    """Say what failed first, then what else is known about the case, one line a check, and what to do.

    The first line stands alone, since pytest's summary shows only that.
    """
    failing = [check for check in verdict.checks if check.outcome.is_failure]
    others = [check for check in verdict.checks if not check.outcome.is_failure]
    first, *rest = failing
    lines = [f"{verdict.case_id}: {first.reason}", *_explain(first)]
    for check in rest:
        lines += [_head(check, "as above" if check.reason == first.reason else check.reason), *_explain(check)]
    for check in others:
        notes = _details(check) if check.name is CheckName.NUMERICS else []  # a changed reference explains the rest
        lines += [_head(check, check.reason), *notes]
    return plain_text("\n".join(lines))


def _head(check: Check, reason: str) -> str:
    return f"  {check.name.value} {in_words(check.outcome)}: {reason}"


def _explain(check: Check) -> list[str]:
    remedy = remedy_for(check)
    return _details(check) if remedy is None else [*_details(check), f"    what to do: {remedy}"]


def _details(check: Check) -> list[str]:
    return [f"    {line}" for detail in check.details for line in detail.splitlines()]


def remedy_for(check: Check | CheckRecord) -> str | None:
    """Say what to do about a check that failed; None where it did not, or its reason says it."""
    return check.remedy or _REMEDIES.get(check.name) if check.outcome is Outcome.FAILED else None


def describe_failures(verdicts: Iterable[Verdict]) -> str | None:
    """Say why the failing ones of a test's verdicts fail it; None where none does."""
    return "\n\n".join(describe_failure(verdict) for verdict in verdicts if verdict.outcome.is_failure) or None
