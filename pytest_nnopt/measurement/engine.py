"""The measuring engine: calibration, warm-up and randomised mirrored blocks of one case, steppable block by block.

A block times every variant twice, in a freshly shuffled order and then in its reverse (A B C C B A), and averages
each variant's two timings. Whatever drifts linearly over the block then moves all variants alike and leaves
their ratios alone (duet measurement: Bulej et al. 2020), and no variant owes its figure to the place behind the same
neighbour. A variant may have several callables, copies of one model that lie elsewhere in memory. A block draws one of
them, so that no single layout decides the figure (Curtsinger & Berger 2013).
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from pytest_nnopt.errors import MeasurementError
from pytest_nnopt.measurement.clock import Clock, MachineWatch, Unwatched
from pytest_nnopt.model import Block, ProcessSample, Variant
from pytest_nnopt.statistics.estimate import estimate_log_ratio

Call = Callable[[], object]

FIRST_CALLS = 3
"""Calls of every copy before anything is timed: CUDA graphs warm up in the first, record in the second and replay from
the third on."""

WARMUP_WINDOW = 5
"""Rounds whose median is compared with that of as many rounds before them."""

WARMUP_TOLERANCE = 0.03
"""A variant that got faster by more than this fraction from one window to the next is still warming up."""

_BLOCKS_BETWEEN_LOOKS = 4
"""At how well the blocks know the ratio, from ``Plan.min_blocks`` on."""

MAX_CALLS = 1_000_000
"""Most calls in one timing, whatever the clock says."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much one process measures of one case.

    Attributes:
        block_seconds: time one block gives to one variant; its two timings take half of it each.
        min_blocks: blocks measured even where ``max_seconds`` runs out first: fewer cannot state their own error.
        max_blocks: blocks after which the sample is complete.
        max_seconds: time for this case in this process, warm-up included. The very first call of each copy does not
            count: it may compile.
        warmup_max_seconds: time after which measuring starts although the times have not settled.
        max_dropped_blocks: disturbed blocks that are thrown away. Later ones are kept, and those after ``max_seconds``:
            a disturbance that does not end is the machine's state, and a sample that keeps some says so.
        warm_call_seconds: a call that takes less is made once, untimed, before each timing of it. Else the first call
            of a timing would meet what the other variants left in the caches, and an idle GPU, and what that makes of
            a figure would hang on the number of calls, which chance decides. Of a call up to twice as long some
            timings have one, the fewer the longer it takes, so that no border makes processes of two kinds.
            0 has none made.
        enough_error: standard error of the candidate's log-ratios to the other variants, as the blocks know it, at
            which the sample is complete before ``max_blocks``: more would be wasted on what is asked.
            It must hold at two looks in a row, since the smallest of several errors is too small. 0 is never.
        enough_seconds: time that blocks take before they may be enough, however well they know the ratio of a moment.
        seed: starts the generator of orders and copies where the caller injects none.

    Raises:
        MeasurementError: the figures contradict each other.
    """

    block_seconds: float = 0.003
    min_blocks: int = 10
    max_blocks: int = 40
    max_seconds: float = 5.0
    warmup_max_seconds: float = 2.0
    max_dropped_blocks: int = 20
    warm_call_seconds: float = 0.01
    enough_error: float = 0.0
    enough_seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_blocks <= self.max_blocks:
            raise MeasurementError(
                f"a plan of {self.min_blocks} to {self.max_blocks} blocks is impossible; "
                "min_blocks must be at least 1 and at most max_blocks"
            )
        if self.block_seconds <= 0:
            raise MeasurementError(f"block_seconds is {self.block_seconds}; it must be above 0")


class CaseTimer:
    """Times one case block by block, so that a caller can interleave the blocks of several cases.

    Call ``run_block`` until it returns False, then ``sample``. The first block warms the case up before it.

    Args:
        calls: for each variant the callables to time, one or several copies that do the same work.
        clock: times the calls.
        plan: how much to measure.
        machine: reports blocks during which the machine was disturbed.
        random: draws orders and copies.

    Raises:
        MeasurementError: there is no variant, or one without a callable.
    """

    def __init__(
        self,
        calls: Mapping[Variant, Sequence[Call]],
        clock: Clock,
        plan: Plan,
        *,
        machine: MachineWatch | None = None,
        random: Random | None = None,
    ) -> None:
        missing = [variant.value for variant, copies in calls.items() if not copies]
        if missing or not calls:
            names = ", ".join(missing) or "any variant"
            raise MeasurementError(f"nothing to time for {names}; pass a callable for each variant")
        self._calls = {variant: tuple(copies) for variant, copies in calls.items()}
        self._clock = clock
        self._plan = plan
        self._machine = machine or Unwatched()
        self._random = random or Random(plan.seed)
        self._warmup: _Warmup | None = None
        self._blocks: list[Block] = []
        self._spent_seconds = 0.0
        self.dropped_blocks = 0
        """Disturbed blocks that were thrown away."""
        self.disturbances: Counter[str] = Counter()
        """Disturbed blocks by reason: the dropped ones and, behind the cap, the kept ones."""

    @property
    def is_disturbed(self) -> bool:
        """Whether disturbances outlasted the cap or the time, so that kept blocks are disturbed too."""
        return self.disturbances.total() > self.dropped_blocks

    @property
    def is_complete(self) -> bool:
        """Whether the plan is fulfilled, enough is known, or its time is spent on at least ``min_blocks`` blocks."""
        if len(self._blocks) >= self._plan.max_blocks or self._knows_enough:
            return True
        return len(self._blocks) >= self._plan.min_blocks and self._spent_seconds >= self._plan.max_seconds

    @property
    def _knows_enough(self) -> bool:
        count, beyond = len(self._blocks), len(self._blocks) - self._plan.min_blocks
        if not self._plan.enough_error or beyond <= 0 or beyond % _BLOCKS_BETWEEN_LOOKS:
            return False
        if self._warmup is None or self._spent_seconds - self._warmup.seconds < self._plan.enough_seconds:
            return False
        return all(
            self._error_of(looked_at) <= self._plan.enough_error for looked_at in (count - _BLOCKS_BETWEEN_LOOKS, count)
        )

    def _error_of(self, count: int) -> float:
        """Return the largest standard error of the candidate's log-ratios after so many blocks."""
        blocks = self._blocks[:count]
        candidate = [block.seconds_per_call[Variant.CANDIDATE] for block in blocks]
        others = [variant for variant in self._calls if variant is not Variant.CANDIDATE]
        return max(
            math.sqrt(estimate_log_ratio(candidate, [block.seconds_per_call[other] for block in blocks]).variance)
            for other in others
        )

    def warm_up(self) -> None:
        """Calibrate and run until the times are steady; does nothing when called again."""
        if self._warmup is None:
            self._warmup = _warm_up(self._calls, self._clock, self._plan, self._random)
            self._spent_seconds += self._warmup.seconds

    def run_block(self) -> bool:
        """Measure one block, warming up before the first, and return whether more are wanted."""
        if self.is_complete:
            return False
        self.warm_up()
        self._machine.before()
        start = self._clock.now()
        block = self._time_block()
        reason = self._machine.after()
        self._spent_seconds += self._clock.now() - start
        if reason is not None:
            self.disturbances[reason] += 1
        if reason is None or not self._may_drop:
            self._blocks.append(block)
        else:
            self.dropped_blocks += 1
        return not self.is_complete

    @property
    def _may_drop(self) -> bool:
        is_in_time = self._spent_seconds < self._plan.max_seconds
        return is_in_time and self.dropped_blocks < self._plan.max_dropped_blocks

    def sample(self) -> ProcessSample:
        """Return what was measured so far.

        Raises:
            MeasurementError: no block was kept yet.
        """
        if self._warmup is None or not self._blocks:
            raise MeasurementError("no block was measured yet; call run_block before sample")
        return ProcessSample(
            blocks=tuple(self._blocks),
            calls_per_block={variant: 2 * count for variant, count in self._warmup.pace.counts.items()},
            warmup_seconds=self._warmup.seconds,
            is_steady=self._warmup.is_steady,
            dropped_blocks=self.dropped_blocks,
            disturbances=dict(self.disturbances),
        )

    def _time_block(self) -> Block:
        assert self._warmup is not None
        pace = self._warmup.pace
        order = self._random.sample(list(self._calls), len(self._calls))
        drawn = {variant: self._random.choice(copies) for variant, copies in self._calls.items()}
        luck = self._random.random()
        seconds = dict.fromkeys(order, 0.0)
        for half, chance in ((order, luck), (order[::-1], 1 - luck)):
            for variant in half:
                seconds[variant] += pace.time(variant, drawn[variant], self._clock, chance)
        return Block({variant: seconds[variant] / 2 for variant in self._calls})


