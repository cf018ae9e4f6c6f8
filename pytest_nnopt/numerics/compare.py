"""Compare what a candidate did with what its reference did, leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pytest_nnopt.numerics.comparison import Lane, LeafComparison, NumericsComparison
from pytest_nnopt.numerics.judge import Allowance, Judgement, Neighbours, judge
from pytest_nnopt.numerics.leaves import ArrayLeaf, ConstantLeaf, Leaf, LeafKind, Observation
from pytest_nnopt.numerics.locate import declared_limits, locate, locate_exact, octave_limits
from pytest_nnopt.numerics.measure import Errors, Figures, Runs, aligned, measure
from pytest_nnopt.numerics.summary import ErrorFigures, LeafSummary, Sampler
from pytest_nnopt.numerics.systematic import shared_uncertainty
from pytest_nnopt.numerics.tolerance import Tolerance, floor_of

_NO_TRUTH = "no float64 run was made"
_UNLIKE_TRUTH = 0.5
_CONDITIONED = 10.0
_ILL_CONDITIONED_FLOORS = 100.0
_OPTIONAL_KINDS = (LeafKind.GRADIENT, LeafKind.BUFFER, LeafKind.PARAMETER)


def compare_observations(
    candidate: Observation,
    reference: Observation,
    truth: Observation | None,
    tolerance: Tolerance,
    *,
    nudged: Observation | None = None,
    no_truth_because: str = _NO_TRUTH,
) -> NumericsComparison:
    """Compare everything two runs did.

    Structure, dtypes, shapes, devices and the places of NaN and infinities must match exactly, and so must integers,
    booleans and constants. Floating leaves are held against the declared tolerance, or else both sides' errors
    against ``truth`` are compared; a leaf that ``truth`` does not describe is held against its dtype's tolerance, and
    says so in its note.

    Args:
        candidate: what the optimised side did.
        reference: what the eager side did.
        truth: what the reference did in float64.
        tolerance: what is allowed.
        nudged: what the reference did in float64 with its inputs moved within their rounding. It shows what error
            no implementation can avoid, element by element; without it only whole leaves are compared.
        no_truth_because: why ``truth`` is None, for the message.
    """
    if truth is not None and truth.error is not None:
        no_truth_because = f"the float64 run raised {truth.error}"
        truth = None
    lane, reason = _lane(tolerance, truth, no_truth_because)
    if candidate.error is not None or reference.error is not None:
        leaves, notes = _compare_errors(candidate, reference)
        return NumericsComparison(leaves, lane, reason, notes=notes)
    pairs, unpaired, not_compared = _pair(candidate, reference)
    comparer = _Comparer(tolerance, _by_path(truth), _by_path(nudged), reason)
    leaves = (*_compare_containers(candidate, reference), *unpaired, *comparer.compare(pairs))
    return NumericsComparison(leaves, lane, reason, tuple(not_compared), (*candidate.notes, *reference.notes))


def _lane(tolerance: Tolerance, truth: Observation | None, no_truth_because: str) -> tuple[Lane, str]:
    if tolerance.is_declared:
        return Lane.DECLARED, f"declared rtol={tolerance.rtol or 0:g}, atol={tolerance.atol or 0:g}"
    if truth is None:
        return Lane.DTYPE, no_truth_because
    return Lane.FLOAT64, "both sides measured against a float64 run of the reference"


def _compare_errors(
    candidate: Observation, reference: Observation
) -> tuple[tuple[LeafComparison, ...], tuple[str, ...]]:
    """Compare runs of which at least one raised: the same kind of exception on both sides is a match."""
    if candidate.error is None:
        return (_broken("output", f"the candidate returned, the reference raised {reference.error}"),), ()
    if reference.error is None:
        return (_broken("output", f"the candidate raised {candidate.error}, the reference returned"),), ()
    if set(candidate.error.type_names) & set(reference.error.type_names):
        return (), (f"both sides raise {reference.error}",)
    return (_broken("output", f"the candidate raised {candidate.error}, the reference {reference.error}"),), ()


def _compare_containers(candidate: Observation, reference: Observation) -> Iterator[LeafComparison]:
    for path in {**reference.containers, **candidate.containers}:
        ours, theirs = candidate.containers.get(path), reference.containers.get(path)
        if ours is not None and theirs is not None and ours != theirs:
            yield _broken(path, f"the candidate returned {ours}, the reference {theirs}")


def _broken(path: str, problem: str, leaf: Leaf | None = None) -> LeafComparison:
    """Make the comparison of something that must match exactly and does not."""
    kind = leaf.kind if leaf is not None else LeafKind.OUTPUT
    dtype, shape = (leaf.dtype, leaf.shape) if isinstance(leaf, ArrayLeaf) else ("constant", ())
    return LeafComparison(path, kind, dtype, shape, Lane.EXACT, problem, float("inf"))


def _by_path(observation: Observation | None) -> dict[str, Leaf]:
    return {} if observation is None else {leaf.path: leaf for leaf in observation.leaves}


def _pair(
    candidate: Observation, reference: Observation
) -> tuple[list[tuple[Leaf, Leaf]], list[LeafComparison], list[str]]:
    """Match leaves by path; sort out what one side lacks into failures and into what cannot be compared."""
    ours, theirs = _by_path(candidate), _by_path(reference)
    pairs = [(ours[path], leaf) for path, leaf in theirs.items() if path in ours]
    unpaired: list[LeafComparison] = []
    not_compared: list[str] = []
    for owner, own, other in (("reference", theirs, ours), ("candidate", ours, theirs)):
        for path, leaf in own.items():
            if path in other:
                continue
            if leaf.kind in _OPTIONAL_KINDS:
                not_compared.append(f"{path}: only the {owner} has it")
            else:
                unpaired.append(_broken(path, f"only the {owner} has it", leaf))
    return pairs, unpaired, not_compared


@dataclass(frozen=True, slots=True)
class _Measured:
    """A floating leaf with its figures, before it is judged.

    Attributes:
        candidate: the candidate's leaf.
        reference: the reference's leaf.
        truth: the float64 run's leaf; None where errors are measured against the reference.
        nudged: the nudged run's leaf.
        figures: what one pass over them found.
        sample: true values by flat index.
        note: why there is no truth.
    """

    candidate: ArrayLeaf
    reference: ArrayLeaf
    truth: ArrayLeaf | None
    nudged: ArrayLeaf | None
    figures: Figures
    sample: tuple[tuple[int, float], ...]
    note: str | None

    def runs(self, *, has_nudged: bool = False) -> Iterator[Runs]:
        truth = self.truth.read() if self.truth is not None else None
        nudged = self.nudged.read() if has_nudged and self.nudged is not None else None
        return aligned(self.candidate.read(), self.reference.read(), truth, nudged)


class _Comparer:
    """Compares pairs of leaves. Floating ones are all measured before any is judged.

    The rounding noise of one leaf can only be told from an error by the magnitude of the case's other leaves.
    """

    def __init__(self, tolerance: Tolerance, truths: dict[str, Leaf], nudges: dict[str, Leaf], reason: str) -> None:
        self._tolerance = tolerance
        self._truths = truths
        self._nudges = nudges
        self._reason = reason

    def compare(self, pairs: list[tuple[Leaf, Leaf]]) -> list[LeafComparison]:
        drafts = [self._draft(candidate, reference) for candidate, reference in pairs]
        neighbours = _neighbours([draft for draft in drafts if isinstance(draft, _Measured)])
        judged = (self._judge(d, neighbours[d.reference.kind]) if isinstance(d, _Measured) else d for d in drafts)
        return [leaf for leaf in judged if leaf is not None]

    def _draft(self, candidate: Leaf, reference: Leaf) -> _Measured | LeafComparison | None:
        """Compare what must match exactly, or measure; None for state that neither side changed."""
        if isinstance(candidate, ConstantLeaf) or isinstance(reference, ConstantLeaf):
            return _compare_constants(candidate, reference)
        if candidate.is_unchanged and reference.is_unchanged:
            return None
        problem = _metadata_problem(candidate, reference, strides=self._tolerance.strides)
        if problem is not None:
            return _broken(candidate.path, problem, candidate)
        if not candidate.is_floating:
            return _compare_exact(candidate, reference)
        return self._measure(candidate, reference)

    def _measure(self, candidate: ArrayLeaf, reference: ArrayLeaf) -> _Measured:
        truth, note = self._truth_for(reference)
        nudged = _usable(self._nudges.get(reference.path), reference) if truth is not None else None
        measured = _measure(candidate, reference, truth, nudged, note)
        if truth is not None and measured.figures.untrue:
            note = f"the float64 run is not finite in {measured.figures.untrue} places that are finite here"
            return _measure(candidate, reference, None, None, note)
        return measured

    def _truth_for(self, reference: ArrayLeaf) -> tuple[ArrayLeaf | None, str | None]:
        if not self._truths:
            return None, self._reason
        leaf = self._truths.get(reference.path)
        truth = _usable(leaf, reference)
        if truth is not None:
            return truth, None
        if isinstance(leaf, ArrayLeaf):
            return None, f"the float64 run gave {leaf.dtype} of shape {list(leaf.shape)} here"
        return None, "the float64 run has no such array"

    def _judge(self, measured: _Measured, neighbours: Neighbours) -> LeafComparison:
        if self._tolerance.is_declared:
            return self._judge_declared(measured)
        allowance = self._allowance(measured, neighbours)
        if measured.truth is not None and _is_unlike_truth(measured.figures, allowance.noise):
            note = "the reference and its float64 run differ altogether: it draws other random numbers, or jumps"
            measured = _measure(measured.candidate, measured.reference, None, None, note)
            allowance = self._allowance(measured, neighbours)
        measured, judgement = _judged(measured, allowance)
        comparison = replace(
            _described(measured),
            lane=Lane.DTYPE if measured.truth is None else Lane.FLOAT64,
            limits=_limit_figures(measured.figures, judgement),
            note=measured.note or _condition_note(measured.figures, allowance),
            excess=judgement.excess,
        )
        problem = self._position_problem(measured.figures) or _error_problem(judgement)
        return comparison if problem is None else self._located(comparison, measured, judgement, problem)

    def _allowance(self, measured: _Measured, neighbours: Neighbours) -> Allowance:
        has_truth = measured.truth is not None
        floor = floor_of(measured.reference.dtype, has_truth=has_truth)
        eps = measured.reference.eps
        return Allowance(self._tolerance.factor, floor, eps, neighbours, is_stratified=measured.nudged is not None)

    def _position_problem(self, figures: Figures) -> str | None:
        if figures.mismatched:
            return f"NaN and infinities are not in the same places ({figures.mismatched} differ)"
        if figures.nan_count and not self._tolerance.equal_nan:
            return f"NaN in {figures.nan_count} places, and equal_nan is off"
        return None

    def _located(
        self, comparison: LeafComparison, measured: _Measured, judgement: Judgement, problem: str
    ) -> LeafComparison:
        located = locate(
            measured.candidate,
            measured.runs(),
            octave_limits(judgement.maximum_limits()),
            equal_nan=self._tolerance.equal_nan,
            is_declared=False,
        )
        return replace(comparison, problem=problem, located=located, excess=max(comparison.excess, located.excess))

    def _judge_declared(self, measured: _Measured) -> LeafComparison:
        located = locate(
            measured.candidate,
            measured.runs(),
            declared_limits(self._tolerance.rtol or 0.0, self._tolerance.atol or 0.0),
            equal_nan=self._tolerance.equal_nan,
            is_declared=True,
        )
        problem = self._position_problem(measured.figures)
        if problem is None and located.off:
            problem = f"{located.off} of {measured.candidate.size} elements are beyond the declared tolerance"
        return replace(
            _described(measured), lane=Lane.DECLARED, problem=problem, excess=located.excess, located=located
        )


def _judged(measured: _Measured, allowance: Allowance) -> tuple[_Measured, Judgement]:
    """Judge a leaf; look again at a gain or offset that would fail it, in case the elements' errors go together."""
    judgement = judge(measured.figures, allowance)
    is_suspect = max(judgement.gain_excess, judgement.offset_excess) > 1
    if not is_suspect or judgement.local_excess > 1 or measured.candidate.size < 2:
        return measured, judgement
    shape = (*measured.candidate.shape, 2) if measured.candidate.is_complex else measured.candidate.shape
    errors = measured.figures.candidate
    shared = shared_uncertainty(shape, measured.runs(has_nudged=True), measured.figures)
    surer = replace(
        errors,
        gain_uncertainty=max(errors.gain_uncertainty, shared.gain),
        offset_uncertainty=max(errors.offset_uncertainty, shared.offset),
    )
    measured = replace(measured, figures=replace(measured.figures, candidate=surer))
    return measured, judge(measured.figures, replace(allowance, is_grouped=True))


