"""How often gates fail unchanged models, and which real slowdowns they find: this one beside the usual rules.

Run ``python -m benchmarks.gate_quality`` on the machine in question; it writes ``benchmarks/results/gate_quality.md``,
a plot beside it, and ``gate_quality_traces.json`` with what each process measured. ``--evaluate`` makes the page anew
from such a file.

Processes measure three models, unchanged or with extra work inside the compiled one, in random order. In each
process every model is first timed alone for a second, as the other tools do, then by the gate's engine. Rules that
compare two processes judge pairs of them; the gate judges up to eight against a baseline of ten. All judge the same
processes, drawn anew for every comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from benchmarks.rules import RULES
from benchmarks.slow_models import MODELS, Slower
from pytest_nnopt.baseline.schema import ProcessRecord
from pytest_nnopt.measurement.allocator import keep_freed_memory
from pytest_nnopt.measurement.engine import Plan
from pytest_nnopt.model import Outcome
from pytest_nnopt.session.records import record_process
from pytest_nnopt.statistics.decision import Decision, decide_regression
from pytest_nnopt.statistics.estimate import ProcessEstimate
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR, DEFAULT_YARDSTICK_PRIOR
from pytest_nnopt.statistics.sequential import DEFAULT_LOOKS, SequentialPlan
from pytest_nnopt.torch_backend.compiling import CompileStep, compile_copy
from pytest_nnopt.torch_backend.isolation import isolated_compilation, probe_instruction_sets
from pytest_nnopt.torch_backend.pair import PairRequest, build_side
from pytest_nnopt.torch_backend.side import ExecutionMode, Side
from pytest_nnopt.torch_backend.threads import thread_count
from pytest_nnopt.torch_backend.timing import time_sides, timed_call
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict import estimate_of
from pytest_nnopt.verdict.absolute import SESSION_SHARE, absolute_estimates

RESULTS = Path(__file__).parent / "results"
SLOWDOWNS = (0.02, 0.05, 0.10, 0.20)
LIMIT, DEFAULT_LIMIT = 0.05, 0.10
BASELINE_PROCESSES = 10
DRAWS = 1000
ALONE_SECONDS, ALONE_ROUNDS = 1.0, 500
POWER = 0.95
"""Detection that counts as found."""

Elements = dict[str, dict[str, int]]
"""By model and slowdown: the extra elements that cause it."""


@dataclass(frozen=True)
class Measured:
    """What one process measured of one model.

    Attributes:
        model: name of the model.
        slowdown: what the extra work was calibrated to cost; 0 for none.
        is_stressed: whether a busy neighbour ran beside it.
        record: what the gate's engine measured.
        alone: seconds per call of the compiled model, timed by itself, round by round.
        seconds: wall time that the gate's sample took.
        start_seconds: wall time from the process's start until the first model could be measured.
    """

    model: str
    slowdown: float
    is_stressed: bool
    record: ProcessRecord
    alone: tuple[float, ...]
    seconds: float
    start_seconds: float

    def to_json(self, *, with_rounds: bool) -> dict[str, Any]:
        """Return it as JSON takes it; without the rounds it is small enough to be kept."""
        kept = {**vars(self), "record": self.record.model_dump(mode="json")}
        return kept if with_rounds else {**kept, "alone": ()}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Measured:
        """Read what ``to_json`` returned."""
        record = ProcessRecord.model_validate(fields["record"])
        return cls(**{**fields, "record": record, "alone": tuple(fields["alone"])})


def build_pair(model: torch.nn.Module, x: torch.Tensor, elements: int) -> tuple[Side, Side]:
    """Return the eager side without extra work, and the compiled one with it."""
    mode = ExecutionMode.capture(is_training_step=False)
    reference = build_side(PairRequest(model, (x,), {}, mode=mode), device=None)
    slower = Slower(model, elements).eval() if elements else model
    eager = build_side(PairRequest(slower, (x,), {}, mode=mode), device=None)
    return reference, compile_copy(eager, CompileStep())


def time_alone(side: Side) -> tuple[float, ...]:
    """Time calls of one side by itself, round after round, for about ``ALONE_SECONDS``."""
    call = timed_call(side)
    with side.mode.active():
        for _ in range(3):
            call()
        start = time.perf_counter()
        call()
        calls = max(1, round(ALONE_SECONDS / ALONE_ROUNDS / (time.perf_counter() - start)))
        rounds: list[float] = []
        began = time.perf_counter()
        while len(rounds) < 5 or (len(rounds) < ALONE_ROUNDS and time.perf_counter() - began < ALONE_SECONDS):
            start = time.perf_counter()
            for _ in range(calls):
                call()
            rounds.append((time.perf_counter() - start) / calls)
    return tuple(rounds)


def measure_here(slowdown: float, elements: Elements, cache_dir: Path, seed: int) -> Iterator[Measured]:
    """Measure every model in this process."""
    began = time.perf_counter()
    probe_instruction_sets()
    torch.manual_seed(0)
    with thread_count(None), torch.no_grad(), isolated_compilation(cache_dir=cache_dir):
        pairs = {name: build_pair(*make(), elements[name][str(slowdown)]) for name, make in MODELS.items()}
        start_seconds = time.perf_counter() - began
        alone = {name: time_alone(candidate) for name, (_, candidate) in pairs.items()}
        keep_freed_memory()
        for name, (reference, candidate) in pairs.items():
            start = time.perf_counter()
            timed = time_sides([reference], [candidate], torch.device("cpu"), Plan(seed=seed))
            seconds = time.perf_counter() - start
            yield Measured(name, slowdown, False, record_process(timed), alone[name], seconds, start_seconds)


def calibrate(cache_dir: Path) -> Elements:
    """Return how many extra elements cost each model the slowdowns, from the cost of many in a compiled copy."""
    many = 2**18
    found: Elements = {}
    torch.manual_seed(0)
    with thread_count(None), torch.no_grad(), isolated_compilation(cache_dir=cache_dir):
        for name, make in MODELS.items():
            model, x = make()
            plain, slow = (min(time_alone(build_pair(model, x, elements)[1])) for elements in (0, many))
            per_element = (slow - plain) / many
            found[name] = {"0.0": 0, **{str(s): max(1, round(s * plain / per_element)) for s in SLOWDOWNS}}
    return found


def run_child(*arguments: str) -> Any:
    """Run this module in a process of its own and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.gate_quality", "--child", *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


