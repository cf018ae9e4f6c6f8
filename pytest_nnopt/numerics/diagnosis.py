"""Where a wrong number comes from: the compiler's stage that introduced it, and the first part of a model.

The words for it stand here, the runs that find it in ``torch_backend.diagnosis``.
"""

from __future__ import annotations

from dataclasses import dataclass

_STAGES = {
    "eager": "capturing the graph (torch._dynamo), before anything is optimised: a side effect, a random number or a "
    "Python value that the graph holds wrongly",
    "aot_eager": "tracing through autograd (AOTAutograd): functionalisation, decompositions, or the backward graph",
    "inductor": "inductor: lowering, fusion, or the kernels that it generates or calls",
}
_ROUNDING = (
    "with emulate_precision_casts it disappears: fused kernels keep intermediate results in a higher precision than "
    "eager, which is rounding rather than a wrong kernel"
)
_NOT_ROUNDING = "with emulate_precision_casts it stays: not rounding between fused operations"


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one backend came to on the failing inputs.

    Attributes:
        backend: its name.
        problem: what was wrong, in words; None where the numbers were right.
    """

    backend: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class PartResult:
    """What comparing a model part by part came to.

    Attributes:
        path: the first part that departs on its own, as ``named_modules`` writes it; None where none does.
        type_name: its class.
        problem: what is wrong with it, in words.
        compared: how many parts were compared.
        is_complete: whether no part was left out for lack of time.
    """

    path: str | None = None
    type_name: str = ""
    problem: str = ""
    compared: int = 0
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Where a wrong number comes from.

    Attributes:
        inputs: name of the failing inputs; empty for the pair's own.
        stages: results by backend, in the order that code passes through them; empty for a candidate that
            ``torch.compile`` did not make.
        emulated: the last stage's result with ``emulate_precision_casts``; None where it was not asked.
        parts: what comparing part by part came to; None where there are no parts to compare.
    """

    inputs: str = ""
    stages: tuple[StageResult, ...] = ()
    emulated: StageResult | None = None
    parts: PartResult | None = None

    @property
    def culprit(self) -> StageResult | None:
        """The first stage whose numbers are wrong."""
        return next((stage for stage in self.stages if stage.problem is not None), None)


def describe_diagnosis(diagnosis: Diagnosis) -> list[str]:
    """Say where the error comes from, most telling line first."""
    where = f" on {diagnosis.inputs}" if diagnosis.inputs else ""
    lines = [*_describe_stages(diagnosis, where)]
    if diagnosis.parts is not None:
        lines.append(_describe_parts(diagnosis.parts, where))
    return lines


def _describe_stages(diagnosis: Diagnosis, where: str) -> list[str]:
    if not diagnosis.stages:
        return []
    tried = ", ".join(f"{stage.backend} {'right' if stage.problem is None else 'WRONG'}" for stage in diagnosis.stages)
    culprit = diagnosis.culprit
    if culprit is None:
        return [f"introduced by: unknown; compiled afresh{where} its numbers are right ({tried})"]
    said = _STAGES.get(culprit.backend, f"the backend {culprit.backend}")
    lines = [f"introduced by: {said} ({tried}{where})"]
    if diagnosis.emulated is not None:
        lines.append(_ROUNDING if diagnosis.emulated.problem is None else _NOT_ROUNDING)
    return lines


def _describe_parts(parts: PartResult, where: str) -> str:
    counted = f"{parts.compared} compared one at a time{where}"
    if parts.path is not None:
        return f"first submodule that departs: {parts.path} ({parts.type_name}): {parts.problem} ({counted})"
    if not parts.is_complete:
        return f"first submodule that departs: none of the first ones, the others were not compared ({counted})"
    return (
        f"first submodule that departs: none alone ({counted}): the error is in code between them, or in their fusion"
    )
