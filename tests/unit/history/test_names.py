from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_nnopt.history.names import case_folder, case_of_folder, entry_name, label_of_name, month_of
from pytest_nnopt.history.schema import Label, branch_key
from tests.builders import CASE_ID, RECORDED, make_entry

ids = st.text(st.characters(blacklist_categories=[]), min_size=1, max_size=400)
labels = st.builds(
    Label,
    case=st.just(CASE_ID),
    recorded=st.datetimes(datetime(2000, 1, 1), datetime(2199, 1, 1), timezones=st.just(timezone.utc)),
    run=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    environment=st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
    branch_key=st.one_of(st.none(), st.text(max_size=5)).map(branch_key),
    is_sound=st.booleans(),
    is_new_level=st.booleans(),
    revision=st.one_of(st.none(), st.from_regex(r"[0-9a-f]{1,12}", fullmatch=True)),
    processes=st.integers(0, 99_999),
    log_ratio=st.one_of(st.none(), st.integers(-50_000_000, 50_000_000)),
)


def test_a_folder_reads_like_the_id() -> None:
    assert case_folder("tests/test_a.py::test_b[4]#c") == "tests~2ftest_a.py~3a~3atest_b[4]~23c"


@given(ids)
def test_folders_are_harmless_and_lead_back_to_the_id_unless_it_is_long(case_id: str) -> None:
    folder = case_folder(case_id)
    assert len(folder) <= 200
    assert not set(folder) & set("/\\\0:?*\"'<>| #%")
    assert not folder.startswith(".")
    assert case_of_folder(folder) in (case_id, None)
    assert case_of_folder(folder) is not None or "~~" in folder


@given(ids, ids)
def test_two_ids_have_two_folders(one: str, other: str) -> None:
    assert (case_folder(one) == case_folder(other)) == (one == other)


@given(st.text(max_size=60))
def test_any_folder_is_an_id_or_none(folder: str) -> None:
    case_id = case_of_folder(folder)
    assert case_id is None or case_folder(case_id) == folder


@given(labels)
def test_a_name_says_what_the_label_says(label: Label) -> None:
    assert label_of_name(CASE_ID, entry_name(label)) == label


@given(labels, labels)
def test_names_and_months_sort_by_time(one: Label, other: Label) -> None:
    if one.recorded < other.recorded:
        assert entry_name(one) < entry_name(other)
        assert month_of(one) <= month_of(other)


@given(st.text())
def test_any_name_is_an_entrys_or_none(name: str) -> None:
    label = label_of_name(CASE_ID, name)
    assert label is None or entry_name(label) == name


@pytest.mark.parametrize("name", ["", "x.json", "20261399T000000000000Z"])
def test_other_names_are_none(name: str) -> None:
    assert label_of_name(CASE_ID, name) is None


def test_an_impossible_moment_is_none() -> None:
    name = entry_name(Label.of(make_entry()))
    assert label_of_name(CASE_ID, name.replace("20260102", "20260231")) is None
    assert RECORDED.day == 2