def measure_case(
    calls: Mapping[Variant, Sequence[Call]],
    clock: Clock,
    plan: Plan,
    *,
    machine: MachineWatch | None = None,
    random: Random | None = None,
) -> ProcessSample:
    """Measure one case in one go; arguments and errors as of ``CaseTimer``."""
    timer = CaseTimer(calls, clock, plan, machine=machine, random=random)
    return measure_cases([timer])[0]


def measure_cases(timers: Iterable[CaseTimer]) -> tuple[ProcessSample, ...]:
    """Measure several cases, one block of each in turn, until all are complete.

    Spread over the whole time, a case sees more of the machine's states than in one go, which makes its figure vary
    less between processes.
    """
    timers = tuple(timers)
    with paused_collector():
        pending = timers
        while pending:
            pending = tuple(timer for timer in pending if timer.run_block())
    return tuple(timer.sample() for timer in timers)


@contextlib.contextmanager
def paused_collector() -> Iterator[None]:
    """Collect garbage once, then keep the collector off and what is alive out of its sight.

    The state found is restored. Objects that the caller had frozen stay frozen, and then nothing is added to them,
    since the interpreter can only unfreeze all at once.
    """
    was_enabled = gc.isenabled()
    freezes = gc.get_freeze_count() == 0
    gc.collect()
    gc.disable()
    if freezes:
        gc.freeze()
    try:
        yield
    finally:
        if freezes:
            gc.unfreeze()
        if was_enabled:
            gc.enable()


