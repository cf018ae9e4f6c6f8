"""What a comparison allows: declared tolerances, and the calibrated floors of the default rule."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_nnopt.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a user declares about the numerics of a case.

    With ``rtol`` or ``atol`` the comparison is element by element, candidate against reference:
    ``|actual - expected| <= atol + rtol * |expected|``, the one left out counting as 0. Without either, both sides are
    measured against float64.

    Attributes:
        rtol: relative tolerance.
        atol: absolute tolerance.
        equal_nan: whether a NaN in the same place on both sides is equal.
        factor: how many times the reference's own error the candidate's may be, before the floor.
        strides: whether the strides must match too.

    Raises:
        ConfigError: a tolerance is negative or not finite, or the factor is below 1.
    """

    rtol: float | None = None
    atol: float | None = None
    equal_nan: bool = True
    factor: float = 2.0
    strides: bool = False

    def __post_init__(self) -> None:
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{name}={value!r} is not a tolerance; write a finite number from 0 up, like 1e-4")
        if not 1 <= self.factor < float("inf"):
            raise ConfigError(f"factor={self.factor!r} is not a factor; write a number from 1 up, like 2.0")

    @property
    def is_declared(self) -> bool:
        """Whether the comparison is element by element with the user's own numbers."""
        return self.rtol is not None or self.atol is not None


@dataclass(frozen=True, slots=True)
class Floor:
    """How much error is excused however exact the reference is, in machine epsilons of the leaf's dtype.

    Attributes:
        rms: root mean square error relative to that of the true values; the largest error may be twice as much relative
            to the largest true value.
        systematic: gain and offset that all elements share.
    """

    rms: float
    systematic: float


_WITH_TRUTH = {
    "float64": Floor(rms=1024, systematic=1024),
    "float32": Floor(rms=16, systematic=8),
    "float16": Floor(rms=1, systematic=1),
    "bfloat16": Floor(rms=1, systematic=1),
}
_WITHOUT_TRUTH = {
    "float64": Floor(rms=1024, systematic=1024),
    "float32": Floor(rms=64, systematic=32),
    "float16": Floor(rms=4, systematic=1.5),
    "bfloat16": Floor(rms=4, systematic=1.5),
}
_REAL = {"complex128": "float64", "complex64": "float32", "complex32": "float16"}
_NARROW = Floor(rms=1, systematic=1)


def floor_of(dtype: str, *, has_truth: bool) -> Floor:
    """Return the calibrated floor of a dtype; ``docs/decisions/0003`` says how the figures were found.

    Args:
        dtype: name of a floating or complex dtype.
        has_truth: whether errors are measured against a float64 run, rather than against the reference itself.
    """
    table = _WITH_TRUTH if has_truth else _WITHOUT_TRUTH
    return table.get(_REAL.get(dtype, dtype), _NARROW)
