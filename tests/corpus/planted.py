"""Planted cases: pairs of implementations of which it is known whether they differ by rounding or by an error.

Every case is small, seeded and runs on a CPU. What needs a GPU is simulated: TF32 by rounding the inputs of a product
to ten bits of mantissa.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from pytest_nnopt.errors import NumericsError
from pytest_nnopt.numerics import NumericsComparison, Observation, Tolerance, compare_observations
from pytest_nnopt.torch_backend.float64 import nudge, promote
from pytest_nnopt.torch_backend.observation import observe
from pytest_nnopt.torch_backend.side import ExecutionMode, Side

SEED = 11


@dataclass(frozen=True)
class Pair:
    """A reference and a candidate, ready to run."""

    reference: Side
    candidate: Side


@dataclass(frozen=True)
class Planted:
    """A case with its truth.

    Attributes:
        name: what is special about it, in words.
        is_error: whether the candidate is really wrong.
        build: makes the pair; called under a fixed seed.
    """

    name: str
    is_error: bool
    build: Callable[[], Pair]


@dataclass(frozen=True)
class Observed:
    """What the runs of a case did."""

    candidate: Observation
    reference: Observation
    truth: Observation | None
    nudged: Observation | None
    no_truth_because: str = ""

    def compare(self, *, has_nudged: bool = True) -> NumericsComparison:
        """Compare them with the default tolerance."""
        return compare_observations(
            self.candidate,
            self.reference,
            self.truth,
            Tolerance(),
            nudged=self.nudged if has_nudged else None,
            no_truth_because=self.no_truth_because,
        )


@dataclass
class Corpus:
    """A list of cases that fills as functions are declared."""

    is_error: bool
    cases: list[Planted] = field(default_factory=list)

    def __call__(self, build: Callable[[], Pair]) -> Callable[[], Pair]:
        """Take a function that makes a pair as a case named after it."""
        self.cases.append(Planted(build.__name__.replace("_", " "), self.is_error, build))
        return build


def observe_case(case: Planted, seed: int = SEED) -> Observed:
    """Run every side of a case."""
    torch.manual_seed(seed)
    pair = case.build()
    reference, candidate = observe(pair.reference, seed=seed), observe(pair.candidate, seed=seed)
    try:
        truth, nudged = promote(pair.reference), nudge(pair.reference, seed=seed)
    except NumericsError as error:
        return Observed(candidate, reference, None, None, str(error))
    return Observed(candidate, reference, observe(truth, seed=seed), observe(nudged, seed=seed))


def functions(reference: Callable[..., Any], candidate: Callable[..., Any], *inputs: Any) -> Pair:
    """Make an inference pair of two functions of the same inputs."""
    return Pair(Side(reference, inputs), Side(candidate, inputs))


def modules(reference: torch.nn.Module, candidate: torch.nn.Module, *inputs: Any) -> Pair:
    """Make an inference pair of two modules."""
    return Pair(Side(reference, inputs, module=reference), Side(candidate, inputs, module=candidate))


def training(
    reference: Callable[..., Any], candidate: Callable[..., Any], *inputs: Any, loss: Callable[[Any], torch.Tensor]
) -> Pair:
    """Make a training pair; gradients flow to modules and to inputs that require them."""
    mode = ExecutionMode(is_grad_enabled=True)
    sides = [
        Side(function, inputs, module=function if isinstance(function, torch.nn.Module) else None, loss=loss, mode=mode)
        for function in (reference, candidate)
    ]
    return Pair(*sides)


def tf32(x: torch.Tensor) -> torch.Tensor:
    """Round float32 to the ten bits of mantissa that TF32 keeps; leave other types alone."""
    if x.dtype is not torch.float32:
        return x
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def blocked_matmul(a: torch.Tensor, b: torch.Tensor, block: int = 64) -> torch.Tensor:
    """Multiply matrices by summing over blocks of the inner dimension one after the other."""
    total = torch.zeros((), dtype=a.dtype)
    for start in range(0, a.shape[-1], block):
        total = total + a[..., start : start + block] @ b[..., start : start + block, :]
    return total
