from __future__ import annotations

import dataclasses
import itertools

import pytest

from pytest_nnopt.model import (
    Block,
    CheckName,
    CompileAttempt,
    CompileFacts,
    CompileStatus,
    Outcome,
    ProcessSample,
    Variant,
    Verdict,
)
from tests.builders import make_check


def test_only_failed_and_no_baseline_fail_a_test() -> None:
    assert {outcome for outcome in Outcome if outcome.is_failure} == {Outcome.FAILED, Outcome.NO_BASELINE}


def test_every_failure_is_more_severe_than_every_other_outcome() -> None:
    for one, other in itertools.product(Outcome, Outcome):
        if one.is_failure and not other.is_failure:
            assert one.severity > other.severity


def test_severities_tell_all_outcomes_apart() -> None:
    assert len({outcome.severity for outcome in Outcome}) == len(Outcome)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(Outcome, 2)))
def test_a_verdict_is_the_worst_of_its_checks_in_any_order(one: Outcome, other: Outcome) -> None:
    worst = max(one, other, key=lambda outcome: outcome.severity)
    for first, second in ((one, other), (other, one)):
        checks = (make_check(CheckName.NUMERICS, first), make_check(CheckName.COMPILE, second))
        assert Verdict("case", checks).outcome is worst


def test_a_verdict_without_checks_is_skipped() -> None:
    assert Verdict("case", ()).outcome is Outcome.SKIPPED


def test_a_verdict_gives_its_checks_by_name() -> None:
    numerics, compilation = make_check(CheckName.NUMERICS), make_check(CheckName.COMPILE)
    verdict = Verdict("case", (numerics, compilation))
    assert verdict[CheckName.COMPILE] is compilation
    with pytest.raises(KeyError, match="latency"):
        verdict[CheckName.LATENCY]


def test_a_verdict_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Verdict("case", ()).case_id = "other"  # type: ignore[misc]  # that is what is tested


def test_a_sample_gives_the_seconds_of_one_variant_block_by_block() -> None:
    blocks = tuple(Block({Variant.REFERENCE: 2.0 + i, Variant.CANDIDATE: 1.0 + i}) for i in range(3))
    sample = ProcessSample(blocks, {Variant.REFERENCE: 2, Variant.CANDIDATE: 4}, warmup_seconds=0.1, is_steady=True)
    assert sample.seconds(Variant.CANDIDATE) == (1.0, 2.0, 3.0)
    assert sample.dropped_blocks == 0


@pytest.mark.parametrize(
    ("attempts", "used"),
    [
        ((), None),
        ((CompileAttempt("mode='max-autotune'"),), "mode='max-autotune'"),
        ((CompileAttempt("mode='max-autotune'", "it broke"), CompileAttempt("default mode")), "default mode"),
        ((CompileAttempt("default mode", "it broke"),), None),
    ],
)
def test_the_last_attempt_is_in_use_unless_it_failed(attempts: tuple[CompileAttempt, ...], used: str | None) -> None:
    assert CompileFacts(CompileStatus.COMPILED, attempts).used == used
