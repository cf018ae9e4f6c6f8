from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_nnopt.baseline.schema import Evidence, RatioRecord
from pytest_nnopt.numerics.summary import ErrorFigures
from pytest_nnopt.results import LeafResult
from pytest_nnopt.session.context import describe_context, summarise_times
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.verdict import Observed
from tests.builders import (
    RECORDED,
    TIGHT_PRIOR,
    make_comparison,
    make_environment,
    make_evidence,
    make_facts,
    make_process,
    make_question,
    make_recording,
    make_timing,
)

HERE = make_environment()


def test_times_are_a_ratio_with_an_interval_around_it() -> None:
    times = summarise_times(make_timing(0.5), TIGHT_PRIOR)
    assert times is not None
    assert times.ratio == pytest.approx(0.5, rel=1e-3)
    assert 0.49 < times.low < times.ratio < times.high < 0.51
    assert (times.confidence, times.processes) == (0.95, 8)


def test_more_processes_narrow_the_interval() -> None:
    one, eight = (summarise_times(make_timing(count=count), TIGHT_PRIOR) for count in (1, 8))
    assert one is not None
    assert eight is not None
    assert one.high / one.low > eight.high / eight.low


def test_of_no_processes_nothing_is_known() -> None:
    assert summarise_times((), TIGHT_PRIOR) is None


def test_an_absurd_interval_stays_finite() -> None:
    ratios = [RatioRecord(log_ratio=log_ratio, variance=1e-6, blocks=40) for log_ratio in (-49.0, 49.0)]
    timing = [make_process().model_copy(update={"candidate_to_reference": ratio}) for ratio in ratios]
    times = summarise_times(timing, VariancePrior(2500.0, 2.0))
    assert times is not None
    assert times.high == pytest.approx(math.exp(69))


def test_a_case_without_anything_still_has_its_environment() -> None:
    context = describe_context(make_question(), Observed(make_facts()), HERE)
    assert context.environment == HERE.fields
    assert (context.baseline_environment, context.level, context.times, context.level_times) == (None,) * 4
    assert (context.leaves, context.history) == ((), ())


def test_level_history_and_fingerprint_come_along() -> None:
    level = make_evidence(0.5)
    recordings = (make_recording(HERE, revision="abc"), make_recording(HERE, Evidence()), make_recording(HERE, level))
    context = describe_context(
        make_question(baseline=level), Observed(make_facts(), timing=make_timing(0.6)), HERE, recordings, HERE
    )
    assert context.level == level
    assert context.times is not None
    assert context.level_times is not None
    assert context.times.ratio / context.level_times.ratio == pytest.approx(1.2, rel=1e-3)
    assert [(point.recorded, point.revision) for point in context.history] == [(RECORDED, "abc"), (RECORDED, None)]
    assert context.baseline_environment == HERE.fields


def test_a_leaf_has_both_errors_and_the_limit() -> None:
    (leaf,) = make_comparison(0.5).leaves
    figures = [ErrorFigures(nrmse=1e-7 * n, maximum=1e-6 * n, gain=0.0, offset=0.0) for n in (1, 2, 3)]
    leaf = replace(leaf, candidate=figures[0], reference=figures[1], limits=figures[2], note="so it is")
    comparison = replace(make_comparison(), leaves=(leaf,))
    context = describe_context(make_question(), Observed(make_facts(), comparison), HERE)
    assert context.leaves == (
        LeafResult(
            path="output[0]",
            kind="output",
            dtype="float32",
            shape=(2,),
            lane="float64",
            excess=0.5,
            candidate_nrmse=1e-7,
            candidate_max=1e-6,
            reference_nrmse=2e-7,
            reference_max=2e-6,
            limit_nrmse=3e-7,
            limit_max=3e-6,
            note="so it is",
        ),
    )


def test_an_infinite_excess_is_none() -> None:
    context = describe_context(make_question(), Observed(make_facts(), make_comparison(math.inf)), HERE)
    (leaf,) = context.leaves
    assert (leaf.excess, leaf.problem, leaf.candidate_nrmse) == (None, "rms error too large", None)
