"""The words of the domain as frozen values: variants, blocks, samples, compile facts, checks and verdicts.

Nothing here measures, compares or prints. Values that can be derived are properties, so two parts of the
program can never disagree about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Outcome(str, Enum):
    """The answer to one question about a case. "Could not tell" is an answer; a missing answer is not a pass."""

    PASSED = "passed"
    IMPROVED = "improved"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NO_BASELINE = "no_baseline"
    SKIPPED = "skipped"

    @property
    def is_failure(self) -> bool:
        """Whether this outcome fails the test."""
        return self in (Outcome.FAILED, Outcome.NO_BASELINE)

    @property
    def severity(self) -> int:
        """Rank from harmless to worst; a verdict is its checks' worst outcome."""
        return _SEVERITY.index(self)


_SEVERITY = (
    Outcome.SKIPPED,
    Outcome.IMPROVED,
    Outcome.PASSED,
    Outcome.INCONCLUSIVE,
    Outcome.NO_BASELINE,
    Outcome.FAILED,
)


class CheckName(str, Enum):
    """The questions a case can be asked, as users type them after ``--nnopt-only``."""

    NUMERICS = "numerics"
    SPEEDUP = "speedup"
    LATENCY = "latency"
    DEVICE_TIME = "device_time"
    MEMORY = "memory"
    COMPILE = "compile"
    COMPILE_TIME = "compile_time"


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval in the unit of the value it belongs to."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Certainty:
    """What a decision over processes rested on, and so what its answer is worth.

    Standard deviations are of logarithms of times' ratios, close to relative changes where they are small.

    Attributes:
        processes: how many processes were measured.
        baseline_processes: how many the baseline holds, None where there is none.
        process_sd: standard deviation of one process's figure as used: measured, moderated by what other cases show.
        between_sd: the part of it that measuring longer in one process does not remove.
        within_sd: standard error of one process's figure from its own blocks.
        baseline_sd: standard deviation between the baseline's processes, None below two.
        minimum_detectable_effect: the smallest relative change that this evidence finds in 95 % of runs.
        p_value: probability of such evidence without a slowdown, corrected for the number of looks.
        alarm_level: one-sided level of the bound that a failure needs.
        pass_level: one-sided level of the bound that a pass needs.
        baseline_strays: how many of the baseline's processes were slow for reasons of their own.
    """

    processes: int
    baseline_processes: int | None
    process_sd: float
    between_sd: float
    within_sd: float
    baseline_sd: float | None
    minimum_detectable_effect: float
    p_value: float
    alarm_level: float
    pass_level: float
    baseline_strays: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a case with its answer.

    Attributes:
        name: the question.
        outcome: the answer.
        reason: one sentence for people: what was measured, what was expected, the limit.
        value: the measured figure, in the check's own unit (see ``docs/reference.md``); None where there is none.
        baseline: the same figure in the baseline.
        limit: what the value was held against.
        interval: how sure the value is.
        details: further lines for people: the drifted leaf, the line that broke the graph.
        remedy: what to do about a failure, where this check knows better than what holds for any of its name.
        certainty: what the answer rests on, where it was decided over processes.
    """

    name: CheckName
    outcome: Outcome
    reason: str
    value: float | None = None
    baseline: float | None = None
    limit: float | None = None
    interval: Interval | None = None
    details: tuple[str, ...] = ()
    remedy: str | None = None
    certainty: Certainty | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answers to all questions about one case."""

    case_id: str
    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst of the checks' outcomes; a verdict without checks is skipped, never passed."""
        return max((check.outcome for check in self.checks), key=lambda o: o.severity, default=Outcome.SKIPPED)

    def __getitem__(self, name: CheckName) -> Check:
        """Return the check of that name.

        Raises:
            KeyError: the case was not asked this question.
        """
        for check in self.checks:
            if check.name is name:
                return check
        raise KeyError(name.value)


class Variant(str, Enum):
    """What a block times.

    Both sides of the pair, a fixed workload that shows the machine's speed of the moment, and both sides of the base's
    pair where two revisions are compared.
    """

    REFERENCE = "reference"
    CANDIDATE = "candidate"
    YARDSTICK = "yardstick"
    BASE_REFERENCE = "base_reference"
    BASE_CANDIDATE = "base_candidate"


