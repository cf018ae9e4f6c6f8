from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator

import pytest

from pytest_nnopt.torch_backend.quiet import profiler_kept_quiet, torch_kept_quiet


def warn_from(module: str) -> None:
    warnings.warn_explicit("mind this", UserWarning, "file.py", 1, module=module)


@pytest.mark.parametrize("module", ["torch", "torch._dynamo.eval_frame"])
def test_torchs_own_warnings_are_ignored(module: str) -> None:
    with torch_kept_quiet():
        warn_from(module)
    with pytest.warns(UserWarning, match="mind this"):
        warn_from(module)


@pytest.mark.parametrize("module", ["torchvision.models", "mytorch", "model"])
def test_everyone_elses_warnings_are_not(module: str) -> None:
    with pytest.warns(UserWarning, match="mind this"), torch_kept_quiet():
        warn_from(module)


class Listener(logging.Handler):
    """Keeps what reaches a logger's handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The compiler's trace, of which nobody has asked for a file."""
    monkeypatch.delenv("TORCH_TRACE", raising=False)
    return logging.getLogger("torch.__trace")


@pytest.fixture
def heard(trace: logging.Logger) -> Iterator[list[str]]:
    """What reaches the handlers of the compiler's trace."""
    listener = Listener()
    level = trace.level
    trace.addHandler(listener)
    trace.setLevel(logging.DEBUG)
    yield listener.messages
    trace.setLevel(level)
    trace.removeHandler(listener)


def test_the_compilers_trace_is_dropped_while_inside(trace: logging.Logger, heard: list[str]) -> None:
    with torch_kept_quiet():
        trace.debug("inside")
    with pytest.raises(ZeroDivisionError), torch_kept_quiet():
        raise ZeroDivisionError
    trace.debug("outside")
    assert heard == ["outside"]


def test_leaving_an_inner_block_does_not_end_the_outer_one(trace: logging.Logger, heard: list[str]) -> None:
    with torch_kept_quiet():
        with torch_kept_quiet():
            trace.debug("inner")
        trace.debug("outer")
    trace.debug("outside")
    assert heard == ["outside"]


def test_a_trace_that_was_asked_for_is_kept(
    trace: logging.Logger, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_TRACE", "somewhere")
    with torch_kept_quiet():
        trace.debug("inside")
    assert heard == ["inside"]


def test_filters_are_as_before_afterwards() -> None:
    trace = logging.getLogger("torch.__trace")
    before = list(warnings.filters), list(trace.filters)
    with torch_kept_quiet():
        warnings.simplefilter("ignore")
    assert (list(warnings.filters), list(trace.filters)) == before


@pytest.mark.parametrize("level", [None, "3"])
def test_the_profiler_is_quiet_and_leaves_the_environment_as_it_was(
    monkeypatch: pytest.MonkeyPatch, level: str | None
) -> None:
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    if level is not None:
        monkeypatch.setenv("KINETO_LOG_LEVEL", level)
    with profiler_kept_quiet():
        assert os.environ["KINETO_LOG_LEVEL"] == (level or "99")
    assert os.environ.get("KINETO_LOG_LEVEL") == level
