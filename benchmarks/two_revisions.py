"""How much two identical revisions seem to differ, measured as ``--nnopt-against`` measures them.

Run ``python -m benchmarks.two_revisions`` on a machine with nothing else to do; it writes
``benchmarks/results/two_revisions.md``. ``--traces FILE`` keeps what each process measured and adds to what the file
holds, so that several short runs make one page; with ``--minutes 0`` nothing is measured and the page is made anew.

A temporary git repository holds the models and tests of ``examples`` in two revisions that do not differ. Every round
measures each model three times in processes of both revisions, and once in a process of each, by the gate's own
measuring processes and with compiled code from a cache, as in a run; the two of a pair take turns, block by block.
What a stored baseline would be compared with is the head's candidate over eager in the process of both.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pytest_nnopt.against.git import find_repository
from pytest_nnopt.against.worktree import worktree
from pytest_nnopt.baseline.schema import ProcessRecord
from pytest_nnopt.measurement.exclusive import exclusive
from pytest_nnopt.model import Outcome
from pytest_nnopt.session.base import Base
from pytest_nnopt.session.gathering import hired_crew
from pytest_nnopt.session.processes import Launch, measure_in_turns
from pytest_nnopt.statistics.decision import Decision, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR
from pytest_nnopt.statistics.sequential import DEFAULT_LOOKS
from pytest_nnopt.torch_backend.facts import current_environment
from pytest_nnopt.torch_backend.isolation import probe_instruction_sets
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict import estimate_of
from pytest_nnopt.verdict.estimates import estimate_of_ratio
from pytest_nnopt.verdict.revisions import decide_head_over_base

if TYPE_CHECKING:
    from pytest_nnopt.environment import Environment
    from pytest_nnopt.session.crew import Crew

EXAMPLES = Path(__file__).parents[1] / "examples"
RESULT = Path(__file__).parent / "results" / "two_revisions.md"
WAYS = ("process", "pair")
ROUND = ("process", "process", "process", "pair")
"""What each round measures of every model."""

CASES = {
    "policy and value": "test_policy_value.py::test_evaluation",
    "image": "test_image.py::test_inference",
    "decoder": "test_decoder.py::test_inference",
}
LIMIT, POWER, BUDGET_SECONDS, DRAWS = 0.01, 0.95, 30.0, 2000
BASELINE_PROCESSES = 10
AT_ONCE = 2
"""Processes that a run starts together."""


@dataclass(frozen=True)
class Measured:
    """What was measured of one case in one way.

    Attributes:
        case: name of the model.
        way: ``process``: both revisions in one process; ``pair``: a process of each.
        records: the process of both, or the head's and the base's.
        seconds: wall time for it, the start of its processes included.
    """

    case: str
    way: str
    records: tuple[ProcessRecord, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**vars(self), "records": [record.model_dump(mode="json") for record in self.records]}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Measured:
        """Read what ``to_json`` returned."""
        records = tuple(ProcessRecord.model_validate(record) for record in fields["records"])
        return cls(**{**fields, "records": records})


def make_repository(top: Path) -> Path:
    """Make a git repository of two identical revisions and return its top directory."""
    shutil.copytree(EXAMPLES, top, ignore=shutil.ignore_patterns("__pycache__", "ci"))
    (top / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    (top / ".gitignore").write_text("__pycache__/\n")
    git = ("git", "-C", str(top), "-c", "user.name=a", "-c", "user.email=a@b")
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-qm", "base"],
        ["commit", "-qm", "head", "--allow-empty"],
    ):
        subprocess.run([*git, *command], check=True)
    return top


class Repository:
    """The two revisions, and how processes of them are started.

    Args:
        stack: keeps what they need until it is closed.
    """

    def __init__(self, stack: ExitStack) -> None:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nnopt-")))
        repository = find_repository(make_repository(home / "head"))
        trees = stack.enter_context(worktree(repository, repository.resolve("HEAD~1")))
        self._base = Base(trees, "HEAD~1", trees.head)
        self._launch = Launch(("-q", "-p", "no:cacheprovider", f"--rootdir={trees.head}"), trees.head)
        self._home = home

    def measure(self, way: str, case: str, environment: Environment) -> list[Measured]:
        """Measure one case in one way, in as many processes as a run starts together."""
        base, launch = self._base, self._launch
        launches = [base.launch_beside(launch)] if way == "process" else [launch, base.launch_alone(launch)]
        began = time.perf_counter()
        with ExitStack() as stack:
            crews = [stack.enter_context(self._crew(one, case, environment)) for one in launches]
            taken = [self._sample(crews, AT_ONCE - number) for number in range(AT_ONCE)]
        seconds = (time.perf_counter() - began) / AT_ONCE
        return [Measured(case, way, records, seconds) for records in taken]

    def _crew(self, launch: Launch, case: str, environment: Environment) -> AbstractContextManager[Crew]:
        cache_dir = self._home / "cache" / case.replace(" ", "-")
        cache_dir.mkdir(parents=True, exist_ok=True)
        return hired_crew(launch, CASES[case], CASES[case], environment, lambda: cache_dir)

    def _sample(self, crews: Sequence[Crew], expected: int) -> tuple[ProcessRecord, ...]:
        seed = random.randrange(2**31)
        if len(crews) == 1:
            return (crews[0].sample(seed, expected=expected),)
        order = random.sample((0, 1), 2)
        with crews[order[0]].one() as first, crews[order[1]].one() as second, exclusive("cpu"):
            taken = dict(zip(order, measure_in_turns((first, second), seed), strict=True))
        return taken[0], taken[1]


def collect(minutes: float) -> list[Measured]:
    """Measure in rounds for about so many minutes, after what fills the caches."""
    found: list[Measured] = []
    with ExitStack() as stack, thread_count(None):
        probe_instruction_sets()
        environment = current_environment(torch.device("cpu"))
        repository = Repository(stack)
        for case in CASES:
            repository.measure("pair", case, environment)
        end = time.monotonic() + 60 * minutes
        for way, case in _in_rounds([(way, case) for way in ROUND for case in CASES]):
            if time.monotonic() >= end:
                break
            found += repository.measure(way, case, environment)
            print(f"{case}, {way}: {found[-1].seconds:.1f} s each", file=sys.stderr)
    return found


def _in_rounds(kinds: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield every kind once, in random order, again and again."""
    while True:
        yield from random.sample(kinds, len(kinds))


