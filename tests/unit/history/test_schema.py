from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_nnopt.baseline.schema import Evidence
from pytest_nnopt.errors import HistoryError
from pytest_nnopt.history.schema import Entry, Label, Selection, parse_entry, require_label
from pytest_nnopt.model import Outcome
from tests.builders import make_entry, make_environment

TREE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


def values_of(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {**json.loads(make_entry(run="0" * 16).to_text()), **changes}
    return values


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = make_entry()
    assert parse_entry(entry.to_text(), "x") == entry


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_an_error_that_names_the_place(content: bytes) -> None:
    with pytest.raises(HistoryError, match="the place is no valid entry"):
        parse_entry(content, "the place")


@settings(deadline=None)
@given(st.sampled_from(sorted(values_of())), TREE)
def test_any_value_of_a_field_is_taken_or_refused(name: str, value: Any) -> None:
    text = json.dumps(values_of(**{name: value}), allow_nan=True)
    try:
        entry = parse_entry(text, "x")
    except HistoryError:
        return
    assert Label.of(entry).run == entry.run


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"schema": 2}, "schema: .*; a newer pytest-nnopt may have written it"),
        ({"unknown": 1}, "unknown: Extra inputs"),
        ({"run": "../../x"}, "run: "),
        ({"case": "x" * 5000}, "case: "),
        ({"recorded": "2026-01-01T00:00:00"}, "recorded: "),
        ({"recorded": "9999-12-31T23:59:59Z"}, "recorded: "),
        ({"environment": "00000000"}, "digest is not that of its fields"),
        ({"revision": "--option"}, "revision: "),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(HistoryError, match=what):
        parse_entry(json.dumps(values_of(**changes)), "x")


def test_an_entry_that_is_too_large_is_not_parsed() -> None:
    with pytest.raises(HistoryError, match="larger than"):
        parse_entry(b" " * (4 * 2**20 + 1), "x")


@pytest.mark.parametrize(
    ("fields", "is_sound"),
    [
        ({}, True),
        ({"outcome": Outcome.IMPROVED}, True),
        ({"outcome": Outcome.INCONCLUSIVE}, False),
        ({"outcome": Outcome.FAILED}, False),
        ({"has_passed": False}, False),
        ({"outcome": Outcome.SKIPPED, "recording": "replace"}, True),
        ({"outcome": Outcome.FAILED, "recording": "append"}, False),
    ],
)
def test_what_failed_is_never_part_of_a_level(fields: dict[str, Any], is_sound: bool) -> None:
    assert Label.of(make_entry(**fields)).is_sound is is_sound


def test_a_label_says_what_a_reader_chooses_by() -> None:
    label = Label.of(make_entry(revision="0123456789abcdef", recording="replace", evidence=Evidence()))
    assert (label.revision, label.is_new_level, label.processes, label.log_ratio) == ("0123456789ab", True, 0, None)
    assert Label.of(make_entry(revision="v1.2")).revision is None


@pytest.mark.parametrize(
    ("fields", "is_new_level"),
    [
        ({"recording": "append", "starts_anew": True}, True),
        ({"recording": "append"}, False),
        ({"recording": "append", "starts_anew": True, "evidence": Evidence()}, False),
        ({"starts_anew": True}, False),
    ],
)
def test_what_was_accepted_as_worse_starts_a_level(fields: dict[str, Any], is_new_level: bool) -> None:
    assert Label.of(make_entry(**fields)).is_new_level is is_new_level


def test_another_entry_than_its_label_says_is_refused() -> None:
    entry = make_entry()
    assert require_label(entry, Label.of(entry), "x") is entry
    with pytest.raises(HistoryError, match="holds something else"):
        require_label(make_entry(), Label.of(entry), "x")


def test_a_branch_is_another_than_none() -> None:
    label = Label.of(make_entry(branch=None))
    assert Selection(1).takes(label)
    assert not Selection(1, branch="main").takes(label)


def test_the_environment_belongs_to_the_entry() -> None:
    there = make_environment(threads=9)
    assert Entry.model_validate_json(make_entry(there).to_text()).environment == there.digest
