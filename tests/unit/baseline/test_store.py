from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_nnopt.baseline import store as store_module
from pytest_nnopt.baseline.schema import CaseBaseline, Evidence, ProcessRecord, RatioRecord
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import BaselineError, OutputError
from pytest_nnopt.untrusted import read_bounded
from tests.builders import CASE_ID, make_baseline, make_environment, make_evidence

HERE = make_environment()

processes = st.builds(
    ProcessRecord,
    seconds=st.dictionaries(st.sampled_from(["reference", "candidate", "yardstick"]), st.floats(1e-9, 1e4)),
    candidate_to_reference=st.builds(
        RatioRecord, log_ratio=st.floats(-50, 50), variance=st.floats(0, 2500), blocks=st.integers(1, 40)
    ),
    warmup_seconds=st.floats(0, 1e3),
    is_steady=st.booleans(),
)


@pytest.fixture
def store(tmp_path: Path) -> BaselineStore:
    return BaselineStore(tmp_path / "baselines")


def fill(store: BaselineStore, text: str | bytes) -> Path:
    """Put a text where the case's baseline is read from."""
    path = store.path(HERE.name, CASE_ID)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def written_text(baseline: CaseBaseline | None = None) -> str:
    return json.dumps((baseline or make_baseline(HERE)).model_dump(mode="json", by_alias=True))


class TestRead:
    def test_a_baseline_that_was_never_recorded_is_none(self, store: BaselineStore) -> None:
        assert store.read(HERE.name, CASE_ID) is None
        assert list(store.read_all(HERE.name)) == []
        assert store.cases(HERE.name) == []
        assert store.environments() == []
        assert store.fingerprint(HERE.name, HERE.digest) is None

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "cannot be read: Expecting value"),
            (written_text()[:-10], "cannot be read: "),
            (written_text() + "}", "cannot be read: Extra data"),
            (b"\xff\xfe", "cannot be read: 'utf-8' codec"),
            ("[" * 100_000, "cannot be read: "),
            (
                written_text().replace('"blocks": 40', '"blocks": NaN'),
                "cannot be read: it holds NaN, which is no measurement",
            ),
            (
                written_text().replace('"blocks": 40', '"blocks": -Infinity'),
                "cannot be read: it holds -Infinity, which is no measure",
            ),
            (written_text().replace("0.25", "1e999"), "is not a valid baseline: recordings.0.evidence.timing.0.warmup"),
            (written_text().replace('"case"', '"name"'), "is not a valid baseline: case: Field required"),
            ("[]", "is not a valid baseline: file: "),
            ("null", "is not a valid baseline: file: "),
            ("{}", "is not a valid baseline: case: Field required"),
            (" " * (4 * 2**20 + 1), "is larger than 4194304 bytes"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_a_file_that_cannot_be_relied_upon_is_named(
        self, store: BaselineStore, text: str | bytes, problem: str
    ) -> None:
        path = fill(store, text)
        with pytest.raises(BaselineError, match=f"^{re.escape(str(path))} {re.escape(problem)}") as caught:
            store.read(HERE.name, CASE_ID)
        assert str(caught.value).endswith("record it anew with pytest --nnopt-update after deleting it")
        with pytest.raises(BaselineError, match=re.escape(str(path))):
            list(store.read_all(HERE.name))
        with pytest.raises(BaselineError, match=re.escape(str(path))):
            store.verify()

    def test_a_newer_schema_asks_for_an_upgrade(self, store: BaselineStore) -> None:
        path = fill(store, '{"schema": 2, "novelty": NEW}'.replace("NEW", "1"))
        with pytest.raises(BaselineError, match=r"follows schema 2, this pytest-nnopt knows 1; upgrade pytest-nnopt"):
            store.read(HERE.name, CASE_ID)
        assert path.is_file()

    def test_another_cases_file_is_refused(self, store: BaselineStore) -> None:
        path = fill(store, written_text(make_baseline(HERE, case="tests/test_model.py::test_Policy")))
        message = f"{path} holds the baseline of 'tests/test_model.py::test_Policy', not of '{CASE_ID}'; rename one"
        with pytest.raises(BaselineError, match=re.escape(message)):
            store.read(HERE.name, CASE_ID)

    def test_a_directory_in_place_of_the_file_is_named(self, store: BaselineStore) -> None:
        path = store.path(HERE.name, CASE_ID)
        path.mkdir(parents=True)
        with pytest.raises(BaselineError, match=f"^{re.escape(str(path))} cannot be read: "):
            store.read(HERE.name, CASE_ID)

    def test_a_file_in_place_of_a_directory_is_named(self, store: BaselineStore) -> None:
        path = store.path(HERE.name, CASE_ID)
        path.parent.parent.mkdir(parents=True)
        path.parent.write_text("in the way")
        with pytest.raises(BaselineError, match=f"^{re.escape(str(path))} cannot be read: "):
            store.read(HERE.name, CASE_ID)

    @given(
        st.binary()
        | st.text().map(str.encode)
        | st.integers(0, len(written_text())).map(lambda cut: written_text()[:cut].encode())
    )
    @example(b"{}")
    @example(b'{"schema": true, "case": "x", "recordings": []}')
    @example(b'{"schema": 1e400}')
    @example(b"1" * 5000)
    def test_any_bytes_are_read_or_refused_by_name(self, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as directory:
            store = BaselineStore(Path(directory))
            path = fill(store, content)
            try:
                baseline = store.read(HERE.name, CASE_ID)
            except BaselineError as error:
                message = str(error)
            else:
                assert isinstance(baseline, CaseBaseline)
                message = f"{path} "
        assert message.startswith(f"{path} ")

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
            max_leaves=4,
        ),
        st.data(),
    )
    def test_any_value_in_any_place_is_read_or_refused_by_name(self, value: object, data: st.DataObject) -> None:
        whole = part = json.loads(written_text(make_baseline(HERE, make_evidence(count=1))))
        while True:
            key = data.draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
            if not isinstance(part[key], (dict, list)) or not part[key] or data.draw(st.booleans()):
                break
            part = part[key]
        part[key] = value
        with tempfile.TemporaryDirectory() as directory:
            store = BaselineStore(Path(directory))
            path = fill(store, json.dumps(whole))
            try:
                assert isinstance(store.read(HERE.name, CASE_ID), CaseBaseline)
            except BaselineError as error:
                message = str(error)
            else:
                message = f"{path} "
        assert message.startswith(f"{path} ")