Sides = tuple[ProcessEstimate, ...]
"""What one measurement says: head over base, or candidate over eager of the head and, in a pair, of the base."""


def head_over_base(measured: Measured) -> Sides:
    """Return the log-ratio of both candidates that one process measured."""
    base = measured.records[0].base
    assert base is not None
    return (estimate_of_ratio(base.candidate),)


def candidates_over_eager(measured: Measured) -> Sides:
    """Return the log-ratio of candidate to eager of every process."""
    return tuple(map(estimate_of, measured.records))


def decide_in_one(drawn: Sequence[Sides], _: Sequence[Sides]) -> Decision:
    """Decide as a run does whose processes have measured both revisions."""
    return decide_head_over_base([sides[0] for sides in drawn], limit=LIMIT, is_on_gpu=False)


def decide_in_two(drawn: Sequence[Sides], _: Sequence[Sides]) -> Decision:
    """Decide as a run does whose revisions have processes of their own."""
    return _decide_apart([sides[0] for sides in drawn], [sides[1] for sides in drawn])


def decide_stored(drawn: Sequence[Sides], others: Sequence[Sides]) -> Decision:
    """Decide as a run does that compares with a baseline, recorded from other processes."""
    return _decide_apart([sides[0] for sides in drawn], [sides[0] for sides in others[:BASELINE_PROCESSES]])


def _decide_apart(head: Sequence[ProcessEstimate], base: Sequence[ProcessEstimate]) -> Decision:
    return decide_regression(head, base, limit=LIMIT, prior=DEFAULT_CPU_PRIOR)


@dataclass(frozen=True)
class Mode:
    """One way to compare, as it is judged here.

    Attributes:
        title: what it is called in the table.
        way: the way of measuring that it rests on.
        read: what one measurement says.
        decide: how it decides on some measurements in order, given others.
        share: the part of a measurement's time that it would take.
    """

    title: str
    way: str
    read: Callable[[Measured], Sides]
    decide: Callable[[Sequence[Sides], Sequence[Sides]], Decision]
    share: float = 1.0


MODES = (
    Mode("both revisions in one process", "process", head_over_base, decide_in_one),
    Mode("a process of each, in turn", "pair", candidates_over_eager, decide_in_two),
    Mode(
        f"a stored baseline of {BASELINE_PROCESSES} processes",
        "process",
        candidates_over_eager,
        decide_stored,
        share=0.5,
    ),
)


