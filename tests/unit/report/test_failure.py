from __future__ import annotations

from pytest_nnopt.model import CheckName, Outcome, Verdict
from pytest_nnopt.report.failure import describe_failure
from tests.builders import CASE_ID, make_check


def describe(*checks: tuple[CheckName, Outcome, str, tuple[str, ...]]) -> str:
    return describe_failure(
        Verdict(
            CASE_ID,
            tuple(make_check(name, outcome, reason, details=details) for name, outcome, reason, details in checks),
        )
    )


def test_everything_known_about_a_failing_case_is_said_failures_first() -> None:
    text = describe(
        (CheckName.COMPILE, Outcome.PASSED, "1 graph, 0 graph breaks, 0 recompiles", ("not shown",)),
        (CheckName.NUMERICS, Outcome.FAILED, "output: rms error too large", ("output (float32)\n  worst at [0]",)),
        (CheckName.SPEEDUP, Outcome.INCONCLUSIVE, "speedup was not measured", ()),
        (CheckName.LATENCY, Outcome.FAILED, "latency +20.0 %", ("8 processes",)),
    )
    assert text == (
        f"{CASE_ID}: output: rms error too large\n"
        "    output (float32)\n"
        "      worst at [0]\n"
        "    what to do: if the difference is intended, allow it with "
        "@pytest.mark.nnopt_tolerance(rtol=..., atol=...)\n"
        "  latency failed: latency +20.0 %\n"
        "    8 processes\n"
        "    what to do: if the new level is intended, allow it with @pytest.mark.nnopt_limits(latency=...), "
        "or accept it with pytest --nnopt-update --nnopt-reason TEXT\n"
        "  compile passed: 1 graph, 0 graph breaks, 0 recompiles\n"
        "  speedup inconclusive: speedup was not measured"
    )


def test_a_changed_reference_is_said_also_where_the_candidate_still_agrees() -> None:
    changed = ("the reference itself changed: output has 0.2 where it had 0.1",)
    text = describe(
        (CheckName.LATENCY, Outcome.FAILED, "latency +20.0 %", ()),
        (CheckName.NUMERICS, Outcome.PASSED, "1 leaf agrees", changed),
    )
    assert text.endswith(f"\n  numerics passed: 1 leaf agrees\n    {changed[0]}")


def test_what_a_baseline_names_commands_nothing() -> None:
    text = describe((CheckName.LATENCY, Outcome.NO_BASELINE, "\x1b[2J\n::error::boom", ("::add-mask::x\u202e",)))
    assert text == f"{CASE_ID}: \\x1b[2J\n\\x3a:error::boom\n    \\x3a:add-mask::x\\u202e"


def test_a_missing_baseline_names_its_own_remedy() -> None:
    reason = f"no baseline for '{CASE_ID}' on 'cpu'; record one with pytest --nnopt-update"
    assert describe((CheckName.LATENCY, Outcome.NO_BASELINE, reason, ())) == f"{CASE_ID}: {reason}"


def test_what_holds_of_several_checks_is_said_once() -> None:
    missing = [
        (name, Outcome.NO_BASELINE, "no baseline", ("a detail",)) for name in (CheckName.LATENCY, CheckName.MEMORY)
    ]
    text = f"{CASE_ID}: no baseline\n    a detail\n  memory no baseline: as above\n    a detail"
    assert describe(*missing) == text


def test_a_check_without_a_remedy_says_what_it_found() -> None:
    assert describe((CheckName.DEVICE_TIME, Outcome.FAILED, "device time +20 %", ("gemm is slower",))) == (
        f"{CASE_ID}: device time +20 %\n    gemm is slower"
    )
