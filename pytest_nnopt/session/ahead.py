"""The first measuring process of a test, started before this process has imported what it needs for the test itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session.processes import MeasuringProcess

if TYPE_CHECKING:
    from pytest_nnopt.session.processes import Launch


@dataclass
class Ahead:
    """Holds the process until its case asks for it. Named cases start their own: their names show too late."""

    _process: MeasuringProcess | None = None
    _case_id: str = ""

    @contextlib.contextmanager
    def started(self, launch: Launch, test_id: str) -> Iterator[None]:
        """Start the process of a test's unnamed case; one that nobody took is ended in the end.

        Where it cannot be started the case will try again, and say so.
        """
        with contextlib.suppress(MeasurementError):
            self._process, self._case_id = MeasuringProcess(launch, test_id, test_id), test_id
        try:
            yield
        finally:
            if self._process is not None:
                self._process.stop(at_once=True)
                self._process = None

    def take(self, case_id: str) -> MeasuringProcess | None:
        """Hand over the process to whoever ends it; one of another case, which would disturb, is ended."""
        process, self._process = self._process, None
        if process is not None and case_id != self._case_id:
            process.stop(at_once=True)
            return None
        return process

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Have the process rest while this one takes times."""
        process = self._process
        if process is not None:
            process.pause()
        try:
            yield
        finally:
            if process is not None:
                process.resume()
