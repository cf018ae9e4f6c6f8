"""``nnopt doctor``: is this machine fit to measure?"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import stdev
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_nnopt.cli.output import AsJson, print_json, print_line
from pytest_nnopt.config import LimitsConfig, parse_device
from pytest_nnopt.environment import Environment
from pytest_nnopt.measurement.machine import ConcernKind, HostProbe
from pytest_nnopt.measurement.surroundings import look_around
from pytest_nnopt.session.identical import IdenticalRun, run_identical
from pytest_nnopt.statistics.distributions import t_quantile
from pytest_nnopt.statistics.evidence import summarise_processes
from pytest_nnopt.statistics.power import minimum_detectable_effect
from pytest_nnopt.statistics.prior import DEFAULT_CPU_PRIOR, DEFAULT_GPU_PRIOR
from pytest_nnopt.statistics.sequential import SequentialPlan
from pytest_nnopt.units import format_percent, format_seconds, relative_change
from pytest_nnopt.verdict import estimate_of
from pytest_nnopt.verdict.fitness import DECISIVE_CONCERNS

if TYPE_CHECKING:
    from pytest_nnopt.measurement.machine import HostReading
    from pytest_nnopt.measurement.surroundings import Surroundings
    from pytest_nnopt.statistics.prior import VariancePrior

_TAIL = 0.025
_BASELINE_PROCESSES = 10
_HARMLESS = (ConcernKind.GPU_HELD.value,)


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that speaks against measuring here.

    Attributes:
        kind: value of a ``ConcernKind``.
        processes: how many processes of the A/A run saw it.
        text: what it is and what to do.
    """

    kind: str
    processes: int
    text: str


@dataclass(frozen=True, slots=True)
class Noise:
    """What the A/A run says of the machine's noise. All figures are relative.

    Attributes:
        processes: how many were measured.
        change: how much slower one copy of the same code seemed than the other.
        low: lower end of its 95 % interval.
        high: upper end.
        between_sd: standard deviation of one process's figure from process to process; None of one process.
        within_sd: standard error of one process's figure from its own blocks.
        limit: the tolerated slowdown that the next two figures are for.
        detectable_first: the smallest slowdown found in 95 % of runs by two processes against a baseline of ten.
        detectable_last: the same by as many processes as a case may take.
    """

    processes: int
    change: float
    low: float
    high: float
    between_sd: float | None
    within_sd: float
    limit: float
    detectable_first: float
    detectable_last: float

    @property
    def is_biased(self) -> bool:
        """Whether identical code seems to differ."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about a machine.

    Attributes:
        environment: its name among baselines.
        facts: its state in words, by name.
        concerns: what speaks against measuring on it.
        noise: what an A/A run shows.
    """

    environment: str
    facts: dict[str, str]
    concerns: tuple[Concern, ...]
    noise: Noise

    @property
    def is_fit(self) -> bool:
        """Whether nothing speaks against measuring here; others may hold a GPU as long as they leave it alone."""
        return not self.noise.is_biased and all(one.kind in _HARMLESS for one in self.concerns)


