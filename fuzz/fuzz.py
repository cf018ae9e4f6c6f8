"""Fuzz one parser with atheris: ``python -m fuzz.fuzz TARGET [LIBFUZZER OPTION OR FOLDER ...]``; see the README."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pytest_nnopt", "yaml", "tomllib", "tomli", "json"]):
    import yaml  # noqa: F401  otherwise it is imported late, and not instrumented

    from fuzz.mutation import mutate_json, mutate_lines
    from fuzz.targets import TARGETS

_CORPUS = Path(__file__).parent / "corpus"
_MUTATORS = dict.fromkeys(("baseline", "environment", "results", "benchmarks", "history"), mutate_json) | {
    "protocol": mutate_lines
}
_LONGEST = 20_000


def main() -> None:
    """Run libFuzzer on the kept corpus; new entries go to the first folder given, what it finds to the present one."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"python -m fuzz.fuzz TARGET [OPTION ...], with one of {', '.join(TARGETS)}")
    name, options = sys.argv[1], sys.argv[2:]
    itself = f"{sys.executable} -m fuzz.fuzz {name}"  # libFuzzer starts itself again to merge
    arguments = [itself, f"-max_len={_LONGEST}", *options, str(_CORPUS / name)]
    if name in _MUTATORS:
        atheris.Setup(arguments, TARGETS[name], custom_mutator=_mutator(name))
    else:
        atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


def _mutator(name: str) -> Callable[[bytes, int, int], bytes]:
    """Return what changes an entry: as JSON three times of four, else as bytes."""

    def mutate(content: bytes, most_bytes: int, seed: int) -> bytes:
        changed = _MUTATORS[name](content, seed) if seed % 4 else None
        return atheris.Mutate(content, most_bytes) if changed is None else changed[:most_bytes]

    return mutate


if __name__ == "__main__":
    main()
