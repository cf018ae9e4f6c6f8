"""How close honest bfloat16 comes to its limit: real models, really compiled, over many seeds.

Run with ``python -m benchmarks.numerics_bf16`` in the repository's root, ``--device cuda`` on a GPU. Each model is
compiled once by inductor and then judged with fresh weights and inputs for every seed: as it is, which must pass, and
with its output 1.6 % too large, which should fail. Prints a table and writes
``benchmarks/results/numerics_bf16_<device>.md``.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_nnopt.numerics import NumericsComparison, Tolerance
from pytest_nnopt.torch_backend.comparing import compare_sides
from pytest_nnopt.torch_backend.isolation import isolated_compilation
from pytest_nnopt.torch_backend.side import ExecutionMode, Side

RESULTS = Path(__file__).parent / "results"
WRONG_GAIN = 1.016


class Residual(nn.Module):
    """Adds what a block computes to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.block = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input plus the block of its normalisation."""
        output: torch.Tensor = x + self.block(self.norm(x))
        return output


class Gated(nn.Module):
    """A SwiGLU block with an RMS normalisation written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise, gate and project."""
        y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        output: torch.Tensor = x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))
        return output


class Attention(nn.Module):
    """Attention written out, as compilers see it before they recognise it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend over four heads."""
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        scores = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        output: torch.Tensor = x + self.out((scores @ v).transpose(1, 2).flatten(-2))
        return output


class ValueHead(nn.Module):
    """A policy and a single value a sample from shared features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.policy, self.value = nn.Linear(width, 1000), nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities and values."""
        y = self.body(x)
        return torch.log_softmax(self.policy(y), dim=-1), torch.tanh(self.value(y))


def convolutions() -> nn.Module:
    """Two convolutions with batch normalisation."""
    layers = [nn.Conv2d(8, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    return nn.Sequential(
        *layers, nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )


@dataclass(frozen=True)
class Model:
    """A model and the shape of its input."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


MODELS = {
    "eight residual blocks": Model(lambda: nn.Sequential(*(Residual(64) for _ in range(8))), (32, 64)),
    "four gated blocks": Model(lambda: nn.Sequential(*(Gated(64) for _ in range(4))), (32, 64)),
    "four attention layers": Model(lambda: nn.Sequential(*(Attention(64) for _ in range(4))), (2, 48, 64)),
    "policy and value": Model(lambda: ValueHead(256), (16, 256)),
    "convolutions": Model(convolutions, (4, 8, 16, 16)),
}
SETTINGS = ("bfloat16", "autocast", "bfloat16 training", "autocast training")


@dataclass(frozen=True)
class Row:
    """What the seeds of one model in one setting came to."""

    name: str
    honest: list[NumericsComparison]
    wrong: list[NumericsComparison]

    def cells(self) -> list[str]:
        """Return the table's cells."""
        excesses = sorted(excess(comparison) for comparison in self.honest)
        alarms = sum(not comparison.is_within for comparison in self.honest)
        worst = max(self.honest, key=excess).worst
        missed = sum(comparison.is_within for comparison in self.wrong)
        smallest = min(excess(comparison) for comparison in self.wrong)
        median = excesses[len(excesses) // 2]
        figures = [f"{median:.2f}", f"{excesses[-1]:.2f}", str(alarms), f"{smallest:.2g}", str(missed)]
        return [self.name, *figures, worst.path if worst is not None else ""]


def main() -> None:
    """Judge every model in every setting and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = [
        f"Error over limit: {arguments.seeds} seeds, inductor, torch {torch.__version__}, "
        f"{describe_device(arguments.device)}.",
        "",
        "| model | honest, median | honest, largest | false alarms | 1.6 % too large, smallest | missed | worst leaf |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name, model in MODELS.items():
        for setting in SETTINGS:
            row = measure(f"{name}, {setting}", model, setting, arguments.device, arguments.seeds)
            lines.append(f"| {' | '.join(row.cells())} |")
            print(lines[-1], flush=True)
    (RESULTS / f"numerics_bf16_{arguments.device}.md").write_text("\n".join(lines) + "\n")


def describe_device(device: str) -> str:
    """Name the hardware."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU ({torch.backends.cpu.get_cpu_capability()})"


def measure(name: str, model: Model, setting: str, device: str, seeds: int) -> Row:
    """Compile a model once and judge it with fresh weights and inputs for each seed."""
    is_training, is_autocast = "training" in setting, "autocast" in setting
    dtype = torch.float32 if is_autocast else torch.bfloat16
    autocast = {device: torch.bfloat16} if is_autocast else {}
    mode = ExecutionMode(is_grad_enabled=is_training, autocast=autocast)
    module = model.build().to(device, dtype).train(is_training)
    compiled = copy.deepcopy(module)
    call = torch.compile(compiled, dynamic=False)
    honest, wrong = [], []
    with isolated_compilation():
        for seed in range(seeds):
            x = renew(module, compiled, model.shape, seed).to(device, dtype)
            reference = Side(module, (x,), module=module, loss=loss if is_training else None, mode=mode)
            honest.append(compare(replace(reference, function=call, module=compiled), reference, seed))
            wrong.append(compare(replace(reference, function=enlarged(module)), reference, seed))
    return Row(name, honest, wrong)


def renew(module: nn.Module, compiled: nn.Module, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Draw weights for both sides and return an input."""
    torch.manual_seed(seed)
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if reset is not None:
            reset()
    with torch.no_grad():
        for ours, theirs in zip(compiled.state_dict().values(), module.state_dict().values(), strict=True):
            ours.copy_(theirs)
    return torch.randn(shape)


def loss(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Make a scalar of every output, in float32 as training does."""
    parts = output if isinstance(output, tuple) else (output,)
    return torch.stack([part.float().square().mean() for part in parts]).sum()


def enlarged(function: Callable[..., Any]) -> Callable[..., object]:
    """Return the function with an output 1.6 % too large."""

    def call(x: torch.Tensor) -> object:
        output = function(x)
        return tuple(part * WRONG_GAIN for part in output) if isinstance(output, tuple) else output * WRONG_GAIN

    return call


def compare(candidate: Side, reference: Side, seed: int) -> NumericsComparison:
    """Compare with the default tolerance."""
    return compare_sides(candidate, reference, Tolerance(), seed=seed)


def excess(comparison: NumericsComparison) -> float:
    """Return the worst leaf's error over its limit."""
    return comparison.worst.excess if comparison.worst is not None else 0.0


if __name__ == "__main__":
    main()
