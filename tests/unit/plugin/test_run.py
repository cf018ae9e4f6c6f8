from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_nnopt.plugin.run import progress_of
from pytest_nnopt.session.progress import Forewarning, NoProgress, PlainProgress


@pytest.mark.parametrize(
    ("verbose", "is_terminal", "kind"),
    [
        (0, False, Forewarning),
        (1, False, PlainProgress),
        (0, True, Forewarning),
        (1, True, Forewarning),
        (-1, True, NoProgress),
        (-1, False, NoProgress),
        (0, None, NoProgress),
    ],
)
def test_who_is_told_what_while_a_case_is_measured(verbose: int, is_terminal: bool | None, kind: type) -> None:
    reporter = None if is_terminal is None else SimpleNamespace(isatty=is_terminal)
    config: Any = SimpleNamespace(
        pluginmanager=SimpleNamespace(get_plugin=lambda name: reporter if name == "terminalreporter" else None),
        option=SimpleNamespace(verbose=verbose, nnopt_worker=None),
        get_terminal_writer=lambda: SimpleNamespace(fullwidth=80, width_of_current_line=0),
    )
    assert type(progress_of(config)) is kind
