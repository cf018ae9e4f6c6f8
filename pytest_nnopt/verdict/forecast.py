"""What the timing of a case can find, and what it takes, known before anything is measured: by its baseline's noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.baseline.level import MOST_PROCESSES
from pytest_nnopt.model import CheckName
from pytest_nnopt.statistics.evidence import recorded_noise, recorded_stray_rate
from pytest_nnopt.statistics.power import minimum_detectable_effect, processes_needed
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict.wanted import wanted_processes
from pytest_nnopt.verdict.ways import even_estimates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.verdict.question import Question

_BLIND_FACTOR = 2.0
"""A gate that finds nothing below this many times its limit is not the gate that was asked for."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a comparison of latency will be able to find.

    Attributes:
        limit: the tolerated slowdown.
        process_sd: relative spread of one process, as the baseline shows it.
        detectable: the smallest slowdown found in 95 % of runs with all processes of the plan.
        max_processes: how many these are.
        needed: how many of them find a slowdown of ``_BLIND_FACTOR`` times the limit, None where all do not.
        is_full: whether the baseline holds as many processes as it keeps.
        elsewhere: the environment of the baseline, where that is not this one.
    """

    limit: float
    process_sd: float
    detectable: float
    max_processes: int
    needed: int | None
    is_full: bool = False
    elsewhere: str | None = None

    @property
    def is_blind(self) -> bool:
        """Whether slowdowns well beyond the limit will be missed."""
        return self.needed is None


def forecast_latency(question: Question) -> Forecast | None:
    """Say what the comparison of latency will be able to find; None where there is none to make.

    Nor is there one of another model than the baseline's: its ratio to eager decides nothing.
    """
    baseline = question.baseline
    if not question.is_comparing or baseline is None or not baseline.timing or CheckName.LATENCY not in question.asked:
        return None
    if question.changed_work:
        return None
    limit, plan, recorded = question.latency_limit, question.plan, len(baseline.timing)
    estimates = even_estimates(baseline.timing)
    noise = recorded_noise(estimates, question.prior)
    stray_rate = recorded_stray_rate(estimates, question.prior)
    return Forecast(
        limit=limit,
        process_sd=noise.standard_deviation,
        detectable=minimum_detectable_effect(
            noise,
            processes=plan.max_processes,
            baseline_processes=recorded,
            limit=limit,
            plan=plan,
            stray_rate=stray_rate,
        ),
        max_processes=plan.max_processes,
        needed=processes_needed(
            _BLIND_FACTOR * limit,
            noise,
            baseline_processes=recorded,
            limit=limit,
            plan=plan,
            stray_rate=stray_rate,
        ),
        is_full=recorded >= MOST_PROCESSES,
        elsewhere=None if question.foreign_times is None else question.foreign_times.environment,
    )


def describe_forecast(forecast: Forecast) -> str:
    """Say in one line what will be found, and what to do where that is not what was asked for."""
    where = "here" if forecast.elsewhere is None else f"on {forecast.elsewhere}"
    found = (
        f"{forecast.max_processes} processes find slowdowns from {format_percent(forecast.detectable)}, the limit is "
        f"{format_percent(forecast.limit)}; one process varies by {format_percent(forecast.process_sd)} {where}"
    )
    if not forecast.is_blind:
        return found
    remedy = "quieten the machine" if forecast.is_full else "record more processes with pytest --nnopt-update"
    if forecast.elsewhere is not None:
        remedy = "record here with pytest --nnopt-update"
    return f"{found}: {remedy}, or widen the limit"


def expected_processes(question: Question, timing: Sequence[ProcessRecord] = ()) -> int:
    """Return how many further processes will be asked for if the next one measures what the baseline usually does.

    Args:
        question: what is to be decided.
        timing: what was measured before.
    """
    recorded = () if question.baseline is None else question.baseline.timing
    wanted = wanted_processes(question, timing) - len(timing)
    if wanted != 1 or not recorded:
        return wanted
    usual = sorted(recorded, key=lambda process: process.candidate_to_reference.log_ratio)[len(recorded) // 2]
    return wanted_processes(question, (*timing, usual)) - len(timing)
