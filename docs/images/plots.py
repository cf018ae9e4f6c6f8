"""Draws the plots of the pages about statistics: ``python docs/images/plots.py`` from the repository's root.

What was measured is read from the tables in ``benchmarks/results`` and in the pages, so that a plot and its table say
the same; what the decision does is simulated with fixed seeds by ``benchmarks.decision_simulation``.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import style
from matplotlib.figure import Figure

from benchmarks.decision_simulation import Scenario, draw_case, simulate
from pytest_nnopt.model import Outcome
from pytest_nnopt.statistics.decision import decide_regression
from pytest_nnopt.statistics.sequential import DEFAULT_LOOKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).parents[1]
RESULTS = DOCS.parent / "benchmarks" / "results"
FOLDER = Path(__file__).parent / "statistics"
CASES = 1000
"""Simulated cases behind each point."""

INK, GREY, RED, AMBER, GREEN, BLUE = "#1f2933", "#7b8794", "#c62828", "#e0a100", "#2e7d32", "#1f5fbf"
Row = Mapping[str, str]


def draw_rules() -> Figure:
    """What each rule does to unchanged code, and to code that is a tenth slower."""
    rows = read_table(DOCS / "peers.md", "rule")[::-1]
    figure, (axes,) = open_figure(1, height=3.6)
    for column, colour, label in (
        ("no change", RED, "unchanged code fails (a false alarm)"),
        ("10 %", BLUE, "10 % slower code fails (found)"),
    ):
        axes.plot([percent(row[column]) for row in rows], range(len(rows)), "o", color=colour, label=label)
    for place, row in enumerate(rows):
        ends = percent(row["no change"]), percent(row["10 %"])
        axes.plot(ends, [place, place], color=GREY, linewidth=1, zorder=0)
    axes.set_yticks(range(len(rows)), [re.sub(r"[*`]", "", row["rule"]) for row in rows])
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set(xlim=(0, 100), xlabel="of comparisons, %")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, labelcolor=INK, frameon=False)
    return figure


def draw_noise() -> Figure:
    """How far processes that run identical code lie apart, by what the process is."""
    rows = read_table(RESULTS / "process_noise.md", "model")
    models = list(dict.fromkeys(row["model"] for row in rows))
    kinds = list(dict.fromkeys(row["the process"] for row in rows))
    figure, (axes,) = open_figure(1, height=3.2)
    for index, (kind, colour) in enumerate(zip(kinds, (GREY, AMBER, BLUE, GREEN), strict=True)):
        values = [percent(row["SD to eager"]) for row in rows if row["the process"] == kind]
        places = np.arange(len(models)) + 0.2 * (index - 1.5)
        axes.bar(places, values, 0.18, color=colour, label=kind)
    axes.set_xticks(range(len(models)), models)
    axes.set_ylabel("SD between processes, %")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure


def draw_looks() -> Figure:
    """What the decision sees after 1, 2, 4 and 8 processes of one case: the same, and slower by a tenth."""
    figure, both = open_figure(2, height=3.0)
    for axes, change, title in zip(both, (0.0, 0.10), ("unchanged", "10 % slower"), strict=True):
        scenario = Scenario(process_sd=0.04, change=change)
        baseline, candidate = draw_case(scenario, np.random.default_rng(7))
        for position, looks in enumerate(DEFAULT_LOOKS):
            decision = decide_regression(
                candidate[:looks], baseline, limit=scenario.limit, prior=scenario.prior, plan=scenario.plan
            )
            low, high = 100 * decision.interval.low, 100 * decision.interval.high
            colour = _COLOURS[decision.outcome]
            axes.plot([position, position], [low, high], color=colour, linewidth=3, solid_capstyle="butt")
            axes.plot(position, 100 * decision.change, "o", color=colour)
            axes.annotate(
                decision.outcome.value if decision.next_look is None else "open",
                (position, high),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                color=colour,
                fontsize=8,
            )
            if decision.next_look is None:
                break
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.axhline(100 * scenario.limit, color=RED, linewidth=1, linestyle="--")
        axes.annotate("limit", (-0.45, 100 * scenario.limit), color=RED, fontsize=8, va="bottom")
        axes.set_xticks(range(len(DEFAULT_LOOKS)), list(map(str, DEFAULT_LOOKS)))
        axes.set(xlim=(-0.5, 3.5), ylim=(-22, 32), xlabel="processes", title=title)
    both[0].set_ylabel("change against the baseline, %")
    return figure


_COLOURS = {
    Outcome.PASSED: GREEN,
    Outcome.IMPROVED: GREEN,
    Outcome.FAILED: RED,
    Outcome.INCONCLUSIVE: AMBER,
}


def draw_power() -> Figure:
    """What becomes of a case by how much slower it truly is, for two limits."""
    changes = (0.0, 0.02, 0.04, 0.05, 0.06, 0.08, 0.10, 0.12, 0.15, 0.20)
    figure, both = open_figure(2, height=3.2)
    for axes, limit in zip(both, (0.05, 0.10), strict=True):
        tallies = [simulate(Scenario(change=change, limit=limit), CASES) for change in changes]
        passed = [100 * tally.passed for tally in tallies]
        failed = [100 * tally.failed for tally in tallies]
        open_ones = [100 - a - b for a, b in zip(passed, failed, strict=True)]
        axes.stackplot(
            [100 * change for change in changes],
            failed,
            open_ones,
            passed,
            colors=(RED, AMBER, GREEN),
            labels=("failed", "inconclusive", "passed"),
            alpha=0.8,
            linewidth=0,
        )
        axes.axvline(100 * limit, color=INK, linewidth=1, linestyle="--")
        axes.set_xticks(range(0, 21, 5))
        axes.set(xlim=(0, 20), ylim=(0, 100), xlabel="true slowdown, %", title=f"limit {100 * limit:.0f} %")
    both[0].set_ylabel("of cases, %")
    figure.legend(*both[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_baseline() -> Figure:
    """What a larger baseline finds and costs."""
    rows = read_table(RESULTS / "decision_simulation.md", "baseline processes")
    sizes = [int(row["baseline processes"]) for row in rows]
    figure, (axes,) = open_figure(1, height=2.8)
    for column, colour in (("10 % slower found", BLUE), ("passed in the end", GREEN)):
        axes.plot(sizes, [percent(row[column]) for row in rows], "o-", color=colour, label=column)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, labelcolor=INK, frameon=False)
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.set(ylim=(50, 101), xlabel="processes in the baseline", ylabel="of cases, %")
    return figure


PLOTS: Mapping[str, Callable[[], Figure]] = {
    "rules": draw_rules,
    "noise": draw_noise,
    "looks": draw_looks,
    "power": draw_power,
    "baseline": draw_baseline,
}


def read_table(page: Path, first: str) -> list[Row]:
    """Return the rows of the table whose first column has this name, by column."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {first} |"))
    head, _, *body = takewhile(lambda line: line.startswith("|"), lines[start:])
    return [dict(zip(_cells(head), _cells(line), strict=True)) for line in body]


def percent(cell: str) -> float:
    """Return the number of a cell, bold or not, with its sign of percent or without."""
    return float(re.sub(r"[*%\s]", "", cell))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def open_figure(columns: int, *, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure on white, with so many plots beside each other."""
    figure = Figure(figsize=(7.6, height), layout="constrained", facecolor="white")
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["bottom", "left"]].set_color(GREY)
        one.tick_params(colors=GREY, labelcolor=INK, labelsize=8)
        one.xaxis.label.set(color=INK, fontsize=9)
        one.yaxis.label.set(color=INK, fontsize=9)
        one.title.set(color=INK)
    return figure, axes


_STYLE = {
    "axes.titlesize": 10,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "nnopt",
    "text.parse_math": False,
}


@style.context(["default", _STYLE])
def draw(name: str) -> str:
    """Return a plot as SVG, the same for the same figures."""
    figure = PLOTS[name]()
    with io.StringIO() as buffer:
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
    return re.sub(r"[ \t]+\n", "\n", text)


def main() -> None:
    """Draw the plots that are named, or all."""
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PLOTS:
        (FOLDER / f"{name}.svg").write_text(draw(name), encoding="utf-8")


if __name__ == "__main__":
    mpl.use("svg")
    main()
