"""Further inputs for the numerics: the user's own, and ones made from a case's inputs by a rule and a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pytest_nnopt.config import GENERATED, SampleKind
from pytest_nnopt.errors import PairError
from pytest_nnopt.torch_backend.observation import clone_tensor
from pytest_nnopt.torch_backend.pair import moved_to
from pytest_nnopt.torch_backend.tree import map_tensors, named_tensors

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.compiling import Inputs
    from pytest_nnopt.torch_backend.pair import PairRequest

_GENERATED_SEEDS = 1001
_PERTURBATION = 0.1
_MAGNITUDE = 2.0**10
_MAGNITUDE_OF_HALF = 2.0**5
"""Float16 ends at 65504, which inputs of ordinary size are not to reach by this alone."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Further inputs of a case.

    Attributes:
        name: how messages name it, such as ``samples[0]`` or ``samples['zeros']``.
        inputs: positional and keyword inputs.
        seed: seed of every random number that the sample was made with and is run with.
        is_generated: whether a rule made it, rather than the user. What it compiles is not held against the case.
        problem: why there are no such inputs; None where there are.
    """

    name: str
    inputs: Inputs
    seed: int
    is_generated: bool = False
    problem: str | None = None


def build_samples(
    request: PairRequest, *, kinds: Iterable[SampleKind] = (), seed: int = 0, device: str | None = None
) -> tuple[Sample, ...]:
    """Turn what a user wrote as ``samples=`` into samples, the user's own first.

    ``request.samples`` is a sequence of inputs (a tuple of positional ones, or the only one) and names of kinds to
    generate, one such name or ``"generated"`` for all of them, or a callable that takes a seeded ``torch.Generator``
    and returns such a sequence. The user's samples share the request's keyword inputs.

    Args:
        request: what the test handed over.
        kinds: further kinds to generate.
        seed: seed of the case; the callable and every sample have one of their own, counted up from it.
        device: where to move the samples; None leaves them where they are.

    Raises:
        PairError: a name is not that of a kind, the callable raises, or inputs cannot be copied.
    """
    items = _items(request.samples, seed)
    names = {kind for item in items if isinstance(item, str) for kind in _kinds(item)}
    own = [item if isinstance(item, tuple) else (item,) for item in items if not isinstance(item, str)]
    samples = [
        Sample(f"samples[{index}]", _own_copy((args, dict(request.kwargs)), device), seed + 1 + index)
        for index, args in enumerate(own)
    ]
    wanted = [kind for kind in GENERATED if kind in {*names, *kinds}]
    if wanted:
        inputs = _own_copy((request.args, dict(request.kwargs)), device)
        samples += [_generated(kind, inputs, seed + _GENERATED_SEEDS + GENERATED.index(kind)) for kind in wanted]
    return tuple(samples)


def _generated(kind: SampleKind, inputs: Inputs, seed: int) -> Sample:
    made = _generate(kind, inputs, torch.Generator().manual_seed(seed))
    problem = "it would change nothing about these inputs" if made is None else None
    return Sample(f"samples[{kind!r}]", made or inputs, seed, is_generated=True, problem=problem)


def _items(wanted: object, seed: int) -> list[object]:
    if isinstance(wanted, str):
        return [wanted]
    if callable(wanted):
        try:
            wanted = wanted(torch.Generator().manual_seed(seed + 1))
        except Exception as error:
            raise PairError(f"samples= raised {type(error).__name__}: {error}") from error
    if not isinstance(wanted, Iterable) or isinstance(wanted, (torch.Tensor, Mapping)):
        kind = type(wanted).__name__
        raise PairError(f"samples= takes a list of inputs, not {kind}; put a single one into a list: samples=[x]")
    return list(wanted)


def _kinds(name: str) -> tuple[SampleKind, ...]:
    if name == "generated":
        return GENERATED
    for kind in GENERATED:
        if name == kind:
            return (kind,)
    known = ", ".join(map(repr, (*GENERATED, "generated")))
    raise PairError(
        f"samples= knows no {name!r}; known: {known}. A text that is an input goes into a tuple: ({name!r},)"
    )


def _own_copy(inputs: Inputs, device: str | None) -> Inputs:
    try:
        copied = copy.deepcopy(inputs)
    except Exception as error:
        raise PairError(
            f"model_pair cannot copy a sample: {type(error).__name__}: {error}; "
            "inputs must be leaf tensors (use .detach())"
        ) from error
    return copied if device is None else map_tensors(copied, lambda tensor: moved_to(tensor, device))


def _generate(kind: SampleKind, inputs: Inputs, generator: torch.Generator) -> Inputs | None:
    """Make inputs from a case's own; None where the rule changes nothing about them."""
    rule = _RULES[kind](inputs, generator)
    changed: list[bool] = []

    def apply(tensor: torch.Tensor) -> torch.Tensor:
        made = rule(tensor) if _is_plain(tensor) else None
        changed.append(made is not None)
        return clone_tensor(tensor) if made is None else made.detach().requires_grad_(tensor.requires_grad)

    args, kwargs = map_tensors((inputs[0], dict(inputs[1])), apply)
    return (args, kwargs) if any(changed) else None


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized and tensor.numel() > 0


