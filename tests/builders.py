"""Small values of the domain for tests: evidence whose spread is known, and everything around it."""

from __future__ import annotations

import math
import secrets
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from pytest_nnopt.baseline.schema import CaseBaseline, CompileRecord, Evidence, ProcessRecord, RatioRecord, Recording
from pytest_nnopt.config import CaseConfig, LimitsConfig, SpeedupConfig
from pytest_nnopt.environment import Environment
from pytest_nnopt.history.schema import Entry
from pytest_nnopt.model import Check, CheckName, CompileAttempt, CompileFacts, CompileStatus, Outcome, Verdict
from pytest_nnopt.numerics import Lane, LeafComparison, NumericsComparison
from pytest_nnopt.numerics.leaves import LeafKind
from pytest_nnopt.results import CaseMessage, CaseResult
from pytest_nnopt.statistics.prior import VariancePrior
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.verdict import Question

if TYPE_CHECKING:
    from collections.abc import Iterable

CASE_ID = "tests/test_model.py::test_policy"
RECORDED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
TIGHT_PRIOR = VariancePrior(0.005**2, 30.0)
_SCATTER = (0.0, 0.003, -0.003, 0.002, -0.002, 0.001, -0.001, 0.0)


def make_process(log_ratio: float = 0.0) -> ProcessRecord:
    """One process whose candidate took ``exp(log_ratio)`` times as long as its reference."""
    seconds = {"reference": 1e-3, "candidate": 1e-3 * math.exp(log_ratio), "yardstick": 5e-4}
    return ProcessRecord(
        seconds=seconds,
        candidate_to_reference=RatioRecord(log_ratio=log_ratio, variance=1e-6, blocks=40),
        candidate_to_yardstick=RatioRecord(log_ratio=log_ratio + math.log(2), variance=1e-6, blocks=40),
        warmup_seconds=0.25,
        is_steady=True,
    )


def make_timing(ratio: float = 1.0, *, count: int = 8) -> tuple[ProcessRecord, ...]:
    """Processes whose candidate took about ``ratio`` times as long as its reference, within a third of a percent."""
    return tuple(make_process(math.log(ratio) + _SCATTER[index % len(_SCATTER)]) for index in range(count))


def on_machine(timing: Iterable[ProcessRecord], pace: float) -> tuple[ProcessRecord, ...]:
    """The processes with a fixed workload that took ``pace`` times as long."""
    return tuple(
        process.model_copy(update={"seconds": {**process.seconds, "yardstick": pace * process.seconds["yardstick"]}})
        for process in timing
    )


BOTH_SIDES = ("candidate", "reference")


def led_by(
    timing: Iterable[ProcessRecord], loop_seconds: float | None, waiting: tuple[str, ...] = BOTH_SIDES
) -> tuple[ProcessRecord, ...]:
    """The processes with sides that wait for a host whose fixed loop takes so long."""
    led = {"host_loop_seconds": loop_seconds, "waiting": waiting}
    return tuple(process.model_copy(update=led) for process in timing)


def make_environment(**fields: Any) -> Environment:
    """An environment on a small CPU."""
    return Environment({"device": "cpu", "cpu": "AMD EPYC", "cores": 2, "threads": 2, "torch": "2.13.0", **fields})


def make_compile_record(**figures: Any) -> CompileRecord:
    """Exact figures of a healthy compilation."""
    healthy = {"status": "compiled", "graphs": 1, "graph_breaks": 0, "recompiles": 0, "eager_frames": 0}
    return CompileRecord(**{**healthy, **figures})


def make_evidence(ratio: float = 1.0, *, count: int = 8, compiled: CompileRecord | None = None) -> Evidence:
    """Everything that a baseline holds of a healthy case."""
    return Evidence(timing=make_timing(ratio, count=count), compile=compiled or make_compile_record())


def make_recording(
    environment: Environment, evidence: Evidence | None = None, *, revision: str | None = None
) -> Recording:
    """Evidence as accepted in an environment."""
    return Recording(
        recorded=RECORDED, environment=environment.digest, revision=revision, evidence=evidence or make_evidence()
    )


def make_baseline(environment: Environment, *evidence: Evidence, case: str = CASE_ID) -> CaseBaseline:
    """A case's file with one recording for each piece of evidence."""
    recordings = tuple(make_recording(environment, one) for one in evidence or (make_evidence(),))
    return CaseBaseline(case=case, recordings=recordings)


def make_facts(status: CompileStatus = CompileStatus.COMPILED, **facts: Any) -> CompileFacts:
    """Facts of a healthy compilation, changed as asked."""
    healthy: dict[str, Any] = {
        "attempts": (CompileAttempt("default mode"),),
        "graphs": 1,
        "graph_breaks": (),
        "recompiles": (),
        "eager_frames": 0,
    }
    return CompileFacts(status, **{**healthy, **facts})


def make_comparison(*excesses: float, problem: str = "rms error too large") -> NumericsComparison:
    """A comparison with one leaf for each excess; above 1 a leaf has the problem."""
    leaves = tuple(
        LeafComparison(
            f"output[{index}]",
            LeafKind.OUTPUT,
            "float32",
            (2,),
            Lane.FLOAT64,
            problem=problem if excess > 1 else None,
            excess=excess,
        )
        for index, excess in enumerate(excesses)
    )
    return NumericsComparison(leaves, Lane.FLOAT64, "a float64 run serves as the truth")


def make_config(*, min_speedup: float | None = None, is_fallback_allowed: bool = False, **limits: Any) -> CaseConfig:
    """A case's configuration: a declared speedup and limits."""
    return CaseConfig(
        speedup=SpeedupConfig(min=min_speedup),
        limits=LimitsConfig(**limits),
        is_fallback_allowed=is_fallback_allowed,
    )


def make_question(config: CaseConfig | None = None, **fields: Any) -> Question:
    """A question that asks everything, on a machine known to be quiet."""
    usual: dict[str, Any] = {
        "case_id": CASE_ID,
        "config": config or make_config(),
        "device": "cpu",
        "asked": frozenset(CheckName),
        "prior": TIGHT_PRIOR,
        "absolute_prior": TIGHT_PRIOR,
        "plan": SequentialPlan(),
    }
    return Question(**{**usual, **fields})


def make_check(
    name: CheckName = CheckName.NUMERICS, outcome: Outcome = Outcome.PASSED, reason: str = "as expected", **fields: Any
) -> Check:
    """An answer."""
    return Check(name, outcome, reason, **fields)


def make_result(*checks: Check, case_id: str = CASE_ID, evidence: Evidence | None = None) -> CaseResult:
    """What became of a case."""
    return CaseResult.of(Verdict(case_id, checks), evidence or Evidence())


def make_message(result: CaseResult, environment: Environment | None = None, **fields: Any) -> CaseMessage:
    """A case on its way to the process that reports."""
    return CaseMessage(result=result, environment=dict((environment or make_environment()).fields), **fields)


def make_entry(environment: Environment | None = None, *, hours: float = 0.0, **fields: Any) -> Entry:
    """What a run adds to the shared history: by default a sound run on main, so many hours after the first."""
    here = environment or make_environment()
    usual: dict[str, Any] = {
        "run": secrets.token_hex(8),
        "case": CASE_ID,
        "recorded": RECORDED + timedelta(hours=hours),
        "branch": "main",
        "environment": here.digest,
        "fields": dict(here.fields),
        "outcome": Outcome.PASSED,
        "has_passed": True,
        "evidence": make_evidence(),
    }
    return Entry(**{**usual, **fields})