class TestVerify:
    def test_intact_baselines_of_all_environments_pass(self, store: BaselineStore) -> None:
        for environment in (HERE, make_environment(cpu="Other")):
            store.write(environment, make_baseline(environment))
        store.verify()

    def test_an_empty_store_passes(self, store: BaselineStore) -> None:
        store.verify()

    @pytest.mark.parametrize("case_id", [CASE_ID, f"{CASE_ID}#second", f"{CASE_ID}#a/b", f"{CASE_ID}[3]", "a.py::test"])
    def test_a_broken_file_of_any_pair_in_any_environment_is_named(self, store: BaselineStore, case_id: str) -> None:
        path = store.write(make_environment(cpu="Other"), make_baseline(HERE, case=case_id))
        path.write_text("broken")
        with pytest.raises(BaselineError, match=re.escape(str(path))):
            store.verify()

    def test_broken_fingerprints_are_named(self, store: BaselineStore) -> None:
        store.write(HERE, make_baseline(HERE))
        fingerprints = store.root / HERE.name / "environment.json"
        fingerprints.write_text('{"fingerprints": []}')
        with pytest.raises(BaselineError, match=f"{re.escape(str(fingerprints))} is not a valid baseline: finger"):
            store.verify()


class TestParseOnce:
    @pytest.fixture
    def parsed(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The files that were parsed, in order."""
        names: list[str] = []

        def counting(path: Path, most_bytes: int) -> bytes:
            names.append(path.name)
            return read_bounded(path, most_bytes)

        monkeypatch.setattr(store_module, "read_bounded", counting)
        return names

    def test_what_was_asked_for_is_kept_and_what_was_verified_is_known(
        self, store: BaselineStore, parsed: list[str]
    ) -> None:
        store.write(HERE, make_baseline(HERE))
        store.verify()
        parsed.clear()
        assert store.cases(HERE.name) == [CASE_ID]
        assert parsed == []
        baseline = store.read(HERE.name, CASE_ID)
        assert store.read(HERE.name, CASE_ID) is baseline
        assert next(iter(store.read_all(HERE.name))) is baseline
        assert store.fingerprint(HERE.name, HERE.digest) == HERE
        assert len(parsed) == 1

    def test_only_the_files_asked_for_last_are_kept(
        self, store: BaselineStore, parsed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_module, "_KEPT", 1)
        ids = (CASE_ID, f"{CASE_ID}_other")
        for case_id in ids:
            store.write(HERE, make_baseline(HERE, case=case_id))
        parsed.clear()
        for case_id in (*ids, ids[0], ids[0]):
            assert store.read(HERE.name, case_id) is not None
        assert len(parsed) == 3

    def test_whoever_wants_to_learn_is_told_each_baseline_once(self, store: BaselineStore) -> None:
        store.write(HERE, make_baseline(HERE))
        told: list[tuple[str, str]] = []
        store.verify(learn=lambda environment, baseline: told.append((environment, baseline.case)))
        assert told == [(HERE.name, CASE_ID)]

    def test_a_case_that_vanishes_while_it_is_listed_is_left_out(
        self, store: BaselineStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = store.write(HERE, make_baseline(HERE))
        monkeypatch.setattr(store, "_files", lambda environment: [path, path.with_name("gone.json")])
        assert store.cases(HERE.name) == [CASE_ID]
        assert len(list(store.read_all(HERE.name))) == 1

    def test_a_file_that_has_changed_is_parsed_again(self, store: BaselineStore, parsed: list[str]) -> None:
        path = store.write(HERE, make_baseline(HERE))
        store.read(HERE.name, CASE_ID)
        parsed.clear()
        path.write_text(written_text(make_baseline(HERE, make_evidence(count=1))))
        again = store.read(HERE.name, CASE_ID)
        assert again is not None
        assert len(again.recordings[0].evidence.timing) == 1
        os.utime(path, ns=(0, 0))
        store.read(HERE.name, CASE_ID)
        assert len(parsed) == 2

    def test_what_the_store_has_written_is_read_though_time_stands_still(
        self, store: BaselineStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Path, "replace", replacing_at_the_same_time(Path.replace))
        for threads in (1, 2):
            environment = make_environment(threads=threads)
            store.write(environment, make_baseline(environment))
            baseline = store.read(HERE.name, CASE_ID)
            assert baseline is not None
            assert baseline.recordings[0].environment == environment.digest

    def test_a_deleted_file_is_gone(self, store: BaselineStore) -> None:
        path = store.write(HERE, make_baseline(HERE))
        store.verify()
        path.unlink()
        assert store.read(HERE.name, CASE_ID) is None

    def test_a_broken_file_is_refused_every_time(self, store: BaselineStore) -> None:
        fill(store, "broken")
        for _ in range(2):
            with pytest.raises(BaselineError, match="cannot be read"):
                store.read(HERE.name, CASE_ID)


def replacing_at_the_same_time(replace: Any) -> Any:
    def replacing(source: Path, target: Path) -> Path:
        os.utime(source, ns=(0, 0))
        return Path(replace(source, target))

    return replacing


class TestWrite:
    def test_what_is_written_is_read_back(self, store: BaselineStore) -> None:
        baseline = make_baseline(HERE, make_evidence(), Evidence())
        path = store.write(HERE, baseline)
        assert path == store.root / "cpu-amd-epyc-2c-torch2.13/tests/test_model.py/test_policy.json"
        again = store.read(HERE.name, CASE_ID)
        assert again is not None
        assert [len(recording.evidence.timing) for recording in again.recordings] == [8, 0]
        assert store.fingerprint(HERE.name, HERE.digest) == HERE
        assert store.environments() == [HERE.name]
        assert store.environments_with(CASE_ID) == [HERE.name]
        assert store.environments_with("tests/test_model.py::test_other") == []

    @given(st.lists(processes, max_size=3))
    def test_any_evidence_survives_to_six_digits(self, timing: list[ProcessRecord]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            store = BaselineStore(Path(directory))
            store.write(HERE, make_baseline(HERE, Evidence(timing=tuple(timing))))
            again = store.read(HERE.name, CASE_ID)
        assert again is not None
        for before, after in zip(timing, again.recordings[0].evidence.timing, strict=True):
            assert after.seconds == pytest.approx(before.seconds, rel=1e-5)
            assert after.candidate_to_reference.log_ratio == pytest.approx(
                before.candidate_to_reference.log_ratio, rel=1e-5
            )

    def test_a_file_is_short_sorted_and_the_same_whoever_writes_it(self, store: BaselineStore) -> None:
        path = store.write(HERE, make_baseline(HERE, make_evidence(1 / 3, count=1)))
        text = path.read_text()
        assert '"log_ratio": -1.09861,' in text
        assert text.endswith("}\n")
        assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
        again = store.read(HERE.name, CASE_ID)
        assert again is not None
        assert store.write(HERE, again).read_text() == text

    def test_fingerprints_are_added_to_those_there_are(self, store: BaselineStore) -> None:
        other = make_environment(threads=1)
        assert other.name == HERE.name
        for environment in (HERE, other):
            store.write(environment, make_baseline(environment))
        assert store.fingerprint(HERE.name, HERE.digest) == HERE
        assert store.fingerprint(HERE.name, other.digest) == other

    def test_a_changed_fingerprint_of_the_same_digest_is_renewed(self, store: BaselineStore) -> None:
        renewed = make_environment(python="3.12.1")
        for environment in (HERE, renewed):
            store.write(environment, make_baseline(environment))
        assert store.fingerprint(HERE.name, HERE.digest) == renewed

    def test_an_unchanged_fingerprint_is_not_written_again(self, store: BaselineStore) -> None:
        store.write(HERE, make_baseline(HERE))
        fingerprints = store.root / HERE.name / "environment.json"
        before = fingerprints.stat()
        store.write(HERE, make_baseline(HERE, case=f"{CASE_ID}#second"))
        assert fingerprints.stat().st_ino == before.st_ino

    def test_another_cases_file_is_not_overwritten(self, store: BaselineStore) -> None:
        text = written_text(make_baseline(HERE, case="tests/test_model.py::test_Policy"))
        path = fill(store, text)
        with pytest.raises(BaselineError, match="holds the baseline of"):
            store.write(HERE, make_baseline(HERE))
        assert path.read_text() == text

    def test_broken_fingerprints_are_not_overwritten(self, store: BaselineStore) -> None:
        store.write(HERE, make_baseline(HERE))
        fingerprints = store.root / HERE.name / "environment.json"
        fingerprints.write_text("broken")
        with pytest.raises(BaselineError, match=r"environment\.json cannot be read"):
            store.write(HERE, make_baseline(HERE))
        assert fingerprints.read_text() == "broken"

    def test_a_failing_write_leaves_the_old_text(self, store: BaselineStore, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        path = store.write(HERE, make_baseline(HERE))
        before = path.read_text()
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match="No space left on device"):
            store.write(HERE, make_baseline(HERE, make_evidence(2.0)))
        assert path.read_text() == before
        assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_all_baselines_of_an_environment_are_read_in_order(store: BaselineStore) -> None:
    ids = ["tests/test_a.py::test", "test_b.py::TestC::test", "test_b.py::test#second"]
    for case_id in ids:
        store.write(HERE, make_baseline(HERE, case=case_id))
    store.write(Environment({"device": "cpu"}), make_baseline(HERE, case="elsewhere.py::test"))
    assert sorted(store.cases(HERE.name)) == sorted(ids)


def test_what_could_not_be_read_again_is_not_written(store: BaselineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.write(HERE, make_baseline(HERE))
    before = path.read_text()
    monkeypatch.setattr("pytest_nnopt.baseline.store.LARGEST_FILE_BYTES", len(before))
    with pytest.raises(
        BaselineError, match=f"would have .* bytes, and {len(before)} are read at most; make less of it"
    ):
        store.write(HERE, make_baseline(HERE, make_evidence(), make_evidence()))
    assert path.read_text() == before


def test_what_a_killed_process_left_behind_is_removed(store: BaselineStore) -> None:
    path = store.write(HERE, make_baseline(HERE))
    leftovers = [folder / ".nnopt-x.tmp" for folder in (path.parent, store.root / HERE.name)]
    for leftover in leftovers:
        leftover.write_text("half")
    store.write(HERE, make_baseline(HERE))
    assert not any(leftover.exists() for leftover in leftovers)


@pytest.mark.parametrize("twin", ["tests/test_model.py::test_POLICY", "tests/Test_model.py::test_policy"])
def test_names_that_differ_in_case_alone_are_refused_before_one_replaces_the_other(
    store: BaselineStore, twin: str
) -> None:
    store.write(HERE, make_baseline(HERE))
    with pytest.raises(
        BaselineError, match=r"differ in case alone, and are one file where case does not count; rename"
    ):
        store.write(HERE, make_baseline(HERE, case=twin))
    assert [baseline.case for baseline in store.read_all(HERE.name)] == [CASE_ID]


def test_no_link_leads_out_of_the_store(store: BaselineStore, tmp_path: Path) -> None:
    path = store.write(HERE, make_baseline(HERE))
    elsewhere = tmp_path / "elsewhere"
    path.parent.rename(elsewhere)
    path.parent.symlink_to(elsewhere)
    with pytest.raises(BaselineError, match=r"leads out of .* by a link; remove the link"):
        BaselineStore(store.root).read(HERE.name, CASE_ID)