_Rule = Callable[[torch.Tensor], torch.Tensor | None]


def _is_rounded(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds numbers that a rule may change: floats that are all whole are masks or indices."""
    if not tensor.is_floating_point() and not tensor.is_complex():
        return False
    return not bool((_real(tensor) == _real(tensor).round()).all())


def _real(tensor: torch.Tensor) -> torch.Tensor:
    """Return a number for each element that is whole only if the element is."""
    parts = torch.view_as_real(tensor.detach()).sum(-1) if tensor.is_complex() else tensor.detach()
    return parts.double()


def _perturb(_: Inputs, generator: torch.Generator) -> _Rule:
    """Move elements at random by up to a tenth; whole numbers stay, and so do infinities and NaN."""

    def rule(tensor: torch.Tensor) -> torch.Tensor | None:
        if not _is_rounded(tensor):
            return None
        wide = _real(tensor)
        is_movable = torch.isfinite(wide) & (wide != wide.round())
        factors = 1 + _PERTURBATION * (2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1)
        made = clone_tensor(tensor).detach()
        return made.copy_(torch.where(is_movable, tensor.detach() * factors.to(tensor.device), tensor.detach()))

    return rule


def _scale(exponent: int) -> Callable[[Inputs, torch.Generator], _Rule]:
    """Multiply every float by a power of two, which rounds nothing."""

    def make(_: Inputs, __: torch.Generator) -> _Rule:
        def rule(tensor: torch.Tensor) -> torch.Tensor | None:
            if not _is_rounded(tensor):
                return None
            is_half = tensor.dtype in (torch.float16, torch.complex32)
            factor = (_MAGNITUDE_OF_HALF if is_half else _MAGNITUDE) ** exponent
            return clone_tensor(tensor).detach().mul_(factor)

        return rule

    return make


def _zeros(_: Inputs, __: torch.Generator) -> _Rule:
    return lambda tensor: clone_tensor(tensor).detach().zero_() if _is_rounded(tensor) else None


def _non_contiguous(_: Inputs, __: torch.Generator) -> _Rule:
    """Spread the elements so that every second one in memory is another's."""

    def rule(tensor: torch.Tensor) -> torch.Tensor | None:
        if tensor.dim() == 0:
            return None
        spread = torch.empty((*tensor.shape, 2), dtype=tensor.dtype, device=tensor.device)[..., 0]
        return spread.copy_(tensor.detach())

    return rule


def _channels_last(_: Inputs, __: torch.Generator) -> _Rule:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}

    def rule(tensor: torch.Tensor) -> torch.Tensor | None:
        if tensor.dim() not in formats:
            return None
        made = tensor.detach().clone(memory_format=torch.contiguous_format)
        return made.contiguous(memory_format=formats[tensor.dim()])

    return rule


def _other_batch(inputs: Inputs, _: torch.Generator) -> _Rule:
    """Keep the first half of the batch: of every tensor whose first dimension is that of the first one."""
    sizes = [tensor.shape[0] for _, tensor in named_tensors(inputs, "") if tensor.dim()]
    batch = sizes[0] if sizes else 0

    def rule(tensor: torch.Tensor) -> torch.Tensor | None:
        if batch < 2 or tensor.dim() == 0 or tensor.shape[0] != batch:
            return None
        return tensor.detach()[: (batch + 1) // 2].clone()

    return rule


_RULES: Mapping[SampleKind, Callable[[Inputs, torch.Generator], _Rule]] = {
    "perturbed": _perturb,
    "large": _scale(1),
    "small": _scale(-1),
    "zeros": _zeros,
    "non_contiguous": _non_contiguous,
    "channels_last": _channels_last,
    "batch": _other_batch,
}
