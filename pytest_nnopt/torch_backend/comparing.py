"""Compare the numbers of both sides of a pair, on its own inputs and on every further sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.numerics import Observation, compare_observations, join_comparisons, nothing_compared
from pytest_nnopt.torch_backend.float64 import nudge, promote
from pytest_nnopt.torch_backend.observation import observe

if TYPE_CHECKING:
    from pytest_nnopt.numerics import NumericsComparison, Tolerance
    from pytest_nnopt.torch_backend.compiling import Inputs
    from pytest_nnopt.torch_backend.samples import Sample
    from pytest_nnopt.torch_backend.side import Side


def compare_sides(
    candidate: Side, reference: Side, tolerance: Tolerance, *, seed: int, samples: Sequence[Sample] = ()
) -> NumericsComparison:
    """Compare everything both sides do, on the pair's inputs and on each sample.

    Args:
        candidate: the optimised side.
        reference: the eager side.
        tolerance: what is allowed; without declared tolerances the reference also runs in float64, twice.
        seed: seed of every random number generator before each run.
        samples: further inputs. A generated one on which the reference raises is not compared, and a note says so.

    Raises:
        NumericsError: an output holds something that cannot be compared.
    """
    own = _compare(candidate, reference, tolerance, seed)
    further = {
        sample.name: _compare_sample(candidate, reference, tolerance, sample)
        for sample in samples
        if not sample.problem
    }
    skipped = tuple(f"{sample.name}: {sample.problem}" for sample in samples if sample.problem)
    joined = join_comparisons(own, further)
    seeds = {"own": seed, **{sample.name: sample.seed for sample in samples}}
    return replace(joined, notes=(*joined.notes, *skipped), seeds=seeds)


def _compare_sample(candidate: Side, reference: Side, tolerance: Tolerance, sample: Sample) -> NumericsComparison:
    candidate, reference = with_inputs(candidate, sample.inputs), with_inputs(reference, sample.inputs)
    if sample.is_generated:
        error = observe(reference, seed=sample.seed).error
        if error is not None:
            return nothing_compared(f"{sample.name}: the model does not take such inputs: {error}")
    return _compare(candidate, reference, tolerance, sample.seed)


def with_inputs(side: Side, inputs: Inputs) -> Side:
    """Return the side with other inputs."""
    return replace(side, args=inputs[0], kwargs=inputs[1])


def _compare(candidate: Side, reference: Side, tolerance: Tolerance, seed: int) -> NumericsComparison:
    actual, expected = observe(candidate, seed=seed), observe(reference, seed=seed)
    if tolerance.is_declared:
        return compare_observations(actual, expected, None, tolerance)
    try:
        truth, nudged = _float64_runs(reference, seed)
    except NumericsError as error:
        return compare_observations(actual, expected, None, tolerance, no_truth_because=str(error))
    return compare_observations(actual, expected, truth, tolerance, nudged=nudged)


def _float64_runs(reference: Side, seed: int) -> tuple[Observation, Observation]:
    return observe(promote(reference), seed=seed), observe(nudge(reference, seed=seed), seed=seed)
