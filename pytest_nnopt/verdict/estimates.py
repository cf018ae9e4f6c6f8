"""From what is recorded of a process to the figure that decisions use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_nnopt.statistics.estimate import ProcessEstimate

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord, RatioRecord


def estimate_of(process: ProcessRecord) -> ProcessEstimate:
    """Return what a process knows about the candidate's time over the reference's."""
    return estimate_of_ratio(process.candidate_to_reference)


def estimate_of_ratio(ratio: RatioRecord) -> ProcessEstimate:
    """Return what a process knows about a ratio of times."""
    return ProcessEstimate(ratio.log_ratio, ratio.variance, ratio.blocks)
