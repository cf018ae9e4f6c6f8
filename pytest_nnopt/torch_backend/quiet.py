"""What torch says about its own inside, which no user of ours can mend."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from pytest_nnopt.torch_backend.isolation import warnings_not_raised

_KINETO_LEVEL = "KINETO_LOG_LEVEL"


@contextlib.contextmanager
def torch_kept_quiet() -> Iterator[None]:
    """Ignore warnings raised from torch's own files, and drop the compiler's trace where nobody asked for it.

    Under ``-W error`` such a warning would end a compilation. The trace would bury a failure's message in pytest's
    captured logs; with ``TORCH_TRACE`` set it goes where that says. It may be entered again inside.
    """
    with _trace_dropped(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        yield


@contextlib.contextmanager
def profiler_kept_quiet() -> Iterator[None]:
    """Profile inside without warnings, and without the log that Kineto writes to the process's own stderr.

    Its level counts from a process's first profile on. Where none was set, the environment is left without one.
    """
    is_set = _KINETO_LEVEL in os.environ
    os.environ.setdefault(_KINETO_LEVEL, "99")
    try:
        with warnings_not_raised():
            yield
    finally:
        if not is_set:
            os.environ.pop(_KINETO_LEVEL, None)


@contextlib.contextmanager
def _trace_dropped() -> Iterator[None]:
    """Drop the compiler's trace, unless it was asked for."""
    if os.environ.get("TORCH_TRACE"):
        yield
        return
    trace = logging.getLogger("torch.__trace")
    drop = _DropAll()  # of its own: a logger keeps equal filters once, so an inner exit would lift the outer one
    trace.addFilter(drop)
    try:
        yield
    finally:
        trace.removeFilter(drop)


class _DropAll(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return False