@contextlib.contextmanager
def busy_neighbour(is_wanted: bool) -> Iterator[None]:
    """Keep another core busy with matrix products inside the body."""
    script = "import torch\ntorch.set_num_threads(1)\na = torch.ones(512, 512)\nwhile True: a @ a"
    process = subprocess.Popen([sys.executable, "-c", script]) if is_wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def collect(unchanged: int, changed: int, regimes: Sequence[bool]) -> list[Measured]:
    """Measure as many processes of each kind in each regime, in random order."""
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as cache_dir:
        elements = run_child("calibrate", cache_dir)
        kinds = [0.0] * unchanged + [s for s in SLOWDOWNS for _ in range(changed)]
        for is_stressed in regimes:
            order = random.sample(list(enumerate(kinds)), len(kinds))
            with busy_neighbour(is_stressed):
                for seed, slowdown in track(order, f"measuring, {'stressed' if is_stressed else 'alone'}"):
                    rows = run_child("measure", cache_dir, json.dumps([slowdown, elements, seed]))
                    found += [Measured.of({**row, "is_stressed": is_stressed}) for row in rows]
    return found


@dataclass(frozen=True)
class Answer:
    """What a gate said: whether it failed the case, whether it passed it, and after how many processes."""

    failed: bool
    passed: bool
    processes: int


Gate = Callable[[Sequence[Measured], Sequence[Measured], float], Answer]
"""Judges processes against a baseline's, with all of the former's times made longer by a factor."""


