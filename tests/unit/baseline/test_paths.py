from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pytest_nnopt.baseline.paths import case_path
from pytest_nnopt.baseline.store import BaselineStore

parts = st.text(max_size=20) | st.sampled_from(["..", ".", "", "/", "\\", "\0", "~", "C:", "tests", "test_a.py", "a.b"])
case_ids = st.builds("::".join, st.lists(st.lists(parts, max_size=3).map("/".join), min_size=1, max_size=4)) | st.text()

pytest_ids = st.builds(
    "{}::{}{}".format,
    st.lists(parts, min_size=1, max_size=3).map("/".join).filter(lambda file: "::" not in file),
    st.text("aB_é:", min_size=1, max_size=8),  # no class or function has a dot in its name
    st.just("") | parts.map("[{}]".format) | parts.map("#{}".format),
)


@pytest.mark.parametrize(
    ("case_id", "path"),
    [
        ("test_a.py::test_b", "test_a.py/test_b.json"),
        ("tests/unit/test_a.py::TestB::test_c", "tests/unit/test_a.py/TestB.test_c.json"),
        ("tests/test_a.py::TestB::test_c[3-float16]#first", "tests/test_a.py/TestB.test_c[3-float16]#first.json"),
        ("test_a.py::test_b[0.5]", "test_a.py/test_b[0.5].json"),
        ("test_a.py::test_b[a::b]", "test_a.py/test_b[a__b]-015972f9.json"),
        ("test_a.py::test_b[größe]", "test_a.py/test_b[gr__e]-3d011a67.json"),
    ],
)
def test_paths_are_readable(case_id: str, path: str) -> None:
    assert str(case_path(case_id)) == path


@given(case_ids)
@example("../../../etc/passwd::test")
@example("/etc/passwd::test")
@example("..\\..\\windows::test")
@example("test_a.py::../../test")
@example("test_a.py::test[../../../x]")
@example("a/\0/b.py::test\0")
@example("test_a.py::" + "x" * 300)
@example("x" * 300 + "/test_a.py::test")
@example("a/" * 3000 + "test_a.py::test")
@example("::")
@example("")
@example("test_a.py::test[\ud800]")
def test_a_path_is_harmless_and_never_leaves_the_root(case_id: str) -> None:
    path = case_path(case_id)
    assert not path.is_absolute()
    assert path.suffix == ".json"
    assert len(str(path)) < 1300
    for part in path.parts:
        assert re.fullmatch(r"[\w\-.,\[\]#=+@ ]{1,200}", part, re.ASCII)
        assert not part.startswith(".")
        assert part[-1] not in ". "
    root = Path("/somewhere/baselines/cpu")
    assert (root / path).resolve().is_relative_to(root)


@given(pytest_ids, pytest_ids)
@example("test_a.py::test[a::b]", "test_a.py::test[a.b]")
@example("test_a.py::test[a/b]", "test_a.py::test[a_b]")
@example("test_a.py::test#a::b", "test_a.py::test#a.b")
@example("a\\b.py::test", "a/b.py::test")
@example("a/./b.py::test", "a/b.py::test")
@example("/a.py::test", "a.py::test")
@example("test_a.py::" + "x" * 300, "test_a.py::" + "x" * 301)
@example("test_a.py::Test", "test_a.py::test")
@example("a/" * 3000 + "test_a.py::test", "a/" * 3001 + "test_a.py::test")
def test_two_cases_never_share_a_file(one: str, other: str) -> None:
    assume(one != other)
    assert case_path(one) != case_path(other)


def test_the_store_puts_a_case_below_its_environment() -> None:
    store = BaselineStore(Path("/somewhere/baselines"))
    assert store.path("cpu", "test_a.py::test") == Path("/somewhere/baselines/cpu/test_a.py/test.json")
