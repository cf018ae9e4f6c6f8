from __future__ import annotations

import pytest

from pytest_nnopt.numerics.diagnosis import Diagnosis, PartResult, StageResult, describe_diagnosis

RIGHT = StageResult("eager", None)


def stages(*results: str | None) -> tuple[StageResult, ...]:
    names = ("eager", "aot_eager", "inductor")
    return tuple(StageResult(name, problem) for name, problem in zip(names, results, strict=False))


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (("bad",), "introduced by: capturing the graph (torch._dynamo), *eager WRONG)"),
        ((None, "bad"), "introduced by: tracing through autograd (AOTAutograd): *eager right, aot_eager WRONG)"),
        ((None, None, "bad"), "introduced by: inductor: *eager right, aot_eager right, inductor WRONG)"),
    ],
)
def test_each_stage_is_named(results: tuple[str | None, ...], said: str) -> None:
    (line,) = describe_diagnosis(Diagnosis(stages=stages(*results)))
    start, _, end = said.partition("*")
    assert line.startswith(start)
    assert line.endswith(end)


def test_another_backend_and_the_failing_inputs_are_named() -> None:
    found = Diagnosis("samples[0]", (RIGHT, StageResult("mine", "bad")))
    assert describe_diagnosis(found) == [
        "introduced by: the backend mine (eager right, mine WRONG on samples[0])",
    ]


def test_what_is_right_when_compiled_afresh_has_an_unknown_cause() -> None:
    assert describe_diagnosis(Diagnosis("samples[0]", (RIGHT,))) == [
        "introduced by: unknown; compiled afresh on samples[0] its numbers are right (eager right)"
    ]


@pytest.mark.parametrize(("problem", "said"), [(None, "it disappears: "), ("bad", "it stays: ")])
def test_emulated_casts_tell_rounding_from_a_wrong_kernel(problem: str | None, said: str) -> None:
    found = Diagnosis(stages=stages(None, None, "bad"), emulated=StageResult("inductor", problem))
    assert describe_diagnosis(found)[1].startswith(f"with emulate_precision_casts {said}")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (PartResult("a.b", "GELU", "output: bad", 3), "a.b (GELU): output: bad (3 compared one at a time)"),
        (
            PartResult(compared=3),
            "none alone (3 compared one at a time): the error is in code between them, or in their fusion",
        ),
        (
            PartResult(compared=3, is_complete=False),
            "none of the first ones, the others were not compared (3 compared one at a time)",
        ),
    ],
)
def test_the_part_is_named(parts: PartResult, said: str) -> None:
    assert describe_diagnosis(Diagnosis(parts=parts)) == [f"first submodule that departs: {said}"]


def test_the_culprit_is_the_first_stage_that_is_wrong() -> None:
    assert Diagnosis(stages=stages(None, "bad", "worse")).culprit == StageResult("aot_eager", "bad")
    assert Diagnosis().culprit is None
