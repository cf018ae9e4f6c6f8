"""What each fuzzer feeds: a parser of ours with all that is done with what it accepts.

A target takes any bytes. It may refuse them by an error of this package; any other exception is a find.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_nnopt.baseline.anchor import anchor_of
from pytest_nnopt.baseline.imported import newest_times
from pytest_nnopt.baseline.level import comparable_recordings, levels_of
from pytest_nnopt.baseline.paths import case_path
from pytest_nnopt.baseline.store import BaselineStore
from pytest_nnopt.cli.accept import read_candidates
from pytest_nnopt.cli.compare import find_differences
from pytest_nnopt.cli.configuration import effective_settings
from pytest_nnopt.cli.evidence import Found, find_evidence
from pytest_nnopt.cli.output import print_json, print_table
from pytest_nnopt.cli.show import _row
from pytest_nnopt.config import read_pyproject
from pytest_nnopt.environment import Environment
from pytest_nnopt.errors import NnoptError
from pytest_nnopt.history.names import case_folder, entry_name, label_of_name
from pytest_nnopt.history.schema import Label, parse_entry, require_label
from pytest_nnopt.profiles import read_profiles
from pytest_nnopt.report.annotations import render_annotations
from pytest_nnopt.report.files import read_results
from pytest_nnopt.report.junit import junit_properties
from pytest_nnopt.report.markdown import render_markdown
from pytest_nnopt.report.openmetrics import render_openmetrics
from pytest_nnopt.report.terminal import render_section
from pytest_nnopt.session.merging import Part, merge_results
from pytest_nnopt.session.protocol import Channel

_CASE = "tests/test_model.py::test_policy"
_HERE = Environment({"device": "cpu", "cpu": "AMD EPYC", "cores": 2, "threads": 2, "torch": "2.13.0"})
_FOLDER = Path(tempfile.mkdtemp(prefix="nnopt-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def baseline(content: bytes) -> None:
    """Read a case's file, compare with it, and show it."""
    store = BaselineStore(_FOLDER / "baselines")
    path = store.path(_HERE.name, _CASE)
    _put(path, content)
    with _refusing():
        comparable_recordings(store, _CASE, _HERE)
        found = store.read(_HERE.name, _CASE)
        assert found is not None
        levels_of(found)
        anchor_of(found, _HERE.digest)
        _shown([_row(_HERE.name, found)])
        evidence = find_evidence(_HERE.name, store)
        _compared(evidence)


def environment(content: bytes) -> None:
    """Read the fingerprints of an environment, and name and compare one."""
    store = BaselineStore(_FOLDER / "fingerprints")
    _put(store.root / "env" / "environment.json", content)
    with _refusing():
        found = store.fingerprint("env", _HERE.digest)
        if found is not None:
            assert "/" not in found.name
            assert len(found.name) <= 200
            _HERE.differences(found)


def results(content: bytes) -> None:
    """Read a results file, write every report of it, and ask what of it could become a baseline."""
    path = _FOLDER / "results.json"
    _put(path, content)
    with _refusing():
        read = read_results(path)
        texts = [render_markdown(read), render_openmetrics(read), *render_annotations(read.cases, {})]
        texts += [line.text for line in render_section(read.cases, is_verbose=True)]
        texts += [value for case in read.cases for _, value in junit_properties(case)]
        assert not [text for text in texts if "\ud800" <= text[:1] <= "\udfff"]
        render_markdown(merge_results([Part("a", read), Part("b", read)]))
        _compared(find_evidence(str(path), BaselineStore(_FOLDER / "none")))
        for one in read_candidates(path, is_worse_allowed=True):
            inside = _FOLDER / one.environment.name / case_path(one.result.id)
            assert inside.resolve().is_relative_to(_FOLDER.resolve())


def benchmarks(content: bytes) -> None:
    """Read a file of pytest-benchmark, and take its times over."""
    path = _FOLDER / "benchmarks.json"
    _put(path, content)
    with _refusing():
        found, left_out = newest_times(path)
        _shown([{"case": name, "seconds": time.seconds} for name, time in found.items()] or [{"left out": left_out}])
        store = BaselineStore(_FOLDER / "importing")
        store.write_imported(found)
        assert store.imported().keys() == found.keys()


def history(content: bytes) -> None:
    """Read an entry of a shared history, and find it again by its label."""
    with _refusing():
        entry = parse_entry(content, "an entry")
        label = Label.of(entry)
        assert label_of_name(entry.case, entry_name(label)) == label
        assert "/" not in case_folder(entry.case)
        require_label(parse_entry(entry.to_text(), "an entry"), label, "an entry")
        entry.to_recording()


def pyproject(content: bytes) -> None:
    """Read the settings of a project, and show them."""
    path = _FOLDER / "pyproject.toml"
    _put(path, content)
    with _refusing():
        settings = effective_settings(read_pyproject(path), None)
        _shown([{"name": one.name, "value": one.value} for one in settings])


def profiles_yaml(content: bytes) -> None:
    """Read a file of profiles in YAML, and the settings of a project that names it."""
    _profiles(_FOLDER / "profiles.yaml", content)


def profiles_toml(content: bytes) -> None:
    """Read a file of profiles in TOML, and the settings of a project that names it."""
    _profiles(_FOLDER / "profiles.toml", content)


def protocol(content: bytes) -> None:
    """Read messages of a measuring process until there are no more."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    try:
        theirs.sendall(content[:65536])
        theirs.close()
        with _refusing():
            while channel.receive(timeout_seconds=5) is not None:
                pass
    finally:
        channel.close()


def names(content: bytes) -> None:
    """Make the path of a case, whatever its id is."""
    path = case_path(content.decode("utf-8", "surrogateescape"))
    assert (_FOLDER / path).resolve().is_relative_to(_FOLDER.resolve())
    assert len(str(path)) < 1300
    os.fsencode(path)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        baseline,
        environment,
        results,
        benchmarks,
        history,
        pyproject,
        profiles_yaml,
        profiles_toml,
        protocol,
        names,
    )
}


def _profiles(path: Path, content: bytes) -> None:
    _put(path, content)
    with _refusing():
        read_profiles(path)
        _put(path.parent / "project" / "pyproject.toml", b"")
        list(effective_settings({"profiles": read_profiles(path)}, None))


def _compared(found: Found) -> None:
    differences = list(find_differences(found, found))
    if differences:
        _shown([{"case": one.case, "change": one.change, "other": one.other} for one in differences])


def _shown(rows: list[dict[str, object]]) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        print_table(rows)
        json.dumps(rows, allow_nan=False)
        print_json(rows)
    assert not [line for line in said.getvalue().splitlines() if line.lstrip().startswith("::")]


def _refusing() -> contextlib.AbstractContextManager[None]:
    return contextlib.suppress(NnoptError)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a new file has a new stamp, and is parsed anew
    path.write_bytes(content)
