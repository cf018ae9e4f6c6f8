"""From the figures of a leaf to its limits: how much error rounding can explain, stratum by stratum.

Two kinds of rounding must both be excused. Element-wise operations err in proportion to each element; sums err in
proportion to what was summed, so that small elements carry errors of the size of the large ones. The reference's own
errors tell which kind a leaf has. They are therefore compared stratum by stratum, a stratum being the elements whose
true magnitudes lie within a few powers of two: a large element cannot hide a small one's error, unless the reference
errs so too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pytest_nnopt.numerics.measure import OCTAVES, Errors, Figures, Floats

if TYPE_CHECKING:
    from pytest_nnopt.numerics.tolerance import Floor

_STRATUM_ELEMENTS = 256
_TRUSTED_PARTICIPATION = 32.0
_DEVIATIONS = 6.0
_NO_CORRECT_DIGIT = 1 / 16
_SMALL_SAMPLE = 8.0
_SHARING_ELEMENTS = 8
_SHARED_DEVIATIONS = 2.5
_SHARED_FACTORS = 3.0
_STRATUM_FACTORS = 2.5
_STRETCHED_FLOORS = 32.0
_PEAK_STRETCH = 4.0


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What the other leaves of a kind have in one case.

    Attributes:
        scale: largest root mean square of a leaf's true values.
        error: largest root mean square error of the reference in a leaf that it gets right to some digits.
    """

    scale: float
    error: float = 0.0

    @classmethod
    def of(cls, leaves: Iterable[Figures]) -> Neighbours:
        """Summarise the figures of a kind's leaves."""
        scale = error = 0.0
        for figures in leaves:
            scale = max(scale, figures.true_rms)
            own = _rms(figures.reference.square_sum, figures.count)
            if own < _NO_CORRECT_DIGIT * figures.true_rms:
                error = max(error, own)
        return cls(scale, error)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a leaf is judged by.

    Attributes:
        factor: how many times the reference's own error the candidate's may be.
        floor: what is excused in any case, in units of ``eps``.
        eps: machine epsilon of the leaf's dtype.
        neighbours: the case's other leaves of the kind, by which rounding noise is told from an error.
        is_stratified: whether strata are compared. Without a nudged run they cannot be: a reference that sums in
            higher precision shows no error in its small elements, where rounding the inputs alone would cause some.
        is_grouped: whether the uncertainty of gain and offset is that of rows and channels that err together.
    """

    factor: float
    floor: Floor
    eps: float
    neighbours: Neighbours
    is_stratified: bool
    is_grouped: bool = False

    @property
    def rounding(self) -> float:
        """Absolute error excused in a leaf of few elements: the floor of the largest leaf of the kind."""
        return self.floor.rms * self.eps * self.neighbours.scale

    @property
    def noise(self) -> float:
        """Absolute error excused where the true values are nothing but rounding noise.

        Such is the gradient of a bias in front of a batch normalisation: zero, but for what rounding leaves of sums as
        large as its neighbours'.
        """
        return max(self.rounding, self.factor * self.neighbours.error)


@dataclass(frozen=True, slots=True)
class Stratum:
    """The elements of a leaf whose true magnitudes lie in ``[low, high)``, with their errors and limits.

    Attributes:
        low: smallest magnitude, 0 for the stratum that holds zeros.
        high: upper end of the magnitudes.
        count: number of elements.
        rms: root mean square error of the candidate.
        rms_limit: the largest one allowed.
        maximum: largest absolute error of the candidate.
        maximum_limit: the largest one allowed.
    """

    low: float
    high: float
    count: int
    rms: float
    rms_limit: float
    maximum: float
    maximum_limit: float

    @property
    def excess(self) -> float:
        """How many times its limit the worse of the two errors is; above 1 the stratum fails."""
        return max(ratio(self.rms, self.rms_limit), ratio(self.maximum, self.maximum_limit))


@dataclass(frozen=True, slots=True)
class Judgement:
    """The limits of a leaf and how the candidate stands against them.

    Attributes:
        rms_limit: limit of the candidate's root mean square error over all elements, absolute.
        gain_limit: limit of the shared relative error.
        offset_limit: limit of the shared absolute error.
        strata: the parts of the leaf by magnitude, from small to large.
        rms_excess: root mean square error over its limit.
        gain_excess: shared relative error over its limit.
        offset_excess: shared absolute error over its limit.
    """

    rms_limit: float
    gain_limit: float
    offset_limit: float
    strata: tuple[Stratum, ...]
    rms_excess: float
    gain_excess: float
    offset_excess: float

    @property
    def excess(self) -> float:
        """The worst error as a multiple of its limit; above 1 the leaf fails."""
        return max(self.local_excess, self.gain_excess, self.offset_excess)

    @property
    def local_excess(self) -> float:
        """The worst error of elements, rather than of what they share, as a multiple of its limit."""
        return max(self.rms_excess, *(part.excess for part in self.strata), 0.0)

    def maximum_limits(self) -> Floats:
        """Return the limit of a single element's error for each octave of the truth, shape (OCTAVES,)."""
        limits = np.full(OCTAVES, np.inf)
        for part in self.strata:
            limits[octave_of(part.low) : octave_of(part.high)] = part.maximum_limit
        return limits


