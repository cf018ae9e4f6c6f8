"""Real processes, measured by ``benchmarks.gate_quality`` and drawn by ``benchmarks.replay``, judged again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import Decision, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.statistics.sequential import DEFAULT_LOOKS
from pytest_nnopt.verdict.revisions import decide_head_over_base

RECORDED = json.loads((Path(__file__).parents[2] / "recorded" / "timing.json").read_text(encoding="utf-8"))


def estimates(rows: list[list[float]]) -> list[ProcessEstimate]:
    return [ProcessEstimate(log_ratio, variance, int(blocks)) for log_ratio, variance, blocks in rows]


def judge(row: dict[str, Any], processes: int) -> Decision:
    now = estimates(row["now"][:processes])
    if row["before"] is None:
        return decide_head_over_base(now, limit=row["limit"], is_on_gpu=False)
    return decide_regression(now, estimates(row["before"]), limit=row["limit"], prior=DEFAULT_CPU_PRIOR)


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['model']}-{row['slowdown']}")
def test_recorded_processes_are_judged_as_they_were(row: dict[str, Any]) -> None:
    decision = judge(row, row["processes"])
    assert decision.outcome.value == row["outcome"]
    assert decision.change == pytest.approx(row["change"], abs=1e-4)
    looks = [look for look in DEFAULT_LOOKS if look < row["processes"]]
    assert all(judge(row, look).outcome is Outcome.INCONCLUSIVE for look in looks)


def test_the_record_holds_all_kinds() -> None:
    assert {row["model"] for row in RECORDED} == {"small", "medium", "large"}
    assert {row["outcome"] for row in RECORDED if row["slowdown"] == 0.0} <= {"passed", "improved", "inconclusive"}
    assert "failed" in {row["outcome"] for row in RECORDED if row["slowdown"] == 0.2}
