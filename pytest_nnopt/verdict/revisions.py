"""The check of latency between two revisions that every process measured side by side."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from pytest_nnopt.model import Check, CheckName, Outcome
from pytest_nnopt.statistics.decision import DEFAULT_PLAN, Reason, decide_change
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict.estimates import estimate_of_ratio
from pytest_nnopt.verdict.ways import Ways
from pytest_nnopt.verdict.wording import describe_as_measured, how_sure, relation_to_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import BaseRecord, ProcessRecord
    from pytest_nnopt.model import Interval
    from pytest_nnopt.statistics.decision import Decision
    from pytest_nnopt.statistics.estimate import ProcessEstimate
    from pytest_nnopt.statistics.sequential import SequentialPlan
    from pytest_nnopt.verdict.question import Question

_BETWEEN_ON_CPU = VariancePrior(0.003**2, 6.0)
"""What two processes of identical revisions differ by beyond their blocks' scatter, but for stray ones."""

_BETWEEN_ON_GPU = VariancePrior(0.02**2, 2.0)
"""The same on a GPU, where the compiler chooses kernels anew in every process and the host may set the pace: little is
believed, so that the processes of the run itself decide."""


def is_beside_base(timing: Sequence[ProcessRecord]) -> bool:
    """Whether every process has measured the base beside the head."""
    return bool(timing) and all(process.base is not None for process in timing)


def processes_of_base(timing: Sequence[ProcessRecord]) -> list[ProcessRecord]:
    """Return what these processes measured of the base, as if it were a process of its own."""
    return [base.process for base in _bases(timing)]


def has_other_inputs(timing: Sequence[ProcessRecord]) -> bool:
    """Whether the base's test hands over other inputs, so that no time or kernel can be compared with the base's."""
    return is_beside_base(timing) and bool(_bases(timing)[-1].inputs)


def leave_open(name: CheckName, question: Question, timing: Sequence[ProcessRecord], limit: float) -> Check:
    """Return the answer of a check where the base's test hands over other inputs."""
    reason = f"the test hands over other inputs than in {question.base}, so that times cannot be compared"
    return Check(name, Outcome.INCONCLUSIVE, reason, limit=limit, details=_bases(timing)[-1].inputs)


def decide_revisions(question: Question, timing: Sequence[ProcessRecord]) -> Decision:
    """Decide whether the head's candidate is slower than the base's; every process has measured both."""
    return _decide(question, timing, _ways(question, timing))


def _ways(question: Question, timing: Sequence[ProcessRecord]) -> Ways:
    return Ways(timing, processes_of_base(timing), question.plan)


def _decide(question: Question, timing: Sequence[ProcessRecord], ways: Ways) -> Decision:
    """Decide by the candidates, heeding how the compiler chose to launch kernels in both."""
    bases = _bases(timing)
    ratios = [base.candidate for base in bases]
    return ways.decide(lambda even: _decide_samples(question, bases, ways.ratio_estimates(ratios, even)))


def decide_head_over_base(
    samples: Sequence[ProcessEstimate], *, limit: float, is_on_gpu: bool, plan: SequentialPlan = DEFAULT_PLAN
) -> Decision:
    """Decide whether the head is slower than the base by more than ``limit``.

    What the blocks of this run's processes scatter by is taken as measured, whatever the machine; only what differs
    from process to process besides is believed beforehand.

    Args:
        samples: head over base in each process of this run, at least one.
        limit: the tolerated relative slowdown, 0.05 for 5 %.
        is_on_gpu: whether both ran on a GPU.
        plan: when evidence is looked at, and what errors may cost.

    Raises:
        MeasurementError: as ``decide_change``.
    """
    between = _BETWEEN_ON_GPU if is_on_gpu else _BETWEEN_ON_CPU
    within = statistics.fmean(sample.variance for sample in samples)
    prior = VariancePrior(within + between.variance, between.degrees_of_freedom)
    return decide_change(samples, limit=limit, prior=prior, plan=plan)


def check_revisions(question: Question, timing: Sequence[ProcessRecord]) -> Check:
    """Hold the head's candidate against the base's, and say whether eager moved along with it."""
    bases, limit = _bases(timing), question.latency_limit
    if has_other_inputs(timing):
        return leave_open(CheckName.LATENCY, question, timing, limit)
    ways = _ways(question, timing)
    decision = _decide(question, timing, ways)
    interval = decision.interval
    reason = (
        f"latency {_range(decision.change, interval)} against {question.base} is {relation_to_limit(decision, limit)}"
    )
    details = [
        *(ways.describe() if decision.reason is Reason.CHOSEN_OTHERWISE else ()),
        *describe_as_measured(decision),
        *_explain_by_eager(decision, question, bases),
        *how_sure(decision, question.level_name),
    ]
    if bases[-1].parameters:
        details += ["the model has other parameters:", *(f"  {line}" for line in bases[-1].parameters)]
    return Check(
        CheckName.LATENCY,
        decision.outcome,
        reason,
        value=decision.change,
        baseline=0.0,
        limit=limit,
        interval=interval,
        details=tuple(details),
        certainty=decision.certainty,
    )


def _explain_by_eager(decision: Decision, question: Question, bases: Sequence[BaseRecord]) -> list[str]:
    """Say where a change comes from: the model, which eager shows as well, or its compilation alone."""
    eager = _decide_samples(question, bases, [estimate_of_ratio(base.reference) for base in bases])
    figure = f"eager {_range(eager.change, eager.interval)}"
    if decision.outcome is not Outcome.FAILED:
        return [figure]
    if eager.interval.low > 0 and eager.change > decision.change / 2:
        return [f"{figure}: eager slowed alike, so the model changed"]
    if eager.interval.high < decision.change / 2:
        return [f"{figure}: only the compiled side slowed, so the compilation changed"]
    return [f"{figure}: whether eager slowed as well cannot be told"]


def _decide_samples(question: Question, bases: Sequence[BaseRecord], samples: Sequence[ProcessEstimate]) -> Decision:
    return decide_head_over_base(
        samples,
        limit=question.latency_limit,
        is_on_gpu=any(base.process.kernels for base in bases),
        plan=question.plan,
    )


def _range(change: float, interval: Interval) -> str:
    low, high = format_percent(interval.low, signed=True), format_percent(interval.high, signed=True)
    return f"{format_percent(change, signed=True)} [{low}, {high}]"


def _bases(timing: Sequence[ProcessRecord]) -> list[BaseRecord]:
    return [process.base for process in timing if process.base is not None]
