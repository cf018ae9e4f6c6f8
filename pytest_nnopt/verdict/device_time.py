"""The check of a GPU's own time: the kernels' durations, and how many are launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN, Reason, decide_regression
from pytest_nnopt.statistics.prior import DEFAULT_DEVICE_TIME_PRIOR
from pytest_nnopt.units import format_count, format_percent, format_seconds
from pytest_nnopt.verdict.choices import advise_recording, describe_choices, is_beyond_chance, processes_to_tell
from pytest_nnopt.verdict.launched import kernel_in_words
from pytest_nnopt.verdict.ways import Ways
from pytest_nnopt.verdict.wording import describe_as_measured, relation_to_limit

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import KernelRecord, ProcessRecord
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.sequential import SequentialPlan
    from pytest_nnopt.verdict.ways import Even

FALSE_ALARM_SHARE = 0.1
"""How often unchanged kernels may fail a case, as a share of the case's own rate and on top of it: they vary
so little between processes that it costs hardly more of them."""

_SAME_LAUNCHES = 0.005
_SAME_KERNEL_TIME = 0.03
"""Relative change of one kernel's time that its own noise hides; the sum of all varies by a tenth of it."""

_SHOWN_KERNELS = 5


def check_device_time(
    now: Sequence[ProcessRecord],
    before: Sequence[ProcessRecord],
    limit: float,
    *,
    level: str = "the baseline",
    plan: SequentialPlan = DEFAULT_PLAN,
    is_stored: bool = True,
    is_strict: bool = False,
) -> Check:
    """Hold the candidate's kernels against the baseline's: their own time, and how many are launched.

    Args:
        now: processes of this run, at least one with kernels.
        before: processes of the baseline, at least one with kernels.
        limit: tolerated growth of the kernels' time.
        level: what ``before`` belongs to, in words.
        plan: of the case's timing decisions.
        is_stored: whether ``before`` is a stored baseline, and not another revision that is measured beside this one.
        is_strict: whether chance in which kernels are launched, and how, is no excuse.
    """
    ways = Ways(now, before, plan, is_strict=is_strict)
    decision = _decide(ways, limit, plan)
    launched = compare_launches(now, before, plan, is_stored=is_stored, is_strict=is_strict)
    advice = advise_recording(len(before)) if is_stored else ()
    as_measured = describe_as_measured(decision)
    details = (*as_measured, *_kernel_changes(*_kernels_alike(now, before)))
    if launched.has_grown and (launched.is_certain or decision.outcome is not Outcome.FAILED):
        found = (launched.describe(level), decision.change, 0.0, limit, decision.interval)
        if launched.is_certain:
            return Check(
                CheckName.DEVICE_TIME, Outcome.FAILED, *found, details, _remedy_of_launches(is_stored=is_stored)
            )
        enough = launched.enough or 0
        told = (f"{enough} processes that all launch more would tell",) if enough > launched.processes else ()
        return Check(CheckName.DEVICE_TIME, Outcome.INCONCLUSIVE, *found, (*advice, *told, *details))
    interval = decision.interval
    reason = (
        f"device time {format_percent(decision.change, signed=True)} against {level} "
        f"[{format_percent(interval.low, signed=True)}, {format_percent(interval.high, signed=True)}] "
        f"is {relation_to_limit(decision, limit)}"
    )
    is_settled = decision.outcome not in (Outcome.FAILED, Outcome.INCONCLUSIVE)
    shown = details if not is_settled else as_measured if (decision.measured_change or 0) > limit else ()
    if decision.reason is Reason.CHOSEN_OTHERWISE:
        shown = (*ways.describe(), *advice, *shown)
    elif decision.outcome is Outcome.INCONCLUSIVE:
        shown = (*shown, *describe_choices(before, limit))
    return Check(CheckName.DEVICE_TIME, decision.outcome, reason, decision.change, 0.0, limit, interval, shown)


def _remedy_of_launches(*, is_stored: bool) -> str:
    """Say what to do about kernels that are launched on top, which no limit allows."""
    if is_stored:
        return "mend what launches them; or accept them with pytest --nnopt-update --nnopt-reason TEXT"
    return "mend what launches them; or merge them all the same: later runs compare with what is merged"


def decide_device_time(
    now: Sequence[ProcessRecord], before: Sequence[ProcessRecord], limit: float, plan: SequentialPlan = DEFAULT_PLAN
) -> Decision:
    """Decide whether the kernels' own time grew; arguments as of ``check_device_time``."""
    return _decide(Ways(now, before, plan), limit, plan)


def _decide(ways: Ways, limit: float, plan: SequentialPlan) -> Decision:
    plan = replace(plan, false_alarms=FALSE_ALARM_SHARE * plan.false_alarms)

    def decide(even: Even) -> Decision:
        now, before = ways.device_estimates(even)
        return decide_regression(now, before, limit=limit, prior=DEFAULT_DEVICE_TIME_PRIOR, plan=plan)

    return ways.decide(decide)