def _neighbours(measured: list[_Measured]) -> dict[LeafKind, Neighbours]:
    return {
        kind: Neighbours.of(leaf.figures for leaf in measured if leaf.reference.kind is kind)
        for kind in {leaf.reference.kind for leaf in measured}
    }


def _compare_constants(candidate: Leaf, reference: Leaf) -> LeafComparison:
    ours, theirs = _text(candidate), _text(reference)
    if ours == theirs:
        return LeafComparison(candidate.path, candidate.kind, "constant", (), Lane.EXACT)
    if _is_vanishing(candidate) and _is_vanishing(reference):
        note = f"the gradient vanishes: the candidate has {ours}, the reference {theirs}"
        return LeafComparison(candidate.path, candidate.kind, "constant", (), Lane.EXACT, note=note)
    return _broken(candidate.path, f"the candidate has {ours}, the reference {theirs}", candidate)


def _is_vanishing(leaf: Leaf) -> bool:
    """Whether a gradient is None or all zeros; a compiled graph makes zeros where eager leaves None."""
    if leaf.kind is not LeafKind.GRADIENT:
        return False
    return leaf.text == "None" if isinstance(leaf, ConstantLeaf) else not any(chunk.any() for chunk in leaf.read())


def _text(leaf: Leaf) -> str:
    return leaf.text if isinstance(leaf, ConstantLeaf) else f"an array of {leaf.dtype}"