@dataclass(frozen=True, slots=True)
class Block:
    """Every variant timed once in mirrored order: the shortest unit of measurement, in seconds per call."""

    seconds_per_call: Mapping[Variant, float]


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What one process measured of a case.

    Attributes:
        blocks: the kept blocks in the order they were measured.
        calls_per_block: how many calls of each variant one timing of a block averages over.
        warmup_seconds: time spent before the first kept block.
        is_steady: whether warm-up ended because times settled, rather than at its cap.
        dropped_blocks: blocks thrown away because the machine was disturbed while they ran.
        disturbances: disturbed blocks by reason: those thrown away, and those kept once enough had been.
    """

    blocks: tuple[Block, ...]
    calls_per_block: Mapping[Variant, int]
    warmup_seconds: float
    is_steady: bool
    dropped_blocks: int = 0
    disturbances: Mapping[str, int] = field(default_factory=dict)

    def seconds(self, variant: Variant) -> tuple[float, ...]:
        """Return the seconds per call of ``variant``, one figure a block."""
        return tuple(block.seconds_per_call[variant] for block in self.blocks)


class CompileStatus(str, Enum):
    """How building the candidate ended."""

    COMPILED = "compiled"
    FELL_BACK = "fell_back"
    NOTHING_COMPILED = "nothing_compiled"
    FAILED = "failed"
    OWN_CANDIDATE = "own_candidate"


@dataclass(frozen=True, slots=True)
class GraphBreak:
    """One place where the compiler gave up: it returned to Python, or did not record a CUDA graph.

    Attributes:
        reason: the compiler's words, first line.
        file: source file of the user's line, None where the version cannot tell.
        line: its line number, counted from 1.
        code: the source text of that line, stripped.
        notes: what the compiler explains and advises, a sentence each; told to people, never kept or compared.
    """

    reason: str
    file: str | None = None
    line: int | None = None
    code: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recompile:
    """One further compilation of a frame that had been compiled before.

    Attributes:
        function: name of the recompiled function.
        reason: the guard that failed, None where the version cannot tell.
        file: source file of the line that made the guard, or of the function where that is not known.
        line: number of that line, or of the function's first.
        code: the source text of the line that made the guard, None where it is not known.
        notes: what the compiler advises; told to people, never kept or compared.
    """

    function: str
    reason: str | None = None
    file: str | None = None
    line: int | None = None
    code: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CompileAttempt:
    """One step of a fallback chain: what was tried and why it did not serve (None: it did)."""

    description: str
    error: str | None = None


CODE_COUNTERS = ("generated_kernels", "external_kernels", "bytes_accessed")
"""Judged figures of generated code, in the order in which they are told."""

TIMED_CHOICES = "timed_choices"
"""The counter of choices that the compiler made by timing: where there is any, chance has a say in the code."""


@dataclass(frozen=True, slots=True)
class CompileFacts:
    """What is known about how the candidate was compiled. None means unknown, never zero.

    Attributes:
        status: how building the candidate ended.
        attempts: every step tried, in order; the last one is in use unless ``status`` is failed.
        graphs: graphs compiled.
        graph_breaks: where and why the graph was broken.
        recompiles: which frames were compiled again and why.
        eager_frames: frames that were run eagerly because they could not be compiled.
        eager_reasons: where and why frames were run eagerly; one entry a frame that the compiler can explain.
        cudagraph_skips: where and why graphs were not recorded as CUDA graphs; one entry a skip that gave its reason.
        graph_ops: how often each operation occurs in the captured graphs.
        kernels: how often each generated kernel occurs, by name and hash of its source.
        external_kernels: how often generated code calls each library kernel.
        counters: further exact figures by name, such as generated kernels or guards.
        explanation: why nothing was compiled, or what to do about a failure; None where nothing needs explaining.
    """

    status: CompileStatus
    attempts: tuple[CompileAttempt, ...] = ()
    graphs: int | None = None
    graph_breaks: tuple[GraphBreak, ...] | None = None
    recompiles: tuple[Recompile, ...] | None = None
    eager_frames: int | None = None
    eager_reasons: tuple[GraphBreak, ...] = ()
    cudagraph_skips: tuple[GraphBreak, ...] = ()
    graph_ops: Mapping[str, int] | None = None
    kernels: Mapping[str, int] | None = None
    external_kernels: Mapping[str, int] | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    explanation: str | None = None

    @property
    def used(self) -> str | None:
        """Description of the step in use, None where every step failed."""
        return self.attempts[-1].description if self.attempts and self.attempts[-1].error is None else None

    @property
    def code(self) -> Mapping[str, int]:
        """The judged figures of generated code, and how much of it was chosen by timing."""
        return {name: self.counters[name] for name in (*CODE_COUNTERS, TIMED_CHOICES) if name in self.counters}


@dataclass(frozen=True, slots=True)
class CompileTime:
    """What compiling the candidate costs. None means that the compiler's cache was not in the state the figure needs.

    Attributes:
        cold_seconds: wall time of the first call with an empty cache.
        warm_seconds: the same with a cache that serves every graph, as the next process would find it.
        work_calls: function calls that the compiler makes when nothing is cached, as ``torch_backend.calls`` counts.
        work_conditions: what that count depends on besides the environment: versions by name.
    """

    cold_seconds: float | None = None
    warm_seconds: float | None = None
    work_calls: int | None = None
    work_conditions: str | None = None
