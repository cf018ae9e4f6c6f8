"""Clean up where a process is told to end: without a handler, a request to terminate ends Python on the spot."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def raised_on_termination(error: BaseException) -> Iterator[None]:
    """Raise ``error`` in the body when the process is asked to terminate, unless somebody else answers that already."""
    is_ours = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if not is_ours:
        yield
        return

    def leave(*_: object) -> NoReturn:
        raise error

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
