"""Whether both sides of a pair became slower alike, seen against a fixed workload measured beside them.

The ratio to eager is the precise figure, and blind to whatever slows both sides. The ratio to the fixed workload sees
that, with several times the noise. It also moves with what the machine shares between its guests, which stays as it is
for a whole run. So while eager does the work that it did in the baseline, the fixed workload only ever fails a case,
and only for a slowdown well beyond the limit. Once the model itself has changed, eager is no measure any more, and the
fixed workload alone decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.statistics.decision import Reason, decide_regression
from pytest_nnopt.statistics.shift import NO_SHIFT, Shift
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict.estimates import estimate_of_ratio, slower_host_since

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.estimate import ProcessEstimate
    from pytest_nnopt.verdict.question import Question

ALARM_SHARE = 0.2
"""The part of a case's false alarms that is spent here."""

LIMIT_FACTOR = 3.0
"""A slowdown of both sides fails beyond the limit for the candidate's latency times this."""

SESSION_SHARE = 0.5
"""The part of one process's variance taken to be shared by all processes of a run: the machine's state that day."""


def decide_absolute(question: Question, timing: Sequence[ProcessRecord]) -> Decision | None:
    """Compare the candidate's time over the fixed workload's with the baseline's; None where none was recorded here.

    It has the case's whole limit and all of its false alarms where it decides alone. Of a candidate that waits for its
    host the fixed workload, which keeps a GPU busy, does not see a slower host: all of that is left open.
    """
    baseline = question.baseline
    if baseline is None or question.foreign_times is not None or CheckName.LATENCY not in question.asked:
        return None
    now, before = absolute_estimates(timing), absolute_estimates(baseline.timing)
    if not now or not before:
        return None
    return decide_regression(
        now,
        before,
        limit=question.latency_limit * (1 if question.changed_work else LIMIT_FACTOR),
        prior=question.absolute_prior,
        plan=question.plan
        if question.changed_work
        else replace(question.plan, false_alarms=ALARM_SHARE * question.plan.false_alarms),
        session_share=SESSION_SHARE,
        shift_error=host_shift(question, timing).error,
        is_watching=not question.changed_work,
    )


def host_shift(question: Question, timing: Sequence[ProcessRecord]) -> Shift:
    """Return by how much the candidate may be slower than in the baseline because its host is."""
    if question.baseline is None or not question.heeds_host:
        return NO_SHIFT
    return slower_host_since(timing, question.baseline.timing)


def confirming_look(decision: Decision | None) -> int:
    """Return how many processes would confirm a slowdown that was seen; 0 where none was, or no look is left."""
    if decision is None or decision.reason is not Reason.UNCONFIRMED:
        return 0
    return decision.next_look or 0


def absolute_estimates(timing: Sequence[ProcessRecord]) -> list[ProcessEstimate]:
    """Return what each process knows about the candidate's time over the fixed workload's, where it was measured."""
    ratios = [process.candidate_to_yardstick for process in timing]
    return [estimate_of_ratio(ratio) for ratio in ratios if ratio is not None]


def describe_absolute(decision: Decision) -> str:
    """Say what the fixed workload shows."""
    low, high = decision.interval.low, decision.interval.high
    return (
        f"against a fixed workload it is {format_percent(decision.change, signed=True)} "
        f"[{format_percent(low, signed=True)}, {format_percent(high, signed=True)}]"
    )


def describe_shared_slowdown(decision: Decision, relative: Decision, limit: float) -> str:
    """Say what the fixed workload fails: both sides slowed alike, unless the ratio to eager leaves that open."""
    assert decision.outcome is Outcome.FAILED
    beyond = f"{describe_absolute(decision)}, beyond {LIMIT_FACTOR:g} times the limit of {format_percent(limit)}"
    if relative.outcome is Outcome.INCONCLUSIVE:
        return f"the candidate is slower: {beyond}, while its ratio to eager is not clear"
    if relative.outcome is Outcome.IMPROVED:
        ratio = format_percent(relative.change, signed=True)
        return f"eager and the candidate are slower, eager the more so: {beyond}, while their ratio is {ratio}"
    return f"eager and the candidate are slower alike: {beyond}, while their ratio is as before"