@dataclass(frozen=True, slots=True)
class _Pace:
    """How one timing goes.

    Attributes:
        counts: how many calls of each variant it times.
        warm_shares: of the timings of each variant, how many have an untimed call before, as a fraction.
    """

    counts: Mapping[Variant, int]
    warm_shares: Mapping[Variant, float]

    @classmethod
    def of(cls, seconds_per_call: Mapping[Variant, float], plan: Plan) -> _Pace:
        """Return the pace at which a timing takes half of a block."""
        counts = {variant: _calls_within(plan.block_seconds / 2, one) for variant, one in seconds_per_call.items()}
        return cls(counts, {v: _warm_share(one, plan.warm_call_seconds) for v, one in seconds_per_call.items()})

    def time(self, variant: Variant, call: Call, clock: Clock, chance: float) -> float:
        """Return the seconds that a call takes on average.

        Args:
            variant: whose pace counts.
            call: what is timed.
            clock: times it.
            chance: from 0 to 1; an untimed call comes before where it is below the variant's share.
        """
        warm_calls = int(chance < self.warm_shares[variant])
        return clock.time_calls(call, self.counts[variant], warm_calls=warm_calls) / self.counts[variant]


@dataclass(frozen=True, slots=True)
class _Warmup:
    """How warm-up ended: its seconds behind the first calls, and the pace of each timing now on."""

    pace: _Pace
    seconds: float
    is_steady: bool


def _warm_up(calls: Mapping[Variant, Sequence[Call]], clock: Clock, plan: Plan, random: Random) -> _Warmup:
    """Run every copy, calibrate, and time rounds until no variant gets faster any more.

    Steady means: for every variant, the median of the last ``WARMUP_WINDOW`` rounds is not more than
    ``WARMUP_TOLERANCE`` below the median of as many rounds before them. The rule looks for speed-ups alone because
    caches, lazy initialisation and rising clocks make code faster; what gets slower is drift, which the blocks'
    mirrored order answers. The last window also gives the calls per timing.
    """
    _call_each_copy(calls, clock)
    start = clock.now()
    for _ in range(FIRST_CALLS - 1):
        if clock.now() - start < plan.warmup_max_seconds:
            _call_each_copy(calls, clock)
    target_seconds = plan.block_seconds / 2
    pace = _Pace.of({variant: _calibrate(copies[0], clock, target_seconds) for variant, copies in calls.items()}, plan)
    rounds: list[Mapping[Variant, float]] = []
    is_steady = False
    while not is_steady and clock.now() - start < plan.warmup_max_seconds:
        rounds.append({v: pace.time(v, random.choice(copies), clock, chance=0) for v, copies in calls.items()})
        is_steady = _is_steady(rounds)
    recent = rounds[-WARMUP_WINDOW:]
    if recent:
        pace = _Pace.of({v: statistics.median(r[v] for r in recent) for v in calls}, plan)
    return _Warmup(pace, seconds=clock.now() - start, is_steady=is_steady)


def _call_each_copy(calls: Mapping[Variant, Sequence[Call]], clock: Clock) -> None:
    for copies in calls.values():
        for call in copies:
            clock.time_calls(call, 1)


def _calibrate(call: Call, clock: Clock, target_seconds: float) -> float:
    """Return about how long a call takes: of as many, doubled each time, as take half of ``target_seconds``."""
    count = 1
    while (seconds := clock.time_calls(call, count, warm_calls=1)) < target_seconds / 2 and count < MAX_CALLS:
        count *= 2
    return seconds / count


def _warm_share(seconds_per_call: float, border_seconds: float) -> float:
    """Return how many timings have an untimed call before: all below the border, none from twice as long on."""
    return min(max(2 - seconds_per_call / border_seconds, 0.0), 1.0) if border_seconds else 0.0


def _calls_within(target_seconds: float, seconds_per_call: float) -> int:
    if seconds_per_call <= target_seconds / MAX_CALLS:
        return MAX_CALLS
    return max(1, round(target_seconds / seconds_per_call))


def _is_steady(rounds: Sequence[Mapping[Variant, float]]) -> bool:
    if len(rounds) < 2 * WARMUP_WINDOW:
        return False
    earlier, recent = rounds[-2 * WARMUP_WINDOW : -WARMUP_WINDOW], rounds[-WARMUP_WINDOW:]
    return all(
        statistics.median(r[variant] for r in recent)
        >= (1 - WARMUP_TOLERANCE) * statistics.median(r[variant] for r in earlier)
        for variant in rounds[0]
    )
