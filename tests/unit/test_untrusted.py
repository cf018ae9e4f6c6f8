from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_nnopt.untrusted import (
    MOST_LEVELS,
    MOST_YAML_NODES,
    parse_json,
    parse_toml,
    parse_yaml,
    read_bounded,
    require_plain,
)

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGING_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


class TestReadBounded:
    def test_a_file_up_to_the_bound_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"12345")
        assert read_bounded(tmp_path / "file", 5) == b"12345"
        with pytest.raises(OSError, match="it is larger than 4 bytes"):
            read_bounded(tmp_path / "file", 4)

    def test_a_source_without_end_is_refused(self) -> None:
        with pytest.raises(OSError, match="it is larger than 1000 bytes"):
            read_bounded(Path("/dev/zero"), 1000)


class TestParseJson:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"[" * 10**6, "nested too deeply"),
            (b'{"a":' * 10**5, "nested too deeply"),
            (b"NaN", "it holds NaN"),
            (b"[-Infinity]", "it holds -Infinity"),
            (b"1" * 5000, "limit"),
            (b"\xff", "utf-8"),
            (b"{", "Expecting"),
            (b'{"\\ud800": 1}', "surrogates not allowed"),
            (b'["\\uDC00"]', "surrogates not allowed"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_what_is_none_is_refused(self, content: bytes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            parse_json(content)

    def test_a_character_may_be_written_as_a_pair(self) -> None:
        assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"

    def test_another_tools_numbers_may_be_infinite(self) -> None:
        assert parse_json(b"[Infinity]", is_finite=False) == [float("inf")]

    @given(st.binary())
    def test_any_bytes_are_parsed_or_refused(self, content: bytes) -> None:
        refused_or_parsed(parse_json, content)


class TestParseToml:
    @pytest.mark.parametrize(
        "content", [b"x = " + b"[" * 10**5, b"x = " + b"{a=" * 10**4, b"\xff", b"x = " + b"1" * 5000]
    )
    def test_what_is_none_is_refused(self, content: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            parse_toml(content)

    @given(st.binary() | st.text("[]{}.=#\"'\n ab10-:TZ").map(str.encode))
    def test_any_bytes_are_parsed_or_refused(self, content: bytes) -> None:
        refused_or_parsed(parse_toml, content)


class TestParseYaml:
    def test_aliases_and_merged_tables_are_what_they_stand_for(self) -> None:
        text = b"base: &base {mode: default}\nserving:\n  <<: *base\n  fullgraph: true\nsame: *base\n"
        assert parse_yaml(text) == {
            "base": {"mode": "default"},
            "serving": {"mode": "default", "fullgraph": True},
            "same": {"mode": "default"},
        }

    def test_nothing_is_none(self) -> None:
        assert parse_yaml(b"# nothing\n") is None

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (BOMB, f"stands for more than {MOST_YAML_NODES} values; write fewer aliases"),
            (MERGING_BOMB, f"stands for more than {MOST_YAML_NODES} values"),
            ("&a [*a]", "a value that holds the alias"),
            ("a: &a {b: *a}", "a value that holds the alias"),
            ("[" * 5000, "nested more than"),
            ("a: [", "expected"),
            ("a: *none", "undefined alias"),
            ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
            ("2026-99-99", "month must be in"),
            ("!!int ''", "."),
            ("{[a]: 1}", "unhashable"),
            ("a: 1\n--- b", "."),
        ],
        ids=lambda text: text[:20],
    )
    def test_what_is_none_or_multiplies_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            parse_yaml(text.encode())

    def test_its_package_may_be_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(ImportError):
            parse_yaml(b"{}")

    @given(st.binary() | st.text("[]{}&*!:-,|>'\"%@#?<= \n\tab01.~").map(str.encode))
    @example(b"!!binary x")
    @example(b"!!timestamp x")
    @example(b"!!omap [1]")
    @example(b"!!set [1]")
    @example(b"? [a]\n: b")
    def test_any_bytes_are_parsed_or_refused(self, content: bytes) -> None:
        refused_or_parsed(parse_yaml, content)


class TestRequirePlain:
    @pytest.mark.parametrize("value", [None, True, 3, 2.5, "x", [], {}, {"a": [{"b": [1, None]}]}])
    def test_settings_are_plain(self, value: object) -> None:
        require_plain(value)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"a": {1, 2}}, "it holds a set, which no setting is"),
            ([b"x"], "it holds a bytes"),
            ({(1, 2): 3}, "it holds a tuple"),
            ({"a": "\ud800"}, "surrogates not allowed"),
            ([2**64], "a whole number of more than 64 bits"),
            ({2**64: 1}, "a whole number of more than 64 bits"),
        ],
    )
    def test_other_values_are_refused(self, value: object, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            require_plain(value)

    def test_nesting_is_bounded_whatever_the_recursion_limit(self) -> None:
        require_plain(nested(MOST_LEVELS - 1))
        with pytest.raises(ValueError, match="nested more than 32 levels deep"):
            require_plain(nested(10**6))


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def refused_or_parsed(parse: Any, content: bytes) -> None:
    """Parse, and let nothing but the refusal pass that the caller expects."""
    with contextlib.suppress(ValueError):
        parse(content)