def ratio(error: float, limit: float) -> float:
    """Return ``error / limit``: 0 for no error, infinite for an error where none is allowed or for one that is NaN."""
    if error == 0:
        return 0.0
    return float(error / limit) if limit > 0 and np.isfinite(error) else float("inf")


def octave_of(magnitude: float) -> int:
    """Return the biased binary exponent of a magnitude; OCTAVES - 1 for infinity."""
    return int(np.float64(magnitude).view(np.int64) >> 52)


def judge(figures: Figures, allowance: Allowance) -> Judgement:
    """Hold a leaf's figures against what rounding can explain.

    The candidate's root mean square error may be ``factor`` times the reference's own plus ``floor.rms * eps`` of the
    true values' root mean square. How much more than the reference's error that allows, as a factor, holds in every
    stratum too, and for the largest single error; a stratum may hold a few rows that err together, so that it gets 2.5
    times the factor. Where few elements carry the reference's error, that error says
    little about the next run's, and the factor widens by ``1 + 8 / participation``.
    """
    level = _Level.of(figures, allowance)
    rms_limit = level.rms_limit(allowance)
    strata = tuple(_strata(figures, allowance, level))
    gain_limit = _systematic_limit(figures, allowance, "gain", 1.0)
    offset_limit = _systematic_limit(figures, allowance, "offset", figures.true_rms) + level.noise
    is_few = figures.count < _SHARING_ELEMENTS
    return Judgement(
        rms_limit=rms_limit,
        gain_limit=gain_limit,
        offset_limit=offset_limit,
        strata=strata,
        rms_excess=ratio(_rms(figures.candidate.square_sum, figures.count), rms_limit),
        gain_excess=0.0 if level.is_noise or is_few else ratio(abs(figures.candidate.gain), gain_limit),
        offset_excess=0.0 if is_few else ratio(abs(figures.candidate.offset), offset_limit),
    )


@dataclass(frozen=True, slots=True)
class _Level:
    """The error of a whole leaf that is known to come of rounding.

    Attributes:
        rms: root mean square error.
        maximum: largest error.
        scale: root mean square of the true values.
        participation: how many elements, or groups of elements that err together, share the error.
        groups: how many groups of elements err independently, however many elements they have.
        is_noise: whether the true values have no correct digit in the reference.
        noise: absolute error excused because the leaf's own errors tell little.
    """

    rms: float
    maximum: float
    scale: float
    participation: float
    groups: float
    is_noise: bool
    noise: float

    @classmethod
    def of(cls, figures: Figures, allowance: Allowance) -> _Level:
        rms, maximum = _pooled(figures, slice(None), figures.count)
        groups = _independent_groups(figures)
        participation = min(_participation(rms, maximum, figures.count), groups)
        is_noise = rms >= _NO_CORRECT_DIGIT * figures.true_rms
        is_small = figures.count < _STRATUM_ELEMENTS
        share = _SMALL_SAMPLE / (_SMALL_SAMPLE + figures.count) if is_small else 0.0
        noise = allowance.noise if is_noise else share * allowance.rounding
        return cls(rms, maximum, figures.true_rms, participation, groups, is_noise, noise)

    def floor(self, allowance: Allowance) -> float:
        return allowance.floor.rms * allowance.eps * self.scale + self.noise

    def rms_limit(self, allowance: Allowance) -> float:
        return _widened(allowance.factor, self.participation) * self.rms + self.floor(allowance)

    def stretch(self, allowance: Allowance) -> float:
        """How many times the known error the floor adds: errors of the same shape may be that much larger."""
        return self.floor(allowance) / self.rms if self.rms else 0.0


def _known(figures: Figures) -> list[Errors]:
    return [errors for errors in (figures.reference, figures.nudged) if errors is not None]


def _independent_groups(figures: Figures) -> float:
    """Estimate how many groups of elements err independently, from the part of the errors that all elements share.

    The mean of n independent errors has 1/n of their variance. So the larger part of the known errors is a gain or an
    offset, the fewer independent errors there are: a value broadcast over a row makes one error of many.
    """
    shares = [0.0]
    for errors in _known(figures):
        if errors.square_sum:
            mean_square = errors.square_sum / figures.count
            shares += [(errors.gain * figures.true_rms) ** 2 / mean_square, errors.offset**2 / mean_square]
    return _SHARED_DEVIATIONS / max(shares) if max(shares) else float("inf")


def _participation(rms: float, maximum: float, count: int) -> float:
    """Return how many elements share the error: ``count`` if all err alike, 1 if one element has it all."""
    return (rms / maximum) ** 2 * count if maximum else 0.0


def _widened(factor: float, participation: float) -> float:
    return factor * (1 + _SMALL_SAMPLE / max(participation, 1.0))


