"""A measuring process that is on its way before anybody knows what it will measure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session.processes import Launch, MeasuringProcess


class Standby:
    """Keeps one process for the test that runs now or next: it imports, collects, and waits to enter that test.

    Args:
        launch: how to start it.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._test_id: str | None = None
        self._process: MeasuringProcess | None = None

    def call(self, test_id: str) -> None:
        """Have a process on its way for a test, in place of one for another test.

        Where none can be started, whoever takes it learns why.
        """
        if self._process is not None and self._test_id == test_id:
            return
        self.dismiss()
        with contextlib.suppress(MeasurementError):
            self._process, self._test_id = MeasuringProcess(self._launch, test_id), test_id

    def take(self, launch: Launch, test_id: str) -> MeasuringProcess:
        """Return the process where it is one for this test that is alive, else a new one.

        Raises:
            MeasurementError: none can be started.
        """
        process = self._process
        if process is None or (launch, test_id) != (self._launch, self._test_id):
            return MeasuringProcess(launch, test_id)
        self._process = None
        if process.is_alive:
            return process
        process.stop(at_once=True)
        return MeasuringProcess(launch, test_id)

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """Have it do nothing meanwhile."""
        process = self._process
        if process is not None:
            process.pause()
        try:
            yield
        finally:
            if process is not None:
                process.resume()

    def dismiss(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop(at_once=True)
            self._process = None
