"""One runnable side of a pair: a callable with inputs of its own and the module whose state it touches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


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

    def call(self) -> Any:
        """Run forward once in the current torch mode and return the output."""
        return self.function(*self.args, **self.kwargs)

    def step(self) -> Any:
        """Run once as the case is timed: forward, and with a loss also the backward pass on fresh gradients."""
        if self.loss is None:
            return self.call()
        if self.module is not None:
            self.module.zero_grad(set_to_none=True)
        output = self.call()
        self.loss(output).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return output