def judge_by_rule(rule: str, now: Sequence[Measured], before: Sequence[Measured], factor: float) -> Answer:
    """Let a rule compare the first process with the first of the baseline."""
    failed = RULES[rule]([factor * seconds for seconds in now[0].alone], before[0].alone)
    return Answer(failed, not failed, 1)


def judge_by_gate(
    decide: Callable[[Sequence[Measured], Sequence[Measured], float], Decision],
    now: Sequence[Measured],
    before: Sequence[Measured],
    factor: float,
) -> Answer:
    """Let the gate look after 1, 2, 4 and 8 processes until it knows."""
    for processes in DEFAULT_LOOKS:
        decision = decide(now[:processes], before[:BASELINE_PROCESSES], factor)
        if decision.outcome is not Outcome.INCONCLUSIVE or processes >= len(now):
            break
    return Answer(decision.outcome is Outcome.FAILED, decision.outcome is not Outcome.INCONCLUSIVE, processes)


def decide_relative(now: Sequence[Measured], before: Sequence[Measured], factor: float, *, limit: float) -> Decision:
    """Decide by the ratio to eager: the model is as it was."""
    candidates, baseline = ([estimate_of(m.record) for m in side] for side in (now, before))
    return decide_regression(
        _slowed(candidates, factor), baseline, limit=limit, prior=DEFAULT_CPU_PRIOR, plan=SequentialPlan()
    )


def decide_alone(now: Sequence[Measured], before: Sequence[Measured], factor: float, *, limit: float) -> Decision:
    """Decide by the ratio to the fixed workload: the model has changed, and eager with it."""
    candidates, baseline = (absolute_estimates([m.record for m in side]) for side in (now, before))
    return decide_regression(
        _slowed(candidates, factor),
        baseline,
        limit=limit,
        prior=DEFAULT_YARDSTICK_PRIOR,
        plan=SequentialPlan(),
        session_share=SESSION_SHARE,
    )


def _slowed(estimates: Sequence[ProcessEstimate], factor: float) -> list[ProcessEstimate]:
    return [ProcessEstimate(e.log_ratio + math.log(factor), e.variance, e.blocks) for e in estimates]


GATES: dict[str, Gate] = {
    "**this gate**, stored baseline": partial(judge_by_gate, partial(decide_relative, limit=LIMIT)),
    "this gate, once the model itself changed": partial(judge_by_gate, partial(decide_alone, limit=LIMIT)),
    **{name: partial(judge_by_rule, name) for name in RULES},
}


@dataclass(frozen=True)
class Pool:
    """All processes that measured one model in one regime, by slowdown."""

    by_slowdown: dict[float, list[Measured]]

    def draw(self, slowdown: float, chooser: random.Random) -> tuple[list[Measured], list[Measured]]:
        """Return up to eight processes to judge and ten to judge them against, none in both."""
        before = chooser.sample(self.by_slowdown[0.0], BASELINE_PROCESSES)
        others = [m for m in self.by_slowdown[slowdown] if not any(m is b for b in before)]
        return chooser.sample(others, min(DEFAULT_LOOKS[-1], len(others))), before

    def answers(self, gate: Gate, slowdown: float, factor: float = 1.0, draws: int = DRAWS) -> list[Answer]:
        """Let a gate judge many draws; the same draws for every gate."""
        chooser = random.Random(f"{slowdown}")
        return [gate(*self.draw(slowdown, chooser), factor) for _ in range(draws)]

    def true_slowdown(self, slowdown: float) -> float:
        """Return what the extra work costs in truth, from all processes."""
        means = [
            statistics.fmean(estimate_of(m.record).log_ratio for m in self.by_slowdown[s]) for s in (0.0, slowdown)
        ]
        return math.expm1(means[1] - means[0])

    def smallest_found(self, gate: Gate) -> float | None:
        """Return the smallest slowdown found in 95 % of draws, in steps of a tenth; None beyond a factor of 5."""
        effect = 0.01
        while effect < 4:
            if share([a.failed for a in self.answers(gate, 0.0, 1 + effect, draws=200)]) >= POWER:
                return effect
            effect *= 1.1
        return None


