"""Judge every planted case three ways: this project's rule, ``torch.testing.assert_close`` and ``torch._dynamo``'s.

Run with ``python -m benchmarks.numerics_corpus`` in the repository's root; with ``--seeds 20`` to see how the rule's
margins vary instead. Writes ``benchmarks/results/numerics_corpus.md``, or ``numerics_margins.md`` beside it. All three
see the same runs: outputs, loss, gradients, inputs and buffers.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch._dynamo.utils import same

from pytest_nnopt.numerics.leaves import ArrayLeaf
from tests.corpus.honest import HONEST
from tests.corpus.mistaken import MISTAKEN
from tests.corpus.planted import Observed, Planted, observe_case

if TYPE_CHECKING:
    from pytest_nnopt.numerics import NumericsComparison, Observation

RESULTS = Path(__file__).parent / "results"
CASES = (*HONEST.cases, *MISTAKEN.cases)


@dataclass(frozen=True)
class Row:
    """A case with three answers to whether the candidate is right."""

    case: Planted
    ours: bool
    assert_close: bool
    same: bool

    def cells(self) -> list[str]:
        """Return the row's cells; a wrong answer is in capitals."""
        answers = (self.written(answer) for answer in (self.ours, self.assert_close, self.same))
        return [self.case.name, "error" if self.case.is_error else "rounding", *answers]

    def written(self, is_right: bool) -> str:
        """Write an answer, in capitals if it is wrong."""
        word = "passes" if is_right else "fails"
        return word.upper() if is_right is self.case.is_error else word


def main() -> None:
    """Judge the corpus and write what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=0, help="show margins over this many seeds")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines, name = (margins(seeds), "numerics_margins.md") if seeds else (table(), "numerics_corpus.md")
    (RESULTS / name).write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def table() -> list[str]:
    """Return the side-by-side table with its totals."""
    rows = [judge(case) for case in CASES]
    lines = [
        f"{len(HONEST.cases)} cases of rounding that must pass and {len(MISTAKEN.cases)} errors that must fail, "
        f"torch {torch.__version__}, one thread. Wrong answers are in capitals.",
        "",
        "| case | truth | pytest-nnopt | assert_close | dynamo same |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
    ]
    for name, cases in (("rounding called right", HONEST.cases), ("errors found", MISTAKEN.cases)):
        own = [row for row in rows if row.case in cases]
        totals = [sum(getattr(row, rule) is not row.case.is_error for row in own) for rule in RULES]
        lines.append(f"| **{name}** | of {len(own)} | {' | '.join(map(str, totals))} |")
    return lines


RULES = ("ours", "assert_close", "same")


def judge(case: Planted) -> Row:
    """Judge one case three ways."""
    observed = observe_case(case)
    return Row(case, observed.compare().is_within, is_close(observed), is_same(observed))


def is_close(observed: Observed) -> bool:
    """Say what ``torch.testing.assert_close`` says with its default tolerances."""
    if observed.candidate.error or observed.reference.error:
        return observed.candidate.error == observed.reference.error
    ours, theirs = (with_container(run, tensors(run)) for run in (observed.candidate, observed.reference))
    try:
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    except (AssertionError, TypeError):
        return False
    return True


def is_same(observed: Observed) -> bool:
    """Say what ``torch._dynamo.utils.same`` says with the float64 run and a tolerance of 1e-4."""
    if observed.candidate.error or observed.reference.error:
        return observed.candidate.error == observed.reference.error
    ours, theirs = tensors(observed.candidate), tensors(observed.reference)
    true = {} if observed.truth is None else tensors(observed.truth)
    if ours.keys() != theirs.keys():
        return False
    try:
        return all(same(theirs[path], ours[path], fp64_ref=true.get(path), tol=1e-4, equal_nan=True) for path in theirs)
    except (AssertionError, RuntimeError):
        return False


def tensors(observation: Observation) -> dict[str, torch.Tensor]:
    """Return what a run computed or changed, by path."""
    leaves = (leaf for leaf in observation.leaves if isinstance(leaf, ArrayLeaf))
    return {leaf.path: tensor_of(leaf) for leaf in leaves if leaf.kind.value not in ("parameter",)}


def tensor_of(leaf: ArrayLeaf) -> torch.Tensor:
    """Make the tensor again that a leaf was made of."""
    flat = np.concatenate([*leaf.read(), np.empty(0, dtype=bool)]) if leaf.size else np.empty(0)
    tensor = torch.from_numpy(flat)
    if leaf.is_complex:
        tensor = torch.view_as_complex(tensor.reshape(-1, 2))
    return tensor.to(getattr(torch, leaf.dtype)).reshape(leaf.shape)


def with_container(observation: Observation, found: dict[str, torch.Tensor]) -> object:
    """Return the tensors as a list where the output was one, so that the container's type counts."""
    return list(found.values()) if observation.containers.get("output") == "list" else found


def margins(seeds: int) -> list[str]:
    """Return how close each case comes to its limit over many seeds: the worst, as error over limit."""
    lines = [
        f"Error over limit, {seeds} seeds, {len(CASES)} cases: the largest of a case of rounding, the smallest of an "
        "error. Cases of rounding under 0.4 and errors above 4 with every seed are left out.",
        "",
        "| case | truth | worst | wrong answers |",
        "|---|---|---|---|",
    ]
    for case in CASES:
        comparisons = [observe_case(case, seed).compare() for seed in range(1000, 1000 + seeds)]
        excesses = [excess(comparison) for comparison in comparisons]
        worst = min(excesses) if case.is_error else max(excesses)
        wrong = sum(comparison.is_within is case.is_error for comparison in comparisons)
        if wrong or (worst < 4 if case.is_error else worst > 0.4):
            truth = "error" if case.is_error else "rounding"
            lines.append(f"| {case.name} | {truth} | {worst:.2g} | {wrong} |")
    return lines


def excess(comparison: NumericsComparison) -> float:
    """Return the worst leaf's error over its limit."""
    return comparison.worst.excess if comparison.worst is not None else 0.0


if __name__ == "__main__":
    main()