@dataclass(frozen=True, slots=True)
class Launches:
    """How many kernels are launched per call, now and before: the fewest that any process launches, and the most.

    The compiler also decides by timing which kernels there are, such as whether a matrix product is padded.

    Attributes:
        fewest: of any process now.
        most_before: of any process of the baseline.
        processes: how many there are now.
        has_grown: whether every process launches more than any of the baseline's did.
        is_certain: whether there are so many processes that chance would hardly make all of them do that, or it is no
            excuse.
        enough: how many processes that all do that would leave nothing to chance; None where that is settled, or all of
            the plan would not.
    """

    fewest: float
    most_before: float
    processes: int
    has_grown: bool
    is_certain: bool
    enough: int | None

    def describe(self, level: str) -> str:
        """Say how many more are launched, and where chance could be why, that."""
        words = f"{self.fewest:g} kernels are launched per call, {level} has {self.most_before:g}"
        if self.is_certain:
            return words
        seen = format_count(self.processes, "process has", "processes have")
        return f"{words}, but {seen} seen it, and chance could explain it, as where the compiler chooses by timing"


def compare_launches(
    now: Sequence[ProcessRecord],
    before: Sequence[ProcessRecord],
    plan: SequentialPlan = DEFAULT_PLAN,
    *,
    is_stored: bool = True,
    is_strict: bool = False,
) -> Launches:
    """Compare how many kernels are launched per call; arguments as of ``check_device_time``."""
    here = [process.launches for process in now if process.launches is not None]
    there = [process.launches for process in before if process.launches is not None]
    has_grown = min(here) > max(there) + _SAME_LAUNCHES
    is_certain = is_strict or is_beyond_chance(len(here), len(there), plan)
    is_open = has_grown and not is_certain
    enough = processes_to_tell(len(there) if is_stored else None, plan) if is_open else None
    return Launches(min(here), max(there), len(here), has_grown, is_certain, enough)


def _kernels(processes: Sequence[ProcessRecord]) -> Mapping[str, KernelRecord]:
    return next(process.kernels for process in reversed(processes) if process.kernels)


def _kernels_alike(
    now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]
) -> tuple[Mapping[str, KernelRecord], Mapping[str, KernelRecord]]:
    """Return the newest kernels of both sides; the baseline's are launched as now wherever one of its processes did."""
    here, there = _kernels(now), dict(_kernels(before))
    for process in before:
        for name, kernel in process.kernels.items():
            if name in there and name in here and kernel.launch == here[name].launch:
                there[name] = kernel
    return here, there


def _kernel_changes(now: Mapping[str, KernelRecord], before: Mapping[str, KernelRecord]) -> list[str]:
    """Name the kernels that were added, removed or changed most, the costliest change first."""
    changes = {
        name: (now[name].seconds if name in now else 0.0) - (before[name].seconds if name in before else 0.0)
        for name in {**now, **before}
    }
    ordered = sorted(changes, key=lambda name: -abs(changes[name]))[:_SHOWN_KERNELS]
    return [_describe_kernel(name, now.get(name), before.get(name)) for name in ordered if changes[name]]


def describe_kernel_changes(now: Sequence[ProcessRecord], before: Sequence[ProcessRecord]) -> list[str]:
    """Name the kernels that were added, removed, or changed in time by more than they vary, costliest first."""
    here, there = _kernels_alike(now, before)
    moved = {
        name
        for name in {**here, **there}
        if name not in here
        or name not in there
        or abs(here[name].seconds - there[name].seconds) > _SAME_KERNEL_TIME * there[name].seconds
    }
    return _kernel_changes(
        {name: kernel for name, kernel in here.items() if name in moved},
        {name: kernel for name, kernel in there.items() if name in moved},
    )


def _describe_kernel(name: str, now: KernelRecord | None, before: KernelRecord | None) -> str:
    words = kernel_in_words(name)
    if before is None:
        assert now is not None
        return f"kernel added: {words} ({format_seconds(now.seconds)} per call)"
    if now is None:
        return f"kernel removed: {words} ({format_seconds(before.seconds)} per call)"
    times = f"{format_seconds(before.seconds)} → {format_seconds(now.seconds)} per call"
    return f"kernel {words}: {times}{describe_launch(now, before)}"


def describe_launch(now: KernelRecord, before: KernelRecord) -> str:
    """Say how a kernel is launched, to be put behind its figures; empty unless both are known and differ."""
    if None in (now.launch, before.launch) or now.launch == before.launch:
        return ""
    return f", launched with {now.launch} (was {before.launch})"
