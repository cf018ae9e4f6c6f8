"""The page and the plot about how often gates err."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.quality.judging import (
    DRAWS,
    LEAST_PROCESSES,
    Gate,
    Pool,
    default_gates_for,
    gates_for,
    pools_of,
    share,
)
from benchmarks.quality.measuring import SLOWDOWNS, Measured
from benchmarks.quality.rules import RULES
from pytest_nnopt.statistics.decision import DEFAULT_PLAN
from pytest_nnopt.units import format_percent
from pytest_nnopt.verdict import estimate_of
from pytest_nnopt.verdict.absolute import absolute_estimates
from pytest_nnopt.verdict.ways import Ways

INTRODUCTION = """\
Per cent of comparisons that fail, the mean over a small, a medium and a large model. The other tools' rules and this
gate's latency are held to 5 % where no other limit is named. This gate compares up to 8 processes with a baseline of
10, or with the other revision in each of them; the rules compare one with one. Slowdowns are extra work inside the
compiled model. The figures come from the processes named below, drawn anew for every comparison, so they are as good
as those few processes. A dash stands where fewer than two measured a slowdown: one alone never fails a case.
"""


class Kept:
    """The words and tables of a page made before, for what can no longer be judged: traces hold no times alone.

    Args:
        text: the page in Markdown.
    """

    def __init__(self, text: str) -> None:
        self.title, *self.headings = text.partition("![")[0].strip().split("\n\n")
        self._rows: dict[tuple[str, str, str], list[str]] = {}
        title, table = "", ""
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if line.startswith("## "):
                title = line[3:]
            elif not line.startswith("|"):
                table = ""
            else:
                table = table or cells[0]
                self._rows[title, table, cells[0]] = cells

    def row(self, title: str, table: str, name: str) -> list[str]:
        """Return the cells of a row, found by the title of its section and the first cells of its table and its own."""
        return self._rows[title, table, name]


def format_page(measured: Sequence[Measured], heading: Sequence[str], kept: Kept | None = None) -> str:
    """Return the whole page in Markdown, with the words about how it was made under its title.

    Args:
        measured: what to judge.
        heading: these words.
        kept: an earlier page, for the rules of other tools where ``measured`` holds no rounds.
    """
    pools = pools_of(measured)
    lines = ["# How often gates err" if kept is None else kept.title, "", *heading, "", INTRODUCTION]
    for device, is_stressed in dict.fromkeys((device, is_stressed) for device, is_stressed, _ in sorted(pools)):
        found = {name: pool for (d, s, name), pool in pools.items() if (d, s) == (device, is_stressed)}
        lines += [*_format_regime(found, device, _title(device, is_stressed), kept), ""]
    return "\n".join(lines)


def _title(device: str, is_stressed: bool) -> str:
    where = {"cpu": "CPU", "cuda": "GPU"}[device]
    return f"{where}, {'with a busy neighbour on the other core' if is_stressed else 'nothing else on its cores'}"


def _format_regime(pools: Mapping[str, Pool], device: str, title: str, kept: Kept | None) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield from _format_processes(pools, device, title, kept)
    yield ""
    gates = gates_for(device, with_base=_has_base(pools))
    yield from _format_rates(pools, gates, _slowdowns(pools), title, kept)
    yield ""
    yield from _format_smallest(pools, gates, title, kept)
    yield ""
    yield from _format_defaults(pools, device)


def _format_processes(pools: Mapping[str, Pool], device: str, title: str, kept: Kept | None) -> Iterator[str]:
    counts = {s: len(found) for s, found in next(iter(pools.values())).by_slowdown.items()}
    changed = ", ".join(f"{counts[s]} at {100 * s:g} %" for s in _slowdowns(pools))
    beside = sum(m.beside is not None for m in next(iter(pools.values())).unchanged)
    yield f"{counts[0.0]} unchanged processes, {changed}; {DRAWS} draws for each figure."
    yield f"Of the unchanged ones {beside} compared two revisions as well."
    yield ""
    slowdowns = " | ".join(f"{100 * s:g} %" for s in _slowdowns(pools))
    yield f"| model | SD between processes: {' | '.join(_SPREADS[device])} | true cost of {slowdowns} |"
    yield "|---|" + "---|" * (len(_SPREADS[device]) + len(_slowdowns(pools)))
    for name, pool in pools.items():
        spreads = [_spread(pool, kind) for kind in _SPREADS[device]]
        if kept is not None:
            spreads[-1] = kept.row(title, "model", name)[len(spreads)]
        true = [format_percent(pool.true_slowdown(s), signed=True) for s in _slowdowns(pools)]
        yield f"| {name} | {' | '.join([*spreads, *true])} |"


_SPREADS = {
    "cpu": ("to eager", "to the fixed workload", "to another revision", "time alone"),
    "cuda": (
        "kernels",
        "kernels launched alike",
        "to eager",
        "to the fixed workload",
        "to another revision",
        "time alone",
    ),
}


def _spread(pool: Pool, kind: str) -> str:
    """Return how much one figure varies between unchanged processes; a dash where it was not measured."""
    records = [m.record for m in pool.unchanged]
    figures = {
        "kernels": [math.log(r.device_seconds) for r in records if r.device_seconds],
        "kernels launched alike": [e.log_ratio for e in Ways([], records, DEFAULT_PLAN).device_estimates()[1]],
        "to eager": [estimate_of(r).log_ratio for r in records],
        "to the fixed workload": [e.log_ratio for e in absolute_estimates(records)],
        "to another revision": [m.beside.log_ratio for m in pool.unchanged if m.beside is not None],
        "time alone": [math.log(statistics.fmean(m.alone)) for m in pool.unchanged if m.alone],
    }[kind]
    return format_percent(statistics.stdev(figures)) if len(figures) > 1 else "-"


def _format_rates(
    pools: Mapping[str, Pool], gates: Mapping[str, Gate], slowdowns: Sequence[float], title: str, kept: Kept | None
) -> Iterator[str]:
    heads = " | ".join(f"{100 * s:g} %" for s in slowdowns)
    yield f"| gate | no change | {heads} slower | undecided, no change | median processes |"
    yield "|---|" + "---|" * (len(slowdowns) + 3)
    for name, gate in gates.items():
        if kept is not None and name in RULES:
            yield _as_row(kept.row(title, "gate", name))
            continue
        unchanged = [a for pool in pools.values() for a in pool.answers(gate, 0.0)]
        found = [_share_found(pools, gate, s) for s in slowdowns]
        cells = [share([a.failed for a in unchanged]), *found, share([not a.passed for a in unchanged])]
        processes = statistics.median(a.processes for a in unchanged)
        told = ("-" if cell is None else f"{100 * cell:.1f} %" for cell in cells)
        yield f"| {name} | {' | '.join(told)} | {processes:g} |"


def _share_found(pools: Mapping[str, Pool], gate: Gate, slowdown: float) -> float | None:
    """Return the share that fails; None where too few processes measured it for any verdict of failure."""
    if any(pool.count(gate, slowdown) < LEAST_PROCESSES for pool in pools.values()):
        return None
    return share([a.failed for pool in pools.values() for a in pool.answers(gate, slowdown)])


def _as_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _format_smallest(
    pools: Mapping[str, Pool], gates: Mapping[str, Gate], title: str, kept: Kept | None
) -> Iterator[str]:
    table = "smallest slowdown found in 95 %"
    yield _as_row([table, *pools])
    yield "|---|" + "---|" * len(pools)
    for name, gate in gates.items():
        if kept is not None and name in RULES:
            yield _as_row(kept.row(title, table, name))
            continue
        found = [pool.smallest_found(gate) for pool in pools.values()]
        cells = ["more than 400 %" if effect is None else format_percent(effect) for effect in found]
        yield f"| {name} | {' | '.join(cells)} |"


def _format_defaults(pools: Mapping[str, Pool], device: str) -> Iterator[str]:
    yield "Unchanged, under the default limits:"
    yield ""
    yield "| check | model | passed | failed | median processes | seconds a sample | seconds from start to ready |"
    yield "|---|---|---|---|---|---|---|"
    for check, gate in default_gates_for(device).items():
        for name, pool in pools.items():
            answers = pool.answers(gate, 0.0)
            passed, failed = (share([getattr(a, what) for a in answers]) for what in ("passed", "failed"))
            seconds = statistics.median(m.seconds for m in pool.unchanged)
            start = statistics.median(m.start_seconds for m in pool.unchanged)
            processes = statistics.median(a.processes for a in answers)
            yield (
                f"| {check} | {name} | {100 * (passed - failed):.1f} % | {100 * failed:.1f} % | {processes:g} | "
                f"{seconds:.1f} | {start:.1f} (three models) |"
            )


def _slowdowns(pools: Mapping[str, Pool]) -> list[float]:
    return sorted(set.intersection(*(set(pool.by_slowdown) for pool in pools.values())) - {0.0})


def _has_base(pools: Mapping[str, Pool]) -> bool:
    return all(
        any(m.beside is not None for m in found) for pool in pools.values() for found in pool.by_slowdown.values()
    )


def plot(measured: Sequence[Measured], path: Path, kept: Kept | None = None) -> None:
    """Draw what share of comparisons fails against the slowdown, one line a gate; without a busy neighbour."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "gate_quality"
    pools = {key: pool for key, pool in pools_of(measured).items() if not key[1]}
    devices = sorted({device for device, _, _ in pools})
    figure = Figure(figsize=(8, 4.5 * len(devices)), layout="constrained")
    for axes, device in zip(figure.subplots(len(devices), squeeze=False)[:, 0], devices, strict=True):
        here = {name: pool for (d, _, name), pool in pools.items() if d == device}
        slowdowns = [0.0, *(s for s in SLOWDOWNS[device] if s in _slowdowns(here))]
        for name, gate in gates_for(device, with_base=_has_base(here)).items():
            if kept is not None and name in RULES:
                cells = kept.row(_title(device, is_stressed=False), "gate", name)[1 : len(slowdowns) + 1]
                failed = [math.nan if cell == "-" else float(cell.rstrip(" %")) / 100 for cell in cells]
            else:
                failed = [share([a.failed for pool in here.values() for a in pool.answers(gate, s)]) for s in slowdowns]
            axes.plot(
                [100 * s for s in slowdowns],
                [100 * f for f in failed],
                marker="o",
                linewidth=3 if name.startswith("**") else 1.2,
                label=name.replace("*", "").replace("`", ""),
            )
        axes.axvline(5, color="grey", linewidth=0.8, linestyle=":")
        axes.set(xlabel="slowdown in %", ylabel="comparisons that fail, in %", ylim=(-2, 102))
        axes.set_title({"cpu": "CPU", "cuda": "GPU"}[device])
        axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
