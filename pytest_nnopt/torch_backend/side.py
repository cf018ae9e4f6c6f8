"""One runnable side of a pair: a callable with inputs of its own and the module whose state it touches."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree


@dataclass(frozen=True, slots=True)
class ExecutionMode:
    """The torch state that decides which code a call runs; captured once so that every run of a case shares it."""

    is_grad_enabled: bool = False
    is_inference: bool = False
    autocast: Mapping[str, torch.dtype] = field(default_factory=dict)

    @classmethod
    def capture(cls, *, is_training_step: bool) -> ExecutionMode:
        """Read the caller's mode. Without a loss nothing is differentiated, so gradients are off."""
        devices = [d for d in ("cpu", "cuda") if torch.is_autocast_enabled(d)]
        return cls(
            is_grad_enabled=is_training_step,
            is_inference=torch.is_inference_mode_enabled() and not is_training_step,
            autocast={d: torch.get_autocast_dtype(d) for d in devices},
        )

    @contextlib.contextmanager
    def active(self, *, autocast: bool = True) -> Iterator[None]:
        """Enter the captured mode; ``autocast=False`` leaves autocast off, as a float64 run needs."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self.is_inference))
            if not self.is_inference:
                stack.enter_context(torch.set_grad_enabled(self.is_grad_enabled))
            for device in ("cpu", "cuda"):
                dtype = self.autocast.get(device)
                is_on = autocast and dtype is not None
                stack.enter_context(torch.autocast(device, dtype=dtype, enabled=is_on))
            yield

    @contextlib.contextmanager
    def without_autocast(self) -> Iterator[None]:
        """Leave autocast where the mode has it on."""
        with contextlib.ExitStack() as stack:
            for device in self.autocast:
                stack.enter_context(torch.autocast(device, enabled=False))
            yield


@dataclass(frozen=True)
class Side:
    """One side of a pair, ready to run.

    Attributes:
        function: what is called; a module, a bound method of ``module``, or any callable.
        args: positional inputs, owned by this side.
        kwargs: keyword inputs, owned by this side.
        module: the module whose parameters and buffers belong to this side; None for plain callables.
        loss: makes a scalar from the output; given, a run is a training step with its backward pass.
        mode: the torch state in which every run happens.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    module: torch.nn.Module | None = None
    loss: Callable[[Any], torch.Tensor] | None = None
    mode: ExecutionMode = field(default_factory=ExecutionMode)

    @property
    def is_bare(self) -> bool:
        """Whether a call of the function alone is all that a run is."""
        return self.loss is None and not self.mode.autocast

    def call(self) -> Any:
        """Run forward once in the current torch mode and return the output."""
        return self.function(*self.args, **self.kwargs)

    def step(self) -> Any:
        """Run once as the case is timed: forward, and with a loss also the backward pass on fresh gradients.

        Parameters are cast anew each time, as where autocast is entered for each call; left on, it keeps the copies
        that eager made. The backward pass runs outside of it, as torch asks for.
        """
        if self.loss is None:
            output = self.call()
            torch.clear_autocast_cache()
            return output
        if self.module is not None:
            self.module.zero_grad(set_to_none=True)
        for tensor in self._differentiable_inputs:
            tensor.grad = None
        output = self.call()
        loss = self.loss(output)
        torch.clear_autocast_cache()
        with self.mode.without_autocast():
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return output

    @functools.cached_property
    def _differentiable_inputs(self) -> list[torch.Tensor]:
        leaves = pytree.tree_leaves((self.args, dict(self.kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad and leaf.is_leaf]
