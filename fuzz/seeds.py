"""Write the corpus's first entries: sound files as this version writes them, and known attacks."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_nnopt.baseline.schema import EnvironmentFile, LeafRecord, MemoryRecord, WorkRecord
from pytest_nnopt.history.schema import Entry
from pytest_nnopt.model import Outcome
from pytest_nnopt.results import CaseContext, LeafResult, RatioSummary, RunResults
from pytest_nnopt.session.protocol import Build, Measure, Ready, Sample, Stop
from tests.builders import (
    CASE_ID,
    RECORDED,
    make_baseline,
    make_check,
    make_environment,
    make_evidence,
    make_process,
    make_result,
)

_CORPUS = Path(__file__).parent / "corpus"
_HERE = make_environment()
_BOMB = b"a: &a {mode: x}\n" + b"".join(
    b"%c: &%c {<<: [*%c,*%c,*%c]}\n" % (name, name, *[name - 1] * 3) for name in b"bcdefgh"
)


def seeds() -> dict[str, dict[str, bytes]]:
    """Return the content of each entry by target and name."""
    evidence = make_evidence(count=1).model_copy(
        update={
            "numerics": {"output": LeafRecord(dtype="float32", shape=(2, 3), norm=1.5, sample=(0.25, -1.5))},
            "memory": MemoryRecord(candidate_peak_bytes=4096, reference_peak_bytes=8192),
            "work": WorkRecord(operators={"aten::mm": 2}, elements=64),
        }
    )
    times = RatioSummary(ratio=0.5, low=0.4, high=0.6, confidence=0.95, processes=3)
    leaf = LeafResult(path="output", kind="output", dtype="float32", shape=(2,), lane="float64", excess=0.5)
    context = CaseContext(environment=dict(_HERE.fields), leaves=(leaf,), times=times, level=evidence)
    result = make_result(make_check(value=0.1, limit=0.5), evidence=evidence).model_copy(update={"context": context})
    run = RunResults(environment=dict(_HERE.fields), cases=(result,))
    stored = EnvironmentFile(fingerprints={_HERE.digest: dict(_HERE.fields)})
    messages = [Build(cache_dir="/c"), Ready(environment={"device": "cpu"}), Sample(process=make_process()), Stop()]
    lines = [json.dumps(message.model_dump(mode="json")) for message in (*messages, Measure(seed=1))]
    benchmarks = {
        "datetime": "2026-01-02T03:04:05+00:00",
        "machine_info": {"cpu": {"brand_raw": "AMD EPYC"}, "python_version": "3.11.7"},
        "commit_info": {"id": "0123456789abcdef"},
        "benchmarks": [{"fullname": "tests/test_a.py::test", "stats": {"median": 0.001, "rounds": 5, "ops": 1e9}}],
    }
    entry = Entry(
        run="0123456789abcdef",
        case=CASE_ID,
        recorded=RECORDED,
        branch="main",
        environment=_HERE.digest,
        fields=dict(_HERE.fields),
        outcome=Outcome.PASSED,
        has_passed=True,
        evidence=evidence,
    )
    return {
        "history": {"sound.json": entry.to_text().encode()},
        "baseline": {"sound.json": make_baseline(_HERE, evidence).model_dump_json(by_alias=True).encode()},
        "environment": {"sound.json": stored.model_dump_json(by_alias=True).encode()},
        "results": {"sound.json": run.model_dump_json(by_alias=True).encode()},
        "benchmarks": {"sound.json": json.dumps(benchmarks).encode()},
        "pyproject": {
            "sound.toml": b"[tool.nnopt]\nbudget = '2min'\nprocesses = 3\nonly = ['compile']\n"
            b"[tool.nnopt.limits]\nlatency = '5%'\n[tool.nnopt.match]\ntimes = 'any'\n"
            b"[tool.nnopt.profiles.a]\nmode = 'default'\n",
            "deep.toml": b"[tool.nnopt" + b".a" * 200 + b"]\n",
            "numbers.toml": b"[tool.nnopt]\nprocesses = 0xffffffffffffffffffff\neffect = nan\nbudget = inf\n",
        },
        "profiles_yaml": {
            "sound.yaml": b"base: &b {mode: default}\nserving:\n  <<: *b\n  options: {a.b: [1, 2.5, true]}\n",
            "bomb.yaml": _BOMB,
            "tags.yaml": b"a: {options: {x: !!binary gIGC, y: !!timestamp 2001-01-01, z: !!set {1}}}\n? [a]\n: 1:1:1\n",
        },
        "profiles_toml": {"sound.toml": b"[serving]\nmode = 'max-autotune'\n[serving.options]\na = [1, 2.5, true]\n"},
        "protocol": {"sound.jsonl": "".join(f"{line}\n" for line in lines).encode()},
        "names": {
            "sound.txt": b"tests/test_a.py::TestB::test_c[a-b]#pair",
            "hostile.txt": b"../\0/..::x[../" + b"x" * 300 + b"]#",
        },
    }


def main() -> None:
    """Write every entry that is not there."""
    for target, entries in seeds().items():
        folder = _CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in entries.items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