def share(flags: Sequence[bool]) -> float:
    """Return the share of true ones."""
    return sum(flags) / len(flags)


def pools_of(measured: Sequence[Measured]) -> dict[tuple[bool, str], Pool]:
    """Sort processes by regime and model."""
    found: dict[tuple[bool, str], Pool] = {}
    for m in measured:
        pool = found.setdefault((m.is_stressed, m.model), Pool({}))
        pool.by_slowdown.setdefault(m.slowdown, []).append(m)
    return found


def format_regime(pools: dict[str, Pool], is_stressed: bool) -> Iterator[str]:
    """Yield the part of the page about one regime: false alarms and detection, the mean over the models."""
    counts = {s: len(p) for s, p in next(iter(pools.values())).by_slowdown.items()}
    yield f"## {'With a busy neighbour on the other core' if is_stressed else 'Nothing else running'}"
    yield ""
    yield f"{counts[0.0]} unchanged processes, {counts[SLOWDOWNS[0]]} of each slowdown; {DRAWS} draws for each figure."
    yield ""
    for name, pool in pools.items():
        true = ", ".join(format_percent(pool.true_slowdown(s)) for s in SLOWDOWNS)
        ratios = [estimate_of(m.record).log_ratio for m in pool.by_slowdown[0.0]]
        absolute = [e.log_ratio for e in absolute_estimates([m.record for m in pool.by_slowdown[0.0]])]
        yield (
            f"- {name}: extra work costs in truth {true}; one process varies by "
            f"{format_percent(statistics.stdev(ratios))} (ratio to eager), "
            f"{format_percent(statistics.stdev(absolute))} (to the fixed workload)"
        )
    yield ""
    yield "| gate | no change | 2 % | 5 % | 10 % | 20 % slower | undecided, no change | median processes |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, gate in GATES.items():
        unchanged = [a for pool in pools.values() for a in pool.answers(gate, 0.0)]
        found = [share([a.failed for pool in pools.values() for a in pool.answers(gate, s)]) for s in SLOWDOWNS]
        cells = [share([a.failed for a in unchanged]), *found, share([not a.passed for a in unchanged])]
        processes = statistics.median(a.processes for a in unchanged)
        yield f"| {name} | {' | '.join(f'{100 * cell:.1f} %' for cell in cells)} | {processes:g} |"
    yield ""
    yield "| smallest slowdown found in 95 % | " + " | ".join(pools) + " |"
    yield "|---|" + "---|" * len(pools)
    for name, gate in GATES.items():
        found_effects = [pool.smallest_found(gate) for pool in pools.values()]
        yield (
            f"| {name} | "
            + " | ".join("more than 400 %" if e is None else format_percent(e) for e in found_effects)
            + " |"
        )
    yield ""
    yield from format_default_limit(pools)


def format_default_limit(pools: dict[str, Pool]) -> Iterator[str]:
    """Yield what unchanged models cost under the default limit."""
    gate = partial(judge_by_gate, partial(decide_relative, limit=DEFAULT_LIMIT))
    yield f"Under the default limit of {format_percent(DEFAULT_LIMIT)}, unchanged:"
    yield ""
    yield "| model | passed | failed | median processes | seconds a sample | seconds from start to ready |"
    yield "|---|---|---|---|---|---|"
    for name, pool in pools.items():
        answers = pool.answers(gate, 0.0)
        passed = share([a.passed and not a.failed for a in answers])
        seconds = statistics.median(m.seconds for m in pool.by_slowdown[0.0])
        start = statistics.median(m.start_seconds for m in pool.by_slowdown[0.0])
        processes = statistics.median(a.processes for a in answers)
        yield (
            f"| {name} | {100 * passed:.1f} % | {100 * share([a.failed for a in answers]):.1f} % | {processes:g} | "
            f"{seconds:.1f} | {start:.1f} (three models) |"
        )