def doctor(
    device: Annotated[str | None, typer.Option(help="cpu or cuda[:N]; the GPU where there is one.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=50, help="Processes of the A/A run.")] = 4,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="End with status 1 where the machine is not fit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether this machine is fit to measure, and what to do where it is not.

    Identical code is timed against itself in fresh processes, exactly as a case is: what differs is noise.
    """
    place = None if device is None else parse_device(device)
    surroundings = look_around()
    runs = list(_measure(place, processes))
    diagnosis = diagnose(runs, HostProbe().read(), surroundings)
    if as_json:
        print_json({**asdict(diagnosis), "is_fit": diagnosis.is_fit})
    else:
        for line in describe(diagnosis):
            print_line(line)
    if strict and not diagnosis.is_fit:
        raise typer.Exit(1)


def _measure(place: str | None, processes: int) -> Iterator[IdenticalRun]:
    """Measure identical code in so many processes, and tell whoever waits at a terminal how far that is."""
    for seed in range(processes):
        if sys.stderr.isatty():
            typer.echo(f"\rmeasuring identical code: process {seed + 1} of {processes} ", err=True, nl=False)
        yield run_identical(seed, place)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[2K", err=True, nl=False)


def diagnose(runs: Sequence[IdenticalRun], host: HostReading, surroundings: Surroundings) -> Diagnosis:
    """Bring together what the processes of an A/A run found, and the state of the host."""
    environment = Environment(runs[-1].environment)
    seen = Counter(kind for run in runs for kind in run.process.concerns)
    texts = {kind: text for run in runs for kind, text in run.process.concerns.items()}
    return Diagnosis(
        environment=environment.name,
        facts=_facts(runs[-1], host, surroundings),
        concerns=tuple(Concern(kind, count, texts[kind]) for kind, count in seen.most_common()),
        noise=noise_of(runs, "cpu" if environment.fields.get("device") == "cpu" else "cuda"),
    )


def noise_of(runs: Sequence[IdenticalRun], device: str) -> Noise:
    """Estimate the noise from an A/A run, moderated by what other machines show, as a verdict moderates it."""
    estimates = [estimate_of(run.process) for run in runs]
    evidence = summarise_processes(estimates, DEFAULT_CPU_PRIOR if device == "cpu" else DEFAULT_GPU_PRIOR)
    half = t_quantile(_TAIL, evidence.noise.degrees_of_freedom) * evidence.standard_error
    limit = LimitsConfig().latency_on(device)
    return Noise(
        processes=len(runs),
        change=relative_change(evidence.log_ratio),
        low=relative_change(evidence.log_ratio - half),
        high=relative_change(evidence.log_ratio + half),
        between_sd=stdev(estimate.log_ratio for estimate in estimates) if len(estimates) > 1 else None,
        within_sd=math.sqrt(evidence.within_variance),
        limit=limit,
        detectable_first=_detectable(evidence.noise, 2, limit),
        detectable_last=_detectable(evidence.noise, SequentialPlan().max_processes, limit),
    )


def _detectable(noise: VariancePrior, processes: int, limit: float) -> float:
    return minimum_detectable_effect(noise, processes=processes, baseline_processes=_BASELINE_PROCESSES, limit=limit)


def _facts(run: IdenticalRun, host: HostReading, surroundings: Surroundings) -> dict[str, str]:
    """Say in what state the machine is; what cannot be read is unknown."""
    facts = {
        "usable cores": str(host.usable_cores),
        "threads": str(run.environment.get("threads")),
        "quota": "none" if host.quota_cores is None else f"{host.quota_cores:g} cores",
        "governor": " and ".join(sorted(host.governors)) or "unknown: the kernel does not tell, as in most VMs",
        "thermal stops": "unknown" if host.thermal_stops is None else f"{host.thermal_stops} since boot",
    }
    gpu = {name: _in_words(run.gpu[key], words) for key, (name, words) in _GPU.items() if key in run.gpu}
    return {**facts, **surroundings.describe(), **gpu}


def _describe_reasons(bits: int) -> str:
    """Name what holds a GPU's clocks down, of NVML's bits those that matter to a measurement."""
    names = [name for bit, name in _CLOCK_REASONS.items() if bits & bit]
    return ", ".join(names) or "nothing"


_CLOCK_REASONS = {
    0x01: "it is idle",
    0x04: "the power limit",
    0x08: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "the power brake",
}
_GPU: dict[str, tuple[str, Callable[[int], str]]] = {
    "clock_mhz": ("GPU clock", "{} MHz".format),
    "event_reasons": ("GPU clocks held down by", _describe_reasons),
    "thermal_nanoseconds": (
        "GPU slowed by heat",
        lambda value: f"{format_seconds(value / 1e9)} since its driver started",
    ),
    "foreign_processes": ("other processes on the GPU", str),
}
"""What the driver tells of a GPU: the name and the words for it."""


def _in_words(value: int | None, words: Callable[[int], str]) -> str:
    return "unknown" if value is None else words(value)


def describe(diagnosis: Diagnosis) -> list[str]:
    """Write a diagnosis for people: state, concerns, noise, and what to do."""
    noise = diagnosis.noise
    between = "unknown of one process" if noise.between_sd is None else format_percent(noise.between_sd)
    return [
        diagnosis.environment,
        *(f"  {name}: {value}" for name, value in diagnosis.facts.items()),
        *(f"  concern, in {one.processes} of {noise.processes} processes: {one.text}" for one in diagnosis.concerns),
        f"A/A run of {noise.processes} processes, identical code on both sides",
        f"  seems {format_percent(noise.change, signed=True)} apart "
        f"[{format_percent(noise.low, signed=True)}, {format_percent(noise.high, signed=True)}]"
        + (", which is not zero" if noise.is_biased else ""),
        f"  one process varies by {between} from the next, by {format_percent(noise.within_sd)} in itself",
        f"  a slowdown found in 95 % of runs, limit {format_percent(noise.limit)}, baseline of {_BASELINE_PROCESSES} "
        f"processes: {format_percent(noise.detectable_first)} by 2 processes, "
        f"{format_percent(noise.detectable_last)} by {SequentialPlan().max_processes}",
        _advice(diagnosis),
    ]


def _advice(diagnosis: Diagnosis) -> str:
    noise = diagnosis.noise
    if noise.is_biased:
        return "not fit: identical code seems to differ; what runs beside it changes while it is measured"
    if any(one.kind in DECISIVE_CONCERNS for one in diagnosis.concerns):
        return "not fit: see the concerns above; the gate judges no times where half of its processes meet them"
    if not diagnosis.is_fit:
        return "not fit as it is: see the concerns above; the gate still runs, and asks for more processes"
    return (
        f"fit to find slowdowns of {format_percent(noise.detectable_last)} and more; "
        "for smaller ones take a quieter machine, or a larger baseline by pytest --nnopt-update on several days"
    )
