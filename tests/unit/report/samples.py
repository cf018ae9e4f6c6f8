"""A run with a case of every kind, for the golden texts."""

from __future__ import annotations

from pytest_nnopt.baseline.schema import Evidence, LeafRecord, MemoryRecord, ProcessRecord
from pytest_nnopt.model import Check, CheckName, Interval, Outcome
from pytest_nnopt.results import CaseResult, RunResults
from tests.builders import make_check, make_compile_record, make_environment, make_result, make_timing

LATENCY = "latency +20.0 % against the baseline [+15.0 %, +25.1 %] is beyond the limit of 10.0 %"
HOW_SURE = (
    "8 processes, one process varies by 0.30 %; the smallest change this evidence would find in 95 % of runs is 1.20 %"
)


def case(name: str, *checks: Check, timing: tuple[ProcessRecord, ...] = ()) -> CaseResult:
    return make_result(*checks, case_id=f"tests/test_model.py::{name}", evidence=Evidence(timing=timing))


def disturbed(process: ProcessRecord) -> ProcessRecord:
    concerns = {"load": "the load average is 9 on 2 cores; stop other work"}
    return process.model_copy(update={"concerns": concerns, "dropped_blocks": 3, "is_steady": False})


SLOW = make_result(
    make_check(CheckName.NUMERICS, reason="1 leaf agrees"),
    make_check(
        CheckName.LATENCY,
        Outcome.FAILED,
        LATENCY,
        value=0.2,
        baseline=0.0,
        limit=0.1,
        interval=Interval(0.15, 0.251, 0.98),
        details=(HOW_SURE,),
    ),
    case_id="tests/test_model.py::test_slow",
    evidence=Evidence(
        timing=(*make_timing(0.8, count=7), disturbed(make_timing(0.8)[7])),
        numerics={
            "output": LeafRecord(dtype="float32", shape=(4, 8), candidate_nrmse=2e-8, reference_nrmse=1e-8),
            "output.loss": LeafRecord(dtype="float32", shape=(), candidate_max=3e-7),
        },
        compile=make_compile_record(used="default mode", cold_seconds=12.5),
        memory=MemoryRecord(candidate_peak_bytes=2**20, reference_peak_bytes=2**21),
    ),
)
OPEN = case(
    "test_open",
    make_check(CheckName.NUMERICS),
    make_check(
        CheckName.LATENCY,
        Outcome.INCONCLUSIVE,
        "latency +3.00 % against the baseline [-2.00 %, +8.00 %] is not clearly on either side of the limit of 5.00 %",
        value=0.03,
        details=(HOW_SURE,),
    ),
    timing=make_timing(0.9, count=1),
)
BROKEN = case(
    "TestNet::test_broken[" + "x" * 40 + "-end]",
    make_check(
        CheckName.COMPILE,
        Outcome.FAILED,
        "1 graph break, the limit is 0",
        details=("graph break at net.py:14: call to print\n    print(x)",),
        remedy="mend what is listed above; or, if it is intended, "
        "allow it with @pytest.mark.nnopt_limits(graph_breaks=1)",
    ),
    make_check(CheckName.NUMERICS, Outcome.FAILED, "output: rms error too large"),
    make_check(CheckName.SPEEDUP, Outcome.INCONCLUSIVE, "speedup was not measured"),
)
NEW = case("test_new", make_check(CheckName.LATENCY, Outcome.NO_BASELINE, "no baseline for it; record one"))
BETTER = case("test_better", make_check(CheckName.LATENCY, Outcome.IMPROVED, value=-0.1), timing=make_timing(0.5))
SOUND = case("test_sound", make_check(CheckName.NUMERICS), make_check(CheckName.COMPILE))
UNASKED = case("test_unasked")
RUN = RunResults(environment=dict(make_environment().fields), cases=(BETTER, BROKEN, NEW, OPEN, SLOW, SOUND, UNASKED))
