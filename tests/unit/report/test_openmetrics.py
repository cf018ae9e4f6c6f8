from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pytest_nnopt.baseline.schema import Evidence, KernelRecord
from pytest_nnopt.report.openmetrics import render_openmetrics
from pytest_nnopt.results import RunResults
from tests.builders import make_process, make_result
from tests.unit.report.golden import golden
from tests.unit.report.samples import BROKEN, RUN, SLOW, SOUND

if TYPE_CHECKING:
    from pytest_nnopt.results import CaseResult


def samples_of(*cases: CaseResult) -> dict[str, dict[str, Any]]:
    """Return what Prometheus's own parser reads: by metric, each case's figure."""
    families = text_string_to_metric_families(render_openmetrics(RunResults(environment={}, cases=cases)))
    return {family.name: {sample.labels["case"]: sample.value for sample in family.samples} for family in families}


def test_the_text_is_as_documented() -> None:
    assert render_openmetrics(RUN) == golden("openmetrics.txt")


def test_prometheus_reads_every_figure() -> None:
    samples = samples_of(*RUN.cases)
    assert samples["nnopt_failed"][SLOW.id] == 1
    assert samples["nnopt_failed"][SOUND.id] == 0
    assert samples["nnopt_latency_change_ratio"][SLOW.id] == pytest.approx(0.2)
    assert samples["nnopt_candidate_seconds"][SLOW.id] == pytest.approx(8e-4)
    assert samples["nnopt_peak_memory_bytes"] == {SLOW.id: 2**20}
    assert BROKEN.id not in samples["nnopt_speedup_ratio"]


def test_kernels_have_a_metric_of_their_own() -> None:
    process = make_process().model_copy(update={"kernels": {"gemm": KernelRecord(count=1, seconds=2e-4)}})
    result = make_result(evidence=Evidence(timing=(process,)))
    assert samples_of(result)["nnopt_kernels_seconds"] == {result.id: pytest.approx(2e-4)}


def test_no_cases_are_an_empty_text() -> None:
    assert render_openmetrics(RunResults(environment={}, cases=())) == "# EOF\n"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1))
def test_any_id_is_read_back(case_id: str) -> None:
    assert list(samples_of(make_result(case_id=case_id))["nnopt_failed"]) == [case_id]