@dataclass(frozen=True)
class Pool:
    """What was measured in one mode.

    Attributes:
        mode: how it is judged.
        by_case: what every measurement says, by model.
        seconds: wall time that one takes.
    """

    mode: Mode
    by_case: Mapping[str, Sequence[Sides]]
    seconds: float

    @property
    def affordable(self) -> int:
        """How many the budget pays for, two at least, as in a run."""
        return max(2, min(DEFAULT_LOOKS[-1], int(BUDGET_SECONDS / self.seconds)))

    @property
    def all_sides(self) -> list[Sides]:
        """The measurements of all models together, ratios to eager less what they are in each model."""
        return [sides for case in self.by_case for sides in self._centred(case)]

    def spread(self, cases: Sequence[str]) -> float:
        """Return the standard deviation in some models: about zero, the truth, where both revisions are measured."""
        figures = [[_difference(sides) for sides in self._centred(case)] for case in cases]
        free = sum(len(some) - (self.mode.decide is decide_stored) for some in figures)
        return math.sqrt(sum(figure**2 for some in figures for figure in some) / free)

    def share_failed(self, factor: float, draws: int) -> float:
        """Return how many of random draws fail within the budget, with the head's times longer by a factor."""
        chooser, known = random.Random(0), self.all_sides
        return sum(self._fails(chooser.sample(known, len(known)), factor) for _ in range(draws)) / draws

    def smallest_found(self) -> float:
        """Return the smallest slowdown that 95 % of random draws find."""
        effect = 0.005
        while self.share_failed(1 + effect, draws=400) < POWER:
            effect *= 1.05
        return effect

    def _centred(self, case: str) -> list[Sides]:
        sides = self.by_case[case]
        if self.mode.decide is decide_in_one:
            return list(sides)
        centre = statistics.fmean(side.log_ratio for some in sides for side in some)
        return [tuple(_moved(side, -centre) for side in some) for some in sides]

    def _fails(self, shuffled: Sequence[Sides], factor: float) -> bool:
        slowed = [(_moved(sides[0], math.log(factor)), *sides[1:]) for sides in shuffled]
        decision = None
        for look in [look for look in DEFAULT_LOOKS if look < self.affordable] + [self.affordable]:
            decision = self.mode.decide(slowed[:look], shuffled[look:])
            if decision.outcome is not Outcome.INCONCLUSIVE:
                break
        return decision is not None and decision.outcome is Outcome.FAILED


def _moved(estimate: ProcessEstimate, by: float) -> ProcessEstimate:
    return ProcessEstimate(estimate.log_ratio + by, estimate.variance, estimate.blocks)


def _difference(sides: Sides) -> float:
    return sides[0].log_ratio - (sides[1].log_ratio if len(sides) > 1 else 0.0)


def pool_of(mode: Mode, measured: Sequence[Measured]) -> Pool:
    """Gather what was measured in one mode; models measured once tell nothing of their spread."""
    mine = [m for m in measured if m.way == mode.way]
    by_case = {case: [mode.read(m) for m in mine if m.case == case] for case in CASES}
    seconds = statistics.median(m.seconds for m in mine) * mode.share
    return Pool(mode, {case: some for case, some in by_case.items() if len(some) > 1}, seconds)


def format_page(measured: Sequence[Measured], minutes: float) -> str:
    """Return the page in Markdown."""
    pools = [pool_of(mode, measured) for mode in MODES if any(m.way == mode.way for m in measured)]
    counts = {way: sum(m.way == way for m in measured) for way in WAYS}
    lines = [
        "# Two identical revisions",
        "",
        f"Made by `python -m benchmarks.two_revisions --minutes {minutes:g} --traces FILE`, run until there were "
        f"{counts['process']}",
        f"processes of both revisions and {counts['pair']} pairs of processes, on {date.today()}: "
        f"Python {platform.python_version()},",
        f"torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores.",
        "",
        "## Standard deviation from process to process",
        "",
        "Of the ratio of both candidates in one process; of candidate over eager, head's less base's, in a process of",
        "each; and, for a stored baseline, of candidate over eager in the head's process.",
        "",
        f"| | {' | '.join(CASES)} | all |",
        "|---|" + "---|" * (len(CASES) + 1),
    ]
    for pool in pools:
        cells = [format_percent(pool.spread([case])) if case in pool.by_case else "-" for case in CASES]
        lines.append(f"| {pool.mode.title} | {' | '.join(cells)} | {format_percent(pool.spread(list(pool.by_case)))} |")
    lines += [
        "",
        f"## What {BUDGET_SECONDS:.0f} s find",
        "",
        f"For a limit of {format_percent(LIMIT)}, with as many processes, or pairs, as {BUDGET_SECONDS:.0f} s pay for, "
        f"drawn {DRAWS} times from all",
        "that was measured. A process of the stored mode is taken to need half of the time of one that holds both.",
        "",
        "| | seconds each | in the budget | false alarms | smallest slowdown found in 95 % of draws |",
        "|---|---|---|---|---|",
    ]
    for pool in pools:
        if len(pool.all_sides) <= pool.affordable + 1:
            lines.append(f"| {pool.mode.title} | {pool.seconds:.1f} | {pool.affordable} | too few measured | - |")
            continue
        lines.append(
            f"| {pool.mode.title} | {pool.seconds:.1f} | {pool.affordable} | "
            f"{format_percent(pool.share_failed(1.0, DRAWS))} | {format_percent(pool.smallest_found())} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="how long to measure")
    parser.add_argument("--traces", type=Path, help="JSON file of what was measured; added to where it exists")
    arguments = parser.parse_args()
    traces = arguments.traces
    known = json.loads(traces.read_text(encoding="utf-8")) if traces is not None and traces.exists() else []
    measured = [Measured.of(fields) for fields in known] + (collect(arguments.minutes) if arguments.minutes else [])
    if traces is not None:
        traces.write_text(json.dumps([m.to_json() for m in measured]), encoding="utf-8")
    page = format_page(measured, arguments.minutes)
    print(page)
    RESULT.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
