"""Gather times of a case from fresh processes: as many as its decisions want, as long as its budget lasts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.files import temporary_directory
from pytest_nnopt.session.crew import Crew
from pytest_nnopt.session.progress import NoProgress
from pytest_nnopt.session.standby import Standby
from pytest_nnopt.session.teams import TeamProcess
from pytest_nnopt.torch_backend.isolation import share_machine_code
from pytest_nnopt.torch_backend.threads import default_threads
from pytest_nnopt.verdict import wanted_by_chance, wanted_by_looks

if TYPE_CHECKING:
    from pytest_nnopt.baseline.schema import ProcessRecord
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.session.budget import Budget
    from pytest_nnopt.session.processes import Launch, MeasuringProcess
    from pytest_nnopt.session.progress import Progress
    from pytest_nnopt.verdict import Question

ASSURED_PROCESSES = 2
"""Processes that a case gets whatever its budget: one alone can show a slowdown but never confirm it."""

_AT_ONCE_ON_CPU = 2
"""A process waiting its turn costs memory and no time. Half of the cores is what one computes with by default."""

_MOST_AHEAD_ON_GPU = 3
"""Importing takes longer than building and measuring; it takes memory of the host, and nothing of a GPU."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What processes measured of a case, and why no more of them did.

    Attributes:
        timing: of each process.
        problem: a process that died, hung or refused, in words.
        spent_budget: the name of the budget that ended while more processes were wanted.
    """

    timing: tuple[ProcessRecord, ...] = ()
    problem: str | None = None
    spent_budget: str | None = None


NOTHING = Gathered()


class TimingSource(Protocol):
    """Where samples come from: a crew of measuring processes, or this process."""

    def sample(self, seed: int, *, expected: int = 1) -> ProcessRecord:
        """Take one sample; ``expected`` says how many will be asked for, this one included."""
        ...


class Looks:
    """Says how many processes a case wants, asked after each; looks at times no more often than is planned."""

    def __init__(self) -> None:
        self._next_look = 0

    def wanted(self, question: Question, timing: Sequence[ProcessRecord]) -> int:
        """Return how many processes are wanted in all; as many as there are where nothing more is.

        While chance alone asks for more, times are not looked at, and the first process that answers ends it.
        """
        if len(timing) < self._next_look:
            return self._next_look
        by_chance = wanted_by_chance(question, timing)
        if by_chance > len(timing):
            return by_chance
        self._next_look = wanted_by_looks(question, timing)
        return self._next_look


@contextlib.contextmanager
def hired_crew(
    launch: Launch,
    test_id: str,
    case_id: str,
    environment: Environment,
    cache_dir: Callable[[], Path],
    *,
    standby: Standby | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Crew]:
    """Have a crew for one case, all of whose processes are gone in the end.

    On a CPU they reuse the compiled code in ``cache_dir``. On a GPU each compiles anew, since the compiler chooses
    kernels by timing them: two compilations of one model differ by more than two processes with the same kernels. Only
    the machine code of what is timed is reused. One model is built at a time there, because a device's memory may not
    hold more, and the next processes import meanwhile.

    Args:
        launch: how to start a process.
        test_id: node id of the test.
        case_id: the case that it is to hand over.
        environment: what every process must see, too.
        cache_dir: gives the directory of the run's compiled code.
        standby: keeps a process that may be on its way already.
        variables: the environment before the test's fixtures changed it, which they do in each process; None is this
            one.
    """
    standby = standby or Standby(launch)
    start: Callable[[], MeasuringProcess] = partial(standby.take, launch, test_id, variables)
    if launch.ranks is not None:
        start = partial(TeamProcess.measuring, launch, test_id, case_id, variables)
    is_on_cpu = environment.fields["device"] == "cpu"
    with contextlib.ExitStack() as directories:  # outlive the processes, which write into them

        def new_directory() -> Path:
            directory = directories.enter_context(temporary_directory())
            if launch.ranks is None:  # each rank keeps its code by itself
                share_machine_code(directory, cache_dir())
            return directory

        with Crew(
            start,
            case_id,
            cache_dir if is_on_cpu else new_directory,
            environment,
            at_once=_AT_ONCE_ON_CPU if is_on_cpu and launch.ranks is None else 1,
            ahead=0 if is_on_cpu or launch.ranks is not None else min(_MOST_AHEAD_ON_GPU, default_threads()),
            aside=standby.at_rest,
        ) as crew:
            yield crew


def gather_timing(
    source: TimingSource,
    question: Question,
    timing: tuple[ProcessRecord, ...],
    *,
    budget: Budget,
    progress: Progress | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Gathered:
    """Add samples to ``timing`` while they may still decide something.

    A recording looks after a few whether more are in vain, which they seldom are: as many as it will hold are expected.

    Args:
        source: takes the samples.
        question: what is to be decided.
        timing: what was measured before.
        budget: after it no further sample is taken, except the first ``ASSURED_PROCESSES``.
        progress: hears of what is there before each sample.
        now: the clock, in seconds.
    """
    deadline, progress, looks = now() + budget.seconds, progress or NoProgress(), Looks()
    try:
        while (wanted := looks.wanted(question, timing)) > len(timing):
            if len(timing) >= ASSURED_PROCESSES and now() >= deadline:
                return Gathered(timing, spent_budget=budget.name)
            progress.update(question, timing)
            expected = max(wanted, question.recorded_processes) - len(timing)
            timing = (*timing, source.sample(seed=len(timing), expected=expected))
    except MeasurementError as error:
        return Gathered(timing, problem=str(error))
    return Gathered(timing)
