from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.errors import ConfigError
from pytest_nnopt.units import (
    format_bytes,
    format_count,
    format_percent,
    format_seconds,
    parse_fraction,
    parse_seconds,
    relative_change,
)


class TestParseFraction:
    @pytest.mark.parametrize(
        ("written", "fraction"),
        [
            ("5%", 0.05),
            (" 5 % ", 0.05),
            ("0.5%", 0.005),
            (".5%", 0.005),
            ("250%", 2.5),
            ("1e-3", 0.001),
            ("0.05", 0.05),
            ("0", 0.0),
            ("1", 1.0),
            (0.05, 0.05),
            (1, 1.0),
            (0, 0.0),
        ],
    )
    def test_reads_percentages_and_fractions(self, written: str | float, fraction: float) -> None:
        assert parse_fraction(written) == pytest.approx(fraction)

    @pytest.mark.parametrize(
        "written",
        [
            "",
            "%",
            "five",
            "5 percent",
            "-5%",
            "-0.1",
            "nan",
            "inf",
            "1e999",
            "1e999%",
            "5%%",
            "5.%",
            "\N{ARABIC-INDIC DIGIT FIVE}%",
            "0x5",
            "1_0%",
        ],
    )
    def test_refuses_what_is_no_percentage(self, written: str) -> None:
        with pytest.raises(ConfigError, match=r"is not a percentage; write it like '5%' or 0\.05"):
            parse_fraction(written)

    @pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, False])
    def test_refuses_impossible_numbers(self, value: float) -> None:
        with pytest.raises(ConfigError, match="is not a percentage"):
            parse_fraction(value)

    @pytest.mark.parametrize("written", ["5", 5, 5.0])
    def test_asks_for_the_sign_of_a_bare_number_above_one(self, written: str | float) -> None:
        with pytest.raises(ConfigError, match="write a percentage with its sign, like '5%'"):
            parse_fraction(written)

    @given(st.text())
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            fraction = parse_fraction(text)
        except ConfigError:
            return
        assert math.isfinite(fraction)
        assert fraction >= 0

    @given(st.floats(0, 1e6))
    def test_reads_back_a_written_percentage(self, percent: float) -> None:
        assert parse_fraction(f"{percent!r}%") == percent / 100


class TestParseSeconds:
    @pytest.mark.parametrize(
        ("written", "seconds"),
        [
            ("60s", 60.0),
            (" 1.5 min ", 90.0),
            ("2h", 7200.0),
            ("500ms", 0.5),
            ("3us", 3e-6),
            ("3µs", 3e-6),
            ("7ns", 7e-9),
            ("30", 30.0),
            (30, 30.0),
            (0.5, 0.5),
        ],
    )
    def test_reads_durations(self, written: str | float, seconds: float) -> None:
        assert parse_seconds(written) == pytest.approx(seconds)

    @pytest.mark.parametrize("written", ["", "s", "ten s", "5 sec", "5 S", "-5s", "1s 2ms", "nan", "5%"])
    def test_refuses_what_is_no_duration(self, written: str) -> None:
        with pytest.raises(ConfigError, match="is not a duration; write it like '60s', '500ms' or '2min'"):
            parse_seconds(written)

    @pytest.mark.parametrize("value", ["0s", 0, -1.0, math.nan, math.inf, "1e999s", "1e-999s", True])
    def test_refuses_what_is_not_positive_and_finite(self, value: str | float) -> None:
        with pytest.raises(ConfigError, match="is not a positive duration"):
            parse_seconds(value)

    @given(st.text())
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            seconds = parse_seconds(text)
        except ConfigError:
            return
        assert math.isfinite(seconds)
        assert seconds > 0

    @given(st.floats(1e-9, 900))
    def test_reads_back_what_is_written_to_three_digits(self, seconds: float) -> None:
        assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, rel=6e-3)


class TestFormatSeconds:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.0, "0 ns"),
            (2.34e-9, "2.34 ns"),
            (9.999e-7, "1 µs"),
            (1.234e-5, "12.3 µs"),
            (9.9996e-4, "1 ms"),
            (0.5, "500 ms"),
            (-0.5, "-500 ms"),
            (1.0, "1 s"),
            (999.7, "1000 s"),
            (12345.6, "12346 s"),
            (math.inf, "inf"),
            (math.nan, "nan"),
        ],
    )
    def test_keeps_three_digits_in_the_largest_fitting_unit(self, seconds: float, text: str) -> None:
        assert format_seconds(seconds) == text

    @given(st.floats(1e-11, 1e9))
    def test_needs_no_exponent(self, seconds: float) -> None:
        assert re.fullmatch(r"[0-9.]+ (ns|µs|ms|s)", format_seconds(seconds))


class TestFormatBytes:
    @pytest.mark.parametrize(
        ("count", "text"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1000 * 1024, "1000 KiB"),
            (-1536, "-1.5 KiB"),
            (5 * 2**20, "5 MiB"),
            (139 * 2**30, "139 GiB"),
            (3 * 2**40, "3 TiB"),
            (math.inf, "inf"),
        ],
    )
    def test_keeps_three_digits_in_binary_units(self, count: float, text: str) -> None:
        assert format_bytes(count) == text

    @given(st.integers(0, 2**60))
    def test_needs_no_exponent(self, count: int) -> None:
        assert re.fullmatch(r"[0-9.]+ (B|[KMGT]iB)", format_bytes(count))


class TestFormatPercent:
    @pytest.mark.parametrize(
        ("fraction", "text"),
        [
            (0.0, "0.00 %"),
            (0.0512, "5.12 %"),
            (0.0999, "9.99 %"),
            (0.09996, "10.0 %"),
            (0.9996, "100 %"),
            (-0.25, "-25.0 %"),
            (12.0, "1200 %"),
            (math.nan, "nan"),
        ],
    )
    def test_keeps_three_digits(self, fraction: float, text: str) -> None:
        assert format_percent(fraction) == text

    def test_can_show_the_sign(self) -> None:
        assert format_percent(0.05, signed=True) == "+5.00 %"
        assert format_percent(-0.05, signed=True) == "-5.00 %"


def test_things_are_counted_in_words() -> None:
    assert [format_count(number, "case") for number in (0, 1, 2)] == ["0 cases", "1 case", "2 cases"]
    assert format_count(2, "process", "processes") == "2 processes"


@given(st.floats(-20, 20))
def test_relative_change_undoes_the_logarithm_of_a_ratio(log_ratio: float) -> None:
    assert 1 + relative_change(log_ratio) == pytest.approx(math.exp(log_ratio))