def _metadata_problem(candidate: ArrayLeaf, reference: ArrayLeaf, *, strides: bool) -> str | None:
    for name in ("dtype", "shape", "layout", "device"):
        ours, theirs = getattr(candidate, name), getattr(reference, name)
        if ours != theirs:
            return f"the {name} is {_written(ours)}, the reference's is {_written(theirs)}"
    if strides and _told_strides(candidate) != _told_strides(reference):
        return f"the strides are {candidate.strides}, the reference's are {reference.strides}"
    return None


def _written(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _told_strides(leaf: ArrayLeaf) -> list[int]:
    """Return the strides that mean something: a dimension of one element may have any."""
    return [stride for stride, size in zip(leaf.strides or (), leaf.shape, strict=False) if size > 1]


def _compare_exact(candidate: ArrayLeaf, reference: ArrayLeaf) -> LeafComparison:
    sampler = Sampler(reference)
    located = locate_exact(candidate, candidate.read(), sampler.watch(reference.read()))
    problem = f"{located.off} of {candidate.size} elements differ" if located.off else None
    return LeafComparison(
        candidate.path,
        candidate.kind,
        candidate.dtype,
        candidate.shape,
        Lane.EXACT,
        problem=problem,
        excess=located.excess,
        located=located if problem else None,
        note="indices chosen among nearly equal values may differ without an error" if problem else None,
        summary=_summary(reference, None, tuple(sampler.values)),
    )


def _usable(leaf: Leaf | None, reference: ArrayLeaf) -> ArrayLeaf | None:
    """Return the float64 run's leaf if it describes the reference's."""
    if not isinstance(leaf, ArrayLeaf) or leaf.shape != reference.shape or leaf.is_complex != reference.is_complex:
        return None
    is_python_number = leaf.device == "python"
    return leaf if is_python_number or leaf.dtype in ("float64", "complex128") else None


def _measure(
    candidate: ArrayLeaf, reference: ArrayLeaf, truth: ArrayLeaf | None, nudged: ArrayLeaf | None, note: str | None
) -> _Measured:
    sampler = Sampler(reference)
    expected = reference.read() if truth is not None else sampler.watch(reference.read())
    true = sampler.watch(truth.read()) if truth is not None else None
    figures = measure(candidate.read(), expected, true, nudged.read() if nudged is not None else None)
    return _Measured(candidate, reference, truth, nudged, figures, tuple(sampler.values), note)


def _is_unlike_truth(figures: Figures, noise: float) -> bool:
    """Whether the reference has not even the right magnitude, and neither noise nor its conditioning explains that."""
    count = max(figures.count, 1)
    error = np.sqrt(figures.reference.square_sum / count)
    moved = np.sqrt(figures.nudged.square_sum / count) if figures.nudged is not None else 0.0
    return bool(error > _UNLIKE_TRUTH * figures.true_rms and error > noise and error > _CONDITIONED * moved)


def _condition_note(figures: Figures, allowance: Allowance) -> str | None:
    error = _figures(figures, figures.reference).nrmse
    if error <= _ILL_CONDITIONED_FLOORS * allowance.floor.rms * allowance.eps:
        return None
    return f"ill-conditioned: the reference itself is far from float64 (error {error:.2g}), rounding is amplified here"


def _error_problem(judgement: Judgement) -> str | None:
    if judgement.excess <= 1:
        return None
    if judgement.local_excess > 1:
        return "the error against float64 is larger than rounding explains"
    name = "a gain" if judgement.gain_excess > 1 else "an offset"
    return f"all elements share {name} that rounding does not explain"


def _described(measured: _Measured) -> LeafComparison:
    leaf, figures = measured.candidate, measured.figures
    ours = _figures(figures, figures.candidate)
    theirs = _figures(figures, figures.reference) if measured.truth is not None else None
    return LeafComparison(
        leaf.path,
        leaf.kind,
        leaf.dtype,
        leaf.shape,
        Lane.FLOAT64,
        candidate=ours,
        reference=theirs,
        note=measured.note,
        summary=replace(_summary(measured.reference, figures, measured.sample), candidate=ours, reference=theirs),
    )


def _summary(leaf: ArrayLeaf, figures: Figures | None, sample: tuple[tuple[int, float], ...]) -> LeafSummary:
    return LeafSummary(
        path=leaf.path,
        kind=leaf.kind,
        dtype=leaf.dtype,
        shape=leaf.shape,
        candidate=None,
        reference=None,
        rms=None if figures is None else figures.true_rms,
        maximum=None if figures is None else figures.true_maximum,
        sample=sample,
    )


def _figures(figures: Figures, errors: Errors) -> ErrorFigures:
    rms = float(np.sqrt(errors.square_sum / max(figures.count, 1)))
    return ErrorFigures(
        nrmse=_relative(rms, figures.true_rms),
        maximum=_relative(errors.maximum, figures.true_maximum),
        gain=errors.gain,
        offset=_relative(errors.offset, figures.true_rms),
    )


def _limit_figures(figures: Figures, judgement: Judgement) -> ErrorFigures:
    maximum = max((part.maximum_limit for part in judgement.strata), default=0.0)
    return ErrorFigures(
        nrmse=_relative(judgement.rms_limit, figures.true_rms),
        maximum=_relative(maximum, figures.true_maximum),
        gain=judgement.gain_limit,
        offset=_relative(judgement.offset_limit, figures.true_rms),
    )


def _relative(error: float, scale: float) -> float:
    return error / scale if scale else error