def _pooled(figures: Figures, octaves: slice, count: int) -> tuple[float, float]:
    """Return the larger of the reference's and the nudged run's errors: root mean square and maximum."""
    known = _known(figures)
    rms = max(_rms(float(errors.square_sums[octaves].sum()), count) for errors in known)
    return rms, max(float(errors.maxima[octaves].max()) for errors in known)


def _rms(square_sum: float, count: int) -> float:
    return float(np.sqrt(square_sum / count)) if count else 0.0


@dataclass(frozen=True, slots=True)
class _Part:
    """A stratum's known errors: octaves ``first`` up to but not including ``last``."""

    first: int
    last: int
    count: int
    rms: float
    maximum: float

    @property
    def participation(self) -> float:
        return _participation(self.rms, self.maximum, self.count)

    @property
    def is_telling(self) -> bool:
        return self.participation >= _TRUSTED_PARTICIPATION


def _strata(figures: Figures, allowance: Allowance, level: _Level) -> list[Stratum]:
    """Judge the strata from large to small; one whose errors are too few to trust may err like the next larger."""
    parts = []
    for first, last in _stratum_bounds(figures, is_stratified=allowance.is_stratified):
        count = int(figures.counts[first:last].sum())
        parts.append(_Part(first, last, count, *_pooled(figures, slice(first, last), count)))
    floor = level.floor(allowance)
    inherited = (0.0, 0.0) if any(part.is_telling for part in parts) else (floor, 2 * floor)
    strata = []
    for part in reversed(parts):
        own = _explained(part, allowance, level)
        if not part.is_telling:
            own = (max(own[0], inherited[0]), max(own[1], inherited[1]))
        inherited = own
        strata.append(_stratum(figures, part, own, allowance, level))
    return strata[::-1]


def _explained(part: _Part, allowance: Allowance, level: _Level) -> tuple[float, float]:
    """Return the root mean square and the largest error that the known errors of a stratum explain."""
    widening = _STRATUM_FACTORS * _widened(allowance.factor, min(part.participation, level.groups))
    stretch, most = level.stretch(allowance), _STRETCHED_FLOORS * level.floor(allowance)
    rms = widening * part.rms + min(stretch * part.rms, most)
    return rms, widening * part.maximum + min(_PEAK_STRETCH * stretch * part.maximum, most)


def _stratum(
    figures: Figures, part: _Part, explained: tuple[float, float], allowance: Allowance, level: _Level
) -> Stratum:
    octaves = slice(part.first, part.last)
    high = _upper_end(part.last)
    rounding = allowance.floor.rms * allowance.eps * min(high, figures.true_maximum) + level.noise
    return Stratum(
        low=0.0 if part.first == 0 else _upper_end(part.first),
        high=high,
        count=part.count,
        rms=_rms(float(figures.candidate.square_sums[octaves].sum()), part.count),
        rms_limit=explained[0] + rounding,
        maximum=float(figures.candidate.maxima[octaves].max()),
        maximum_limit=explained[1] + 2 * rounding,
    )


def _upper_end(octave: int) -> float:
    return float(np.ldexp(1.0, octave - 1023)) if octave < OCTAVES - 1 else float("inf")


def _stratum_bounds(figures: Figures, *, is_stratified: bool) -> list[tuple[int, int]]:
    """Group octaves, from small to large, into strata of at least 256 elements; the last may have fewer."""
    occupied = np.flatnonzero(figures.counts)
    if occupied.size == 0:
        return []
    end = int(occupied[-1]) + 1
    if not is_stratified:
        return [(0, end)]
    bounds, first, held = [], 0, 0
    for octave in occupied:
        held += int(figures.counts[octave])
        if held >= _STRATUM_ELEMENTS or octave == end - 1:
            bounds.append((first, int(octave) + 1))
            first, held = int(octave) + 1, 0
    return bounds


def _systematic_limit(figures: Figures, allowance: Allowance, part: Literal["gain", "offset"], scale: float) -> float:
    """Return the limit of a gain or offset: some times the known runs' own, a floor, and six standard errors.

    The three have nothing to do with one another, so their squares add. Where elements err together, gain and offset
    of the known runs are two draws of the same thing; once rows and channels were looked at, their spread says more.
    """
    rounding = allowance.floor.systematic * allowance.eps * scale
    known = _SHARED_FACTORS * allowance.factor * _known_share(figures, part, is_either=not allowance.is_grouped)
    return math.hypot(known * scale, rounding, _DEVIATIONS * float(getattr(figures.candidate, f"{part}_uncertainty")))


def _known_share(figures: Figures, part: Literal["gain", "offset"], *, is_either: bool) -> float:
    """Return the largest gain or offset of the known runs, or of both, relative to the true values."""
    scale = figures.true_rms or 1.0
    shares = [{"gain": abs(errors.gain), "offset": abs(errors.offset) / scale} for errors in _known(figures)]
    return max(max(share.values()) if is_either else share[part] for share in shares)
