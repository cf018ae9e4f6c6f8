"""A measuring process that is on its way before anybody knows what it will measure."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.session.processes import Launch, MeasuringProcess

_OF_THE_MOMENT = frozenset(
    {
        "PYTEST_CURRENT_TEST",
        "CUDA_MODULE_LOADING",
        "DISABLE_CUPTI_LAZY_REINIT",
        "KMP_DUPLICATE_LIB_OK",
        "TEARDOWN_CUPTI",
        "TORCHINDUCTOR_CACHE_DIR",
        "TORCH_WARM_POOL",
        "TRITON_CACHE_DIR",
        "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR",
    }
)
"""Variables that pytest, torch and this plugin set as they go, in any process by themselves."""

_OWN_ASSEMBLER = "torch", "bin", "ptxas"
"""Torch sets ``TRITON_PTXAS_PATH`` to this file of its own, for good, in any process that has not set it."""


class Standby:
    """Keeps one process for the test that runs now or next: it imports, collects, and waits to enter that test.

    Args:
        launch: how to start it.
    """

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._test_id: str | None = None
        self._process: MeasuringProcess | None = None
        self._variables: dict[str, str] = {}

    def call(self, test_id: str, variables: Mapping[str, str]) -> None:
        """Have a process on its way for a test, in place of one for another test or with another environment.

        Where none can be started, whoever takes it learns why.

        Args:
            test_id: node id of the test.
            variables: the environment between tests, which the one that runs now may have changed for itself.
        """
        wanted = test_id, _lasting(variables)
        if self._process is not None and wanted == (self._test_id, self._variables):
            return
        self.dismiss()
        with contextlib.suppress(MeasurementError):
            self._process = MeasuringProcess(self._launch, test_id, variables=variables)
            self._test_id, self._variables = wanted

    def take(self, launch: Launch, test_id: str, variables: Mapping[str, str] | None = None) -> MeasuringProcess:
        """Return the process where it is as good as a new one, else a new one.

        It is not where it has ended, is another test's, or knows another environment.

        Args:
            launch: how to start a new one.
            test_id: node id of the test.
            variables: the environment before the test's fixtures, which run in the process as well; None is this one.

        Raises:
            MeasurementError: none can be started.
        """
        process, wanted = self._process, _lasting(os.environ if variables is None else variables)
        if process is None or (launch, test_id) != (self._launch, self._test_id):
            return MeasuringProcess(launch, test_id, variables=variables)
        if process.is_alive and self._variables == wanted:
            self._process = None
            return process
        self.dismiss()
        return MeasuringProcess(launch, test_id, variables=variables)

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

    def dismiss(self, *, unless_for: tuple[str | None, ...] = ()) -> None:
        """End the process, except one for certain tests."""
        if self._process is not None and self._test_id not in unless_for:
            self._process.stop(at_once=True)
            self._process = None


def _lasting(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those that say nothing about what a process does."""
    lasting = {name: value for name, value in variables.items() if name not in _OF_THE_MOMENT}
    if PurePath(lasting.get("TRITON_PTXAS_PATH", "")).parts[-3:] == _OWN_ASSEMBLER:
        del lasting["TRITON_PTXAS_PATH"]
    return lasting
