"""Times, byte counts and percentages: written for people, and read from what people write."""

from __future__ import annotations

import math
import re

from pytest_nnopt.errors import ConfigError

_TIME_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_BYTE_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_NUMBER = r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"


def parse_fraction(value: str | float) -> float:
    """Read a fraction from ``"5%"`` or ``0.05``.

    Raises:
        ConfigError: the value is no number, negative or not finite, or is a bare number above 1, which is a
            percentage written without its sign more often than a factor meant as one.
    """
    has_sign = False
    if isinstance(value, str):
        match = re.fullmatch(rf"\s*{_NUMBER}\s*(%?)\s*", value)
        if match is None:
            raise ConfigError(f"{value!r} is not a percentage; write it like '5%' or 0.05")
        has_sign = match[2] == "%"
        value = float(match[1]) / 100 if has_sign else float(match[1])
    if isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"{value!r} is not a percentage; write it like '5%' or 0.05")
    if value > 1 and not has_sign:
        raise ConfigError(f"{value!r} is above 1; write a percentage with its sign, like '{value:g}%'")
    return float(value)


def parse_seconds(value: str | float) -> float:
    """Read a duration in seconds from ``"60s"``, ``"1.5min"`` or a bare number of seconds.

    Raises:
        ConfigError: the value is no positive finite duration.
    """
    if isinstance(value, str):
        match = re.fullmatch(rf"\s*{_NUMBER}\s*([a-zµ]*)\s*", value)
        if match is None or (match[2] and match[2] not in _TIME_UNITS):
            raise ConfigError(f"{value!r} is not a duration; write it like '60s', '500ms' or '2min'")
        value = float(match[1]) * _TIME_UNITS.get(match[2], 1.0)
    if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{value!r} is not a positive duration; write it like '60s', '500ms' or '2min'")
    return float(value)


def format_seconds(seconds: float) -> str:
    """Write a duration with three significant digits in the largest unit that keeps it at or above 1."""
    if not math.isfinite(seconds):
        return str(seconds)
    for unit in ("s", "ms", "µs"):
        if abs(seconds) >= _TIME_UNITS[unit] * 0.9995:
            return f"{_three_digits(seconds / _TIME_UNITS[unit])} {unit}"
    return f"{_three_digits(seconds / _TIME_UNITS['ns'])} ns"


def format_bytes(count: float) -> str:
    """Write a byte count with three significant digits in binary units."""
    if not math.isfinite(count):
        return str(count)
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if abs(count) >= _BYTE_UNITS[unit]:
            return f"{_three_digits(count / _BYTE_UNITS[unit])} {unit}"
    return f"{count:.0f} B"


def _three_digits(value: float) -> str:
    """Write three significant digits, and never fewer than stand before the decimal point."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def format_percent(fraction: float, *, signed: bool = False) -> str:
    """Write a fraction as a percentage with up to three significant digits: ``0.0512`` becomes ``5.12 %``."""
    if not math.isfinite(fraction):
        return str(fraction)
    percent = fraction * 100
    digits = 0 if abs(percent) >= 99.95 else 1 if abs(percent) >= 9.995 else 2
    return f"{percent:{'+' if signed else ''}.{digits}f} %"


def format_count(count: int, one: str, several: str | None = None) -> str:
    """Return a number of things: ``1 case``, ``2 cases``; ``several`` where that is not made by an s."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def relative_change(log_ratio: float) -> float:
    """Turn the logarithm of a ratio into a relative change: ``log(1.05)`` becomes ``0.05``."""
    return math.expm1(log_ratio)
