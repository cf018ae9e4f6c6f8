"""A healthy model and what can go wrong with its compilation, one fault a subclass; ``PLANTED`` names the one in use.

A file of a user's project: the tests and ``benchmarks/planted_faults.py`` copy it there.
"""

from __future__ import annotations

import logging
import os

import pytest
import torch
from torch import nn

PLANTED = os.environ.get("PLANTED", "healthy")
BACKEND = os.environ.get("PLANTED_BACKEND", "eager")
DEVICE = os.environ.get("PLANTED_DEVICE", "cpu")
ROWS, WIDTH = 256, 64
log = logging.getLogger(__name__)


class Tower(nn.Module):
    """A healthy model, whose ``disturb`` the faulty ones replace."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.calls = 0

    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.disturb(torch.tanh(self.first(x)) * torch.sigmoid(x))
        output: torch.Tensor = torch.relu(self.second(x)) + 1
        return output


class Prints(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        print("looking")  # noqa: T201  the fault
        return x


class Logs(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        log.warning("looking")
        return x


class ReadsItem(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.max().item()


class Branches(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Counts(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class Sorts(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        return x.sort(dim=-1).values


class Widens(Tower):
    def disturb(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x.repeat(8, 1), self.second.weight)[: x.shape[0]]


class WritesToItsInput(Tower):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.add_(1e-3)
        output: torch.Tensor = super().forward(x)
        return output


MODELS: dict[str, type[Tower]] = {
    "print": Prints,
    "logging": Logs,
    "item": ReadsItem,
    "branch": Branches,
    "counter": Counts,
    "unfusable": Sorts,
    "activation": Widens,
    "mutation": WritesToItsInput,
}
SAMPLES = {"batch": 2, "static": 4, "storm": 12}
"""Further batch sizes that the test declares by the fault that they are."""


def broken_backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
    """Fail as a compiler does that meets an operation it does not know."""
    raise RuntimeError("no such instruction")


if PLANTED == "suppress_errors":
    torch._dynamo.config.suppress_errors = True

COMPILE = {
    "backend": broken_backend if PLANTED == "suppress_errors" else BACKEND,
    "dynamic": False if PLANTED in ("static", "storm") else None,
    "mode": "reduce-overhead" if DEVICE != "cpu" else None,
}


@pytest.mark.nnopt_compile(**COMPILE)
def test_model(model_pair) -> None:  # type: ignore[no-untyped-def]
    sizes = [ROWS + extra for extra in range(1, SAMPLES.get(PLANTED, 0) + 1)]
    torch.manual_seed(1)
    inputs = [torch.randn(rows, WIDTH, device=DEVICE) for rows in (ROWS, *sizes)]
    model_pair(MODELS.get(PLANTED, Tower)().to(DEVICE).eval(), inputs[0], samples=inputs[1:])
