"""What a case says while it is measured: what is asked, what is there so far, and what is still undecided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_nnopt.model import CheckName, Outcome
from pytest_nnopt.plain import plain_line
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict import wanted_processes
from pytest_nnopt.verdict.forecast import describe_forecast, forecast_latency
from pytest_nnopt.verdict.times import check_latency, check_speedup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.model import Check
    from pytest_nnopt.verdict import Question


class Progress(Protocol):
    """Follows the measuring of cases."""

    def update(self, question: Question, timing: Sequence[ProcessRecord]) -> None:
        """Take what is known before another process measures; ``timing`` is empty before the first one."""
        ...

    def finish(self) -> None:
        """Take note that the case is measured; harmless where it never began."""
        ...


class NoProgress:
    """Says nothing: in workers, in measuring processes, and where nobody watches."""

    def update(self, question: Question, timing: Sequence[ProcessRecord]) -> None:
        """Ignore it."""

    def finish(self) -> None:
        """Ignore it."""


class PlainProgress:
    """Writes a line whenever there is something new, for logs.

    Args:
        write_line: writes one line.
    """

    def __init__(self, write_line: Callable[[str], None]) -> None:
        self._write_line = write_line

    def update(self, question: Question, timing: Sequence[ProcessRecord]) -> None:
        """Write what is known."""
        self._write_line(describe_progress(question, timing))

    def finish(self) -> None:
        """Leave what is written."""


class Forewarning:
    """Says before a case is measured, and lets it stand, that this machine's noise hides more than its limit allows.

    Args:
        write_line: writes one line.
        progress: follows the measuring besides.
    """

    def __init__(self, write_line: Callable[[str], None], progress: Progress) -> None:
        self._write_line = write_line
        self._progress = progress

    def update(self, question: Question, timing: Sequence[ProcessRecord]) -> None:
        """Warn where that is due, and pass on what is known."""
        forecast = None if timing else forecast_latency(question)
        if forecast is not None and forecast.is_blind:
            self._progress.finish()  # that of the case before, so that this line begins one
            self._write_line(f"nnopt: {plain_line(question.case_id)}: {describe_forecast(forecast)}")
        self._progress.update(question, timing)

    def finish(self) -> None:
        """Pass it on."""
        self._progress.finish()


class StatusLine:
    """Keeps one line below the terminal's current one up to date, and takes it away in the end.

    Args:
        write: writes to the terminal as it is.
        column: tells how many columns of the terminal's current line are taken.
        width: columns of the terminal.
    """

    def __init__(self, write: Callable[[str], None], column: Callable[[], int], width: int) -> None:
        self._write = write
        self._column = column
        self._width = width
        self._is_shown = False

    def update(self, question: Question, timing: Sequence[ProcessRecord]) -> None:
        """Show what is known in place of what was."""
        text = _shorten(describe_progress(question, timing), self._width - 1)
        self._write(f"{_CLEAR if self._is_shown else _BELOW}{text}")
        self._is_shown = True

    def finish(self) -> None:
        """Clear the line and put the cursor back where it was."""
        if self._is_shown:
            column = self._column()
            self._write(f"{_CLEAR}{_UP}" + (f"\x1b[{column}C" if column else ""))
            self._is_shown = False


_BELOW, _CLEAR, _UP = "\r\n", "\r\x1b[2K", "\x1b[A"


def describe_progress(question: Question, timing: Sequence[ProcessRecord]) -> str:
    """Say in one line what is measured, how many processes are done, and what they show so far."""
    wanted = max(question.recorded_processes, wanted_processes(question, timing))
    processes, case = f"{len(timing)} of {wanted} processes", plain_line(question.case_id)
    if timing:
        figures = [_describe(check) for check in _decided_over_processes(question, timing)]
        return " · ".join([f"measuring: {processes}", *figures, case])
    forecast = forecast_latency(question)
    ahead = [] if forecast is None else [describe_forecast(forecast)]
    return " · ".join([f"measuring: {processes}", *ahead, case])


def _decided_over_processes(question: Question, timing: Sequence[ProcessRecord]) -> list[Check]:
    checks = []
    if CheckName.SPEEDUP in question.asked and question.config.speedup.min is not None:
        checks.append(check_speedup(question, timing))
    if CheckName.LATENCY in question.asked and question.is_comparing:
        checks.append(check_latency(question, timing))
    return checks


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _describe(check: Check) -> str:
    status = "undecided" if check.outcome is Outcome.INCONCLUSIVE else check.outcome.value.replace("_", " ")
    if check.value is None or check.interval is None:
        return f"{check.name.value} {status}"
    low, high = check.interval.low, check.interval.high
    if check.name is CheckName.SPEEDUP:
        return f"{check.name.value} {check.value:.2f}x [{low:.2f}, {high:.2f}] {status}"
    figure, low_text, high_text = (format_percent(value, signed=True) for value in (check.value, low, high))
    return f"{check.name.value} {figure} [{low_text}, {high_text}] {status}"
