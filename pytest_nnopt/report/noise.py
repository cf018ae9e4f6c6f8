"""How much the measured times of cases varied, and what was done about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from pytest_nnopt.units import format_count, format_percent

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.results import CaseResult


@dataclass(frozen=True, slots=True)
class Noise:
    """The scatter of one case's times.

    Attributes:
        processes: how many processes measured it.
        blocks: blocks they kept together.
        dropped: blocks thrown away because the machine was disturbed.
        disturbances: disturbed blocks by reason, the kept ones of a disturbance without end included.
        unsteady: processes whose times had not settled when the first block was kept.
        between: standard deviation of the log-ratio from process to process; None of one process.
        within: standard error of one process's log-ratio from its own blocks.
    """

    processes: int
    blocks: int
    dropped: int
    disturbances: Counter[str]
    unsteady: int
    between: float | None
    within: float


def noise_of(timing: Sequence[ProcessRecord]) -> Noise | None:
    """Return the scatter of a case's times, None where none were measured."""
    if not timing:
        return None
    ratios = [process.candidate_to_reference for process in timing]
    return Noise(
        processes=len(timing),
        blocks=sum(ratio.blocks for ratio in ratios),
        dropped=sum(process.dropped_blocks for process in timing),
        disturbances=_sum_of(process.disturbances for process in timing),
        unsteady=sum(not process.is_steady for process in timing),
        between=stdev(ratio.log_ratio for ratio in ratios) if len(ratios) > 1 else None,
        within=math.sqrt(fmean(ratio.variance for ratio in ratios)),
    )


def describe_noise(results: Iterable[CaseResult]) -> str | None:
    """Say in one line how the times of a run varied, None where none were measured."""
    noises = [noise for result in results if (noise := noise_of(result.timing)) is not None]
    if not noises:
        return None
    between = [noise.between for noise in noises if noise.between is not None]
    fewest, most = min(noise.processes for noise in noises), max(noise.processes for noise in noises)
    parts = [
        f"{format_count(most, 'process', 'processes')} a case"
        if fewest == most
        else f"{fewest} to {most} processes a case",
        f"{_up_to(between)} from process to process" if between else "one process shows no variation between processes",
        f"{_up_to([noise.within for noise in noises])} within one",
        *_what_was_lost(
            sum(noise.blocks for noise in noises),
            sum(noise.dropped for noise in noises),
            _sum_of(noise.disturbances for noise in noises),
            sum(noise.unsteady for noise in noises),
        ),
    ]
    return ", ".join(parts)


def describe_case_noise(noise: Noise) -> str:
    """Say in one line how the times of one case varied."""
    between = "" if noise.between is None else f"{format_percent(noise.between)} from process to process, "
    parts = [
        f"{format_count(noise.processes, 'process', 'processes')}, {noise.blocks} blocks",
        f"{between}{format_percent(noise.within)} within one",
        *_what_was_lost(noise.blocks, noise.dropped, noise.disturbances, noise.unsteady),
    ]
    return ", ".join(parts)


def _what_was_lost(blocks: int, dropped: int, disturbances: Counter[str], unsteady: int) -> list[str]:
    lost = [f"{dropped} of {blocks + dropped} blocks dropped{_why(disturbances)}"] if dropped else []
    return [*lost, f"{unsteady} not settled"] if unsteady else lost


def _why(disturbances: Counter[str]) -> str:
    """Say in brackets what disturbed the blocks, the commonest first; nothing where no reason was recorded."""
    if len(disturbances) <= 1:
        return "".join(f" ({reason})" for reason in disturbances)
    return f" ({', '.join(f'{count} {reason}' for reason, count in disturbances.most_common())})"


def _sum_of(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    return sum(map(Counter, counts), Counter())


def _up_to(values: Sequence[float]) -> str:
    low, high = format_percent(min(values)), format_percent(max(values))
    return high if low == high else f"{low} to {high}"
