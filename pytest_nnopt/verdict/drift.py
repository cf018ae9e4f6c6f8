"""What became of a case's numbers since its baseline: three different things, told apart and named.

The candidate may have moved away from the reference, its error may have grown although it is still within its limits,
and the reference itself may be another one. Only the first shows without a baseline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, Outcome
from pytest_nnopt.numerics.leaves import eps_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_nnopt.baseline.numbers import NumericsLevel
    from pytest_nnopt.baseline.schema import LeafRecord, OriginRecord

_WRITTEN, _WRITTEN_BRIEFLY = 5e-9, 5e-6
"""Relative: what writing a true value with nine significant digits loses, and with six, as once was done."""
_EXACT = 1e-9
"""Relative to a leaf's norm: what two float64 runs of one model may differ by."""
_FLOAT64_SHARE = 2.0**-26
"""Of the reference's own error: float64 has 29 more bits than float32, and three of them are left to chance."""
_UNTRUE_EPS = 64.0
"""Without a float64 run, the epsilons that a value may move by when it is summed in another order."""
_FEW_ELEMENTS = 8.0
"""One draw of an error says little about the next one's size: the tolerated growth is widened by 1 + 8 / elements."""
_SHOWN = 3
_ACCEPT = "if that is intended, accept it with pytest --nnopt-update"
_ALLOW = (
    "if that is intended, allow it with @pytest.mark.nnopt_limits(error_growth=...), or accept it with pytest "
    "--nnopt-update --nnopt-reason TEXT"
)


@dataclass(frozen=True, slots=True)
class Drift:
    """How numbers differ from a baseline's, one clause a leaf.

    Attributes:
        changed: leaves of the reference that are not what they were.
        grown: leaves in which the candidate's error is larger than it may be, against what it was.
        why_not_told: why nobody can say whether the reference is another one; None where it can be said.
    """

    changed: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()
    why_not_told: str | None = None


def find_drift(now: NumericsLevel, level: NumericsLevel, *, growth: float, broken: Collection[str] = ()) -> Drift:
    """Compare the numbers of a case with recorded ones.

    Args:
        now: the numbers of this run, as they would be recorded.
        level: the recorded numbers.
        growth: how many times its recorded error a candidate's may be.
        broken: leaves that could not be measured, because both sides differ in more than their values.
    """
    changed = [f"{path} is gone" for path in level.leaves if path not in now.leaves and _is_telling(path, broken)]
    changed += [f"{path} is new" for path in now.leaves if path not in level.leaves and _is_telling(path, broken)]
    both = [(path, now.leaves[path], before) for path, before in level.leaves.items() if path in now.leaves]
    changed += [f"{path} {what}" for path, leaf, before in both if (what := _change(leaf, before)) is not None]
    if _has_new_structure(now.origin, level.origin):
        changed.insert(0, "its parameters or buffers have other names, shapes or dtypes")
    elif changed and (reason := _why_not_told(now.origin, level.origin)) is not None:
        return Drift(why_not_told=reason)
    if changed or level.differences:
        return Drift(tuple(changed))
    grown = ((path, _growth(leaf, before, growth)) for path, leaf, before in both)
    return Drift(grown=tuple(f"{path}: {what}" for path, what in grown if what is not None))


def judge_drift(check: Check, drift: Drift, level: NumericsLevel) -> Check:
    """Add to the answer on numbers what a comparison with the baseline shows.

    Args:
        check: whether the candidate agrees with the reference.
        drift: how both differ from what they were.
        level: the numbers that were compared with.
    """
    where = "" if level.environment is None else f" of {level.environment!r}"
    if check.outcome is Outcome.FAILED:
        return replace(check, details=(*check.details, _who_moved(drift, where)))
    if drift.why_not_told is not None:
        reason = f"could not tell whether the reference is that of the baseline{where}: {drift.why_not_told}"
        return replace(check, outcome=Outcome.INCONCLUSIVE, reason=reason, details=(check.reason, *check.details))
    if drift.changed:
        reason = f"the reference itself changed since the baseline{where}: {drift.changed[0]}"
        return _failed(check, reason, drift.changed, _ACCEPT)
    if drift.grown:
        reason = f"the candidate's error grew since the baseline{where}, though within its limit: {drift.grown[0]}"
        return _failed(check, reason, drift.grown, _ALLOW)
    return replace(check, details=(*check.details, *_said_of_level(level)))


def told_of_base(drift: Drift, base: str) -> list[str]:
    """Say what another revision's numbers show. It fails nothing, since nobody could accept it."""
    if drift.why_not_told is not None:
        return [f"against {base}: could not tell whether the reference is the same: {drift.why_not_told}"]
    lines = [f"against {base}: the reference itself changed: {what}" for what in drift.changed[:_SHOWN]]
    return lines + [f"against {base}: the candidate's error grew: {what}" for what in drift.grown[:_SHOWN]]


