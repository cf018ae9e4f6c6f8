from __future__ import annotations

import gc

import pytest

from pytest_nnopt import cli


def test_the_program_looks_for_no_garbage_neither_on_its_way_nor_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting = []

    def main() -> None:
        collecting.append(gc.isenabled())
        raise SystemExit(4)

    monkeypatch.setattr(cli, "main", main)
    try:
        with pytest.raises(SystemExit):
            cli.program()
        assert collecting == [False]
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.enable()