def format_page(measured: Sequence[Measured], command: str) -> str:
    """Return the whole page in Markdown."""
    pools = pools_of(measured)
    lines = [
        "# How often gates err",
        "",
        f"Made by `{command}` on {date.today()}: Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} cores.",
        "",
        "Per cent of comparisons that fail, the mean over a small, a medium and a large model. The other tools' rules",
        f"and this gate are held to 5 %; the gate compares up to 8 processes with a baseline of {BASELINE_PROCESSES},",
        "the rules compare one with one. Slowdowns are extra work inside the compiled model. The figures come from the",
        "processes named below, drawn anew for every comparison, so they are as good as those few processes.",
        "",
        "![Share of comparisons that fail, by slowdown](gate_quality.svg)",
        "",
    ]
    for is_stressed in sorted({regime for regime, _ in pools}):
        lines += format_regime({name: p for (regime, name), p in pools.items() if regime == is_stressed}, is_stressed)
        lines.append("")
    return "\n".join(lines)


def plot(measured: Sequence[Measured], path: Path) -> None:
    """Draw the share of comparisons that fail against the slowdown, one line a gate."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "gate_quality"
    pools = [pool for (is_stressed, _), pool in pools_of(measured).items() if not is_stressed]
    slowdowns = (0.0, *SLOWDOWNS)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, gate in GATES.items():
        failed = [share([a.failed for pool in pools for a in pool.answers(gate, s)]) for s in slowdowns]
        is_ours = name.startswith("**")
        axes.plot(
            [100 * s for s in slowdowns],
            [100 * f for f in failed],
            marker="o",
            linewidth=3 if is_ours else 1.2,
            label=name.replace("*", "").replace("`", ""),
        )
    axes.axvline(100 * LIMIT, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="slowdown in %", ylabel="comparisons that fail, in %", ylim=(-2, 102))
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure or read, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unchanged", type=int, default=40, help="unchanged processes in each regime")
    parser.add_argument("--changed", type=int, default=12, help="processes of each slowdown in each regime")
    parser.add_argument("--regime", choices=("alone", "stressed", "both"), default="both")
    parser.add_argument("--rounds", type=Path, help="where all rounds are kept, too: a large file")
    parser.add_argument("--evaluate", type=Path, help="judge the processes of a file that --rounds wrote")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_as_child(*arguments.child)))
        return
    if arguments.evaluate:
        measured = [Measured.of(fields) for fields in json.loads(arguments.evaluate.read_text(encoding="utf-8"))]
    else:
        regimes = {"alone": (False,), "stressed": (True,), "both": (False, True)}[arguments.regime]
        measured = collect(arguments.unchanged, arguments.changed, regimes)
    if arguments.rounds:
        arguments.rounds.write_text(json.dumps([m.to_json(with_rounds=True) for m in measured]), encoding="utf-8")
    unchanged, changed, regime = arguments.unchanged, arguments.changed, arguments.regime
    command = f"python -m benchmarks.gate_quality --unchanged {unchanged} --changed {changed} --regime {regime}"
    page = format_page(measured, command)
    print(page)
    (RESULTS / "gate_quality.md").write_text(page, encoding="utf-8")
    traces = json.dumps([m.to_json(with_rounds=False) for m in measured], indent=None)
    (RESULTS / "gate_quality_traces.json").write_text(traces, encoding="utf-8")
    plot(measured, RESULTS / "gate_quality.svg")


def _as_child(task: str, cache_dir: str, request: str = "") -> Any:
    if task == "calibrate":
        return calibrate(Path(cache_dir))
    slowdown, elements, seed = json.loads(request)
    return [m.to_json(with_rounds=True) for m in measure_here(slowdown, elements, Path(cache_dir), seed)]


if __name__ == "__main__":
    main()
