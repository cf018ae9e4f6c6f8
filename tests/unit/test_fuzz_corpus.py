"""What the fuzzers once reached is still parsed or refused; see ``fuzz/README.md``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"


def test_every_target_has_a_corpus() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_every_entry_is_parsed_or_refused(target: str) -> None:
    for entry in sorted((CORPUS / target).iterdir()):
        TARGETS[target](entry.read_bytes())