def _failed(check: Check, reason: str, found: Sequence[str], remedy: str) -> Check:
    more = [*found[1:_SHOWN], *([f"and {len(found) - _SHOWN} more leaves"] if len(found) > _SHOWN else [])]
    details = (*more, check.reason, *check.details)
    return replace(check, outcome=Outcome.FAILED, reason=reason, details=details, remedy=remedy)


def _who_moved(drift: Drift, where: str) -> str:
    if drift.why_not_told is not None:
        return f"against the baseline{where}: cannot tell which side changed, {drift.why_not_told}"
    if drift.changed:
        return f"against the baseline{where}: the reference itself changed, too: {drift.changed[0]}"
    return f"against the baseline{where}: the reference is what it was, so the candidate moved away from it"


def _said_of_level(level: NumericsLevel) -> list[str]:
    if level.environment is None:
        return []
    if not level.differences:
        return [f"compared with the numbers of {level.environment!r}, where rounding is the same"]
    fields = "; ".join(level.differences)
    return [f"the reference is that of {level.environment!r}; errors are not compared, rounding depends on {fields}"]


def _is_telling(path: str, broken: Collection[str]) -> bool:
    """Whether a leaf that one side lacks says something: further inputs come and go while the model stays."""
    return path not in broken and not path.startswith("samples[")


def _has_new_structure(now: OriginRecord | None, before: OriginRecord | None) -> bool:
    return now is not None and before is not None and now.structure != before.structure


def _why_not_told(now: OriginRecord | None, before: OriginRecord | None) -> str | None:
    """Say why different outputs need not come from a different model; None where they must."""
    if now is None or before is None:
        return "the baseline does not say which inputs and parameters it is of; record it with pytest --nnopt-update"
    others = [name for name in ("inputs", "parameters") if getattr(now, name) != getattr(before, name)]
    if not others:
        return None
    return (
        f"its {' and '.join(others)} are others; draw them from a fixed seed, or record them with pytest --nnopt-update"
    )


def _change(now: LeafRecord, before: LeafRecord) -> str | None:
    """Say how the reference's leaf differs from the recorded one; None where rounding explains it."""
    if (now.shape, now.dtype) != (before.shape, before.dtype):
        return f"is {now.dtype} {list(now.shape)}, was {before.dtype} {list(before.shape)}"
    if len(now.sample) != len(before.sample):
        return f"has {len(now.sample)} finite values among the sampled ones, had {len(before.sample)}"
    slack = _slack(now, before)
    for value, recorded in zip(now.sample, before.sample, strict=True):
        if abs(value - recorded) > _lost_digits(recorded) + slack:
            text, recorded_text = _told_apart(value, recorded)
            return f"has {text} where it had {recorded_text}"
    if now.norm is None or before.norm is None or abs(now.norm - before.norm) <= _lost_digits(before.norm) + slack:
        return None
    text, recorded_text = _told_apart(now.norm, before.norm)
    return f"has the norm {text}, had {recorded_text}"


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Write two different numbers with as few digits, six at least, as let them be told apart."""
    texts = ((f"{one:.{digits}g}", f"{other:.{digits}g}") for digits in range(6, 18))  # 17 digits are all of a float
    return next(pair for pair in texts if pair[0] != pair[1])


def _lost_digits(recorded: float) -> float:
    """Return how far a recorded value may be from what was written."""
    is_brief = float(f"{recorded:.6g}") == recorded
    return abs(recorded) * (_WRITTEN_BRIEFLY if is_brief else _WRITTEN)


def _slack(now: LeafRecord, before: LeafRecord) -> float:
    """Return the absolute difference that rounding explains between two runs of one reference."""
    if now.norm is None or before.norm is None:
        return 0.0
    scale = max(now.norm, before.norm)
    if now.reference_nrmse is None or before.reference_nrmse is None:
        return _UNTRUE_EPS * (eps_of(now.dtype) or 0.0) * scale
    return scale * (_EXACT + _FLOAT64_SHARE * max(now.reference_nrmse, before.reference_nrmse))


def _growth(now: LeafRecord, before: LeafRecord, growth: float) -> str | None:
    """Say which error of the candidate is larger than ``growth`` times the recorded one; None where none is.

    Errors that writing a result in its dtype causes, a quarter or at most half of an epsilon, count as recorded.
    """
    eps = eps_of(now.dtype)
    if eps is None or (now.reference_nrmse is None) is not (before.reference_nrmse is None):
        return None
    allowed = growth * (1 + _FEW_ELEMENTS / max(math.prod(now.shape), 1))
    errors = (
        ("rms", 0.25 * eps, now.candidate_nrmse, before.candidate_nrmse),
        ("largest", 0.5 * eps, now.candidate_max, before.candidate_max),
    )
    for title, smallest, error, recorded in errors:
        if error is not None and recorded is not None and error > allowed * max(recorded, smallest):
            return f"{title} error {error:.2g}, was {recorded:.2g}; {allowed:.3g} times that is allowed"
    return None
