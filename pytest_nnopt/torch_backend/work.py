"""What the eager side does in one call, counted exactly: so that a changed model is not taken for a changed machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_nnopt.torch_backend.undoing import gpus_of

if TYPE_CHECKING:
    from pytest_nnopt.torch_backend.side import Side


@dataclass(frozen=True, slots=True)
class WorkFacts:
    """The operators of one call.

    Attributes:
        operators: how often each runs, by its name in the dispatcher; views included.
        elements: elements of all tensors that they take and return, so that other shapes count as other work.
    """

    operators: Mapping[str, int]
    elements: int


def count_work(side: Side) -> WorkFacts:
    """Run the side once and count; not for a compiled one, which runs its operators eagerly while they are counted.

    Args:
        side: what to count; its state and inputs change as by any other call.
    """
    counter = _Counter()
    with side.mode.active(), torch.random.fork_rng(gpus_of(side)), counter:
        side.step()
    return WorkFacts(dict(counter.operators), counter.elements)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts the operators that reach the dispatcher."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: Counter[str] = Counter()
        self.elements = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators[str(func)] += 1
        self.elements += sum(
            leaf.numel()
            for leaf in pytree.tree_leaves((args, kwargs, result))
            if isinstance(leaf, torch.Tensor) and not leaf.is_sparse
        )
        return result
